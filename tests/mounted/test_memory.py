"""What the daemon takes of memory for a big tree, and that it gives it back."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.union import PATIENCE, Daemon, Stack, run

FOLDERS, EACH = 500, 200
# Kilobytes for each file that the kernel remembers, as the README says.
BOUND = 800 / 1024


@contextmanager
def in_memory(path: Path) -> Iterator[Path]:
    """A tmpfs at *path*: a hundred thousand files take a second there."""
    run("mount", "-t", "tmpfs", "tmpfs", path)
    try:
        yield path
    finally:
        run("umount", path)


def fill(top: Path) -> None:
    for folder in range(FOLDERS):
        here = top / f"part{folder % 5}" / f"folder{folder:03d}"
        here.mkdir(parents=True)
        at = os.open(here, os.O_RDONLY)
        for number in range(EACH):
            name = f"some-file-of-the-usual-length-{number}.txt"
            os.close(os.open(name, os.O_CREAT | os.O_WRONLY, 0o644, dir_fd=at))
        os.close(at)


def taken(daemon: Daemon) -> int:
    """Kilobytes of memory that the daemon has for itself."""
    for line in Path(f"/proc/{daemon.pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Private_Dirty:"):
            return int(line.split()[1])
    raise AssertionError("no Private_Dirty")


def await_that(what: Callable[[], bool]) -> None:
    """Wait until *what* holds."""
    deadline = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < deadline, what
        os.sched_yield()


def test_a_big_tree_takes_little_memory_for_each_file_and_gives_it_back(stack: Stack) -> None:
    with in_memory(stack.lower):
        fill(stack.lower)
        daemon = stack.start()
        try:
            (stack.mountpoint / "part0").stat()
            before = taken(daemon)
            lines = run("find", stack.mountpoint, "-ls").splitlines()
            assert len(lines) > FOLDERS * EACH
            grown = taken(daemon) - before
            assert grown < len(lines) * BOUND
            # reconfigure_super() of the kernel calls shrink_dcache_sb(): of this mount it
            # forgets what nobody uses.  A dozen megabytes stay, however much it was, with
            # something of use in each.
            run("mount", "--internal-only", "-o", "remount", stack.mountpoint)
            await_that(lambda: taken(daemon) - before < grown / 2)
            assert run("find", stack.mountpoint, "-ls").splitlines() == lines
            daemon.unmount()
        finally:
            if daemon.process.poll() is None:
                daemon.abandon()


def test_a_big_directory_that_somebody_stands_in_gives_its_memory_back(stack: Stack) -> None:
    with in_memory(stack.lower):
        here = stack.lower / "big"
        here.mkdir()
        for number in range(60_000):
            (here / f"some-file-of-the-usual-length-{number}.txt").touch()
        daemon = stack.start()
        try:
            before = taken(daemon)
            at = os.open(stack.mountpoint / "big", os.O_RDONLY)
            names = sorted(os.listdir(at))  # noqa: PTH208  (a descriptor)
            grown = taken(daemon) - before
            run("mount", "--internal-only", "-o", "remount", stack.mountpoint)
            await_that(lambda: taken(daemon) - before < grown / 2)
            assert sorted(os.listdir(at)) == names  # noqa: PTH208  (a descriptor)
            os.close(at)
            daemon.unmount()
        finally:
            if daemon.process.poll() is None:
                daemon.abandon()
