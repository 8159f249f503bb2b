"""What is waited for: ``volatile``, ``fsync=0`` and ``sync=strict``."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from overlayfs.linux.boot import this_boot
from tests.support.tree import names
from tests.support.union import PATIENCE, Stack, run, start, write

OTHER_BOOT = "00000000-1111-2222-3333-444444444444"


def dirty(stack: Stack) -> Path:
    """Where a volatile mount notes that nothing is synced."""
    return stack.work / "work/incompat/volatile/dirty"


@contextmanager
def traced(stack: Stack, *options: str) -> Iterator[Callable[[], list[str]]]:
    """*stack*, mounted; gives the calls so far that wait for the disk, and the renames."""
    trace = stack.base / "trace"
    calls = "--trace=fsync,fdatasync,syncfs,sync_file_range,renameat,renameat2"
    tracer = [
        "strace",
        "--quiet=all",
        "--signal=none",
        "--follow-forks",
        "--decode-fds=path",
        f"--output={trace}",
    ]
    daemon = start([*tracer, calls, *stack.command(*options)], stack.mountpoint, stack.base)
    try:
        yield lambda: trace.read_text().splitlines()
    finally:
        run("umount", stack.mountpoint)
        assert daemon.process.wait(PATIENCE) == 0


def work_and_wait(mnt: Path) -> None:
    """Everything that a program may wait for the disk with, on new and on copied files."""
    for name in ("new", "lower"):
        with (mnt / name).open("a") as file:
            file.write("text")
            file.flush()
            os.fsync(file.fileno())
            os.fdatasync(file.fileno())
    fd = os.open(mnt, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)


@pytest.mark.parametrize("options", ["volatile", "fsync=volatile", "fsync=0"])
def test_nothing_is_waited_for(stack: Stack, options: str) -> None:
    """Not even by the end of the mount, if it is to be volatile."""
    write(stack.lower / "lower")
    with traced(stack, options) as calls:
        work_and_wait(stack.mountpoint)
        waited = [call for call in calls() if "sync" in call.split("(")[0]]
        # The mark itself must be on the disk before anything else might not be.
        assert len(waited) == (0 if options == "fsync=0" else 1)
        assert all(str(dirty(stack)) in call for call in waited)
    ended = [call for call in calls() if "syncfs(" in call]
    assert len(ended) == (options == "fsync=0")
    assert (stack.upper / "lower").read_text() == "text"


def test_everything_that_is_waited_for_reaches_the_disk(stack: Stack) -> None:
    write(stack.lower / "lower")
    with traced(stack) as calls:
        work_and_wait(stack.mountpoint)
        waited = [call for call in calls() if "sync" in call]
        for path in ("new", "lower"):
            for call in ("fsync(", "fdatasync("):
                assert [
                    each for each in waited if call in each and f"<{stack.upper}/{path}>" in each
                ]
        assert [call for call in waited if "fsync(" in call and f"<{stack.upper}>" in call]


@pytest.mark.parametrize("size", [0, 10, 1 << 20], ids=["empty", "small", "big"])
def test_a_strict_copy_is_on_the_disk_before_it_has_its_name(stack: Stack, size: int) -> None:
    write(stack.lower / "dir/file", bytes(size))
    for options, synced in (("sync=strict", True), ("fsync=strict", True), ("sync=lazy", False)):
        with traced(stack, options) as calls:
            (stack.mountpoint / "dir/file").open("a").close()
            done = calls()
        where = f"<{stack.work}/work/"
        waits = [at for at, call in enumerate(done) if "fsync(" in call and where in call]
        named = next(at for at, call in enumerate(done) if '"file"' in call)
        assert [at < named for at in waits] == [True] * synced, done
        shutil.rmtree(stack.upper / "dir")


# -- the mark of a volatile mount ----------------------------------------------------------


def test_a_volatile_mount_that_ends_leaves_a_mark_for_the_next_one(
    stack: Stack, needs_kernel_overlay: None
) -> None:
    """Which syncs what the first one did not, in the same boot; the kernel refuses it."""
    with stack.mounted("volatile") as mnt:
        write(mnt / "file", "text")
        assert dirty(stack).read_text() == this_boot()
    assert dirty(stack).read_text() == this_boot()
    twin = Stack(stack.base, stack.lowers, (f"workdir={stack.work}",))
    with pytest.raises(AssertionError, match=r"wrong fs type|Invalid argument"):
        twin.by_kernel().__enter__()
    with traced(stack) as calls:
        assert (stack.mountpoint / "file").read_text() == "text"
        assert [call for call in calls() if "syncfs(" in call and f"<{stack.upper}>" in call]
        assert not dirty(stack).parent.parent.exists()
    with twin.by_kernel() as merged:
        assert (merged / "file").read_text() == "text"


def test_a_volatile_mount_of_before_the_restart_is_refused(stack: Stack) -> None:
    """Nobody knows what the crash took; `-o force` is for who looked."""
    with stack.mounted("volatile") as mnt:
        write(mnt / "file", "text")
    dirty(stack).write_text(OTHER_BOOT)
    for options in ((), ("volatile",)):
        with pytest.raises(AssertionError, match="before the machine was restarted") as said:
            stack.start(*options)
        assert "-o force" in str(said.value)
        assert "not mounted: 32" in str(said.value)
        assert dirty(stack).read_text() == OTHER_BOOT
    with stack.mounted(read_only=True):
        assert dirty(stack).exists()  # that is no business of a mount that writes nothing
    with stack.mounted("volatile", "force") as mnt:
        assert (mnt / "file").read_text() == "text"
        assert dirty(stack).read_text() == this_boot()
    dirty(stack).write_text("")
    with stack.mounted("force"):
        assert not dirty(stack).exists()
    with stack.mounted():
        pass


def test_marks_of_the_kernel_are_heeded(stack: Stack, needs_kernel_overlay: None) -> None:
    """It notes no boot, so nobody knows whether there was one in between."""
    twin = Stack(stack.base, stack.lowers, (f"workdir={stack.work}", "volatile"))
    with twin.by_kernel() as merged:
        write(merged / "file", "text")
    assert dirty(stack).exists()
    with pytest.raises(AssertionError, match="before the machine was restarted"):
        stack.start()
    with stack.mounted("force") as mnt:
        assert (mnt / "file").read_text() == "text"


def test_a_mark_of_something_unknown_is_heeded(stack: Stack) -> None:
    (stack.work / "work/incompat/encryption").mkdir(parents=True)
    with pytest.raises(AssertionError, match="needs 'encryption', which is not known"):
        stack.start()
    assert names(stack.work / "work/incompat") == ["encryption"]


def test_a_volatile_mount_that_is_killed_is_mounted_again_in_the_same_boot(stack: Stack) -> None:
    """As podman does: its data is in the page cache."""
    daemon = stack.start("volatile")
    write(stack.mountpoint / "file", "text")
    daemon.abandon()
    for options in (("volatile",), ()):
        with stack.mounted(*options) as mnt:
            assert (mnt / "file").read_text() == "text"
