"""What lies beneath a mount: layers in use by several, many layers, and what reaches the disk."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.callers import outcome
from tests.support.tree import names
from tests.support.union import Daemon, Stack, run, write


def test_mounts_that_share_their_lower_layers(stack: Stack) -> None:
    """Nested ones too: what is changed in one mount does not show in the others."""
    write(stack.lower / "dir/file", "lower")
    write(stack.lower / "dir/sub/deep", "lower")
    second = Stack(Stack.make(stack.base / "second").base, stack.lowers)
    inner = Stack(Stack.make(stack.base / "inner").base, (stack.lower / "dir",))
    with stack.mounted() as one, second.mounted() as two, inner.mounted() as three:
        (one / "dir/file").write_text("one")
        (two / "dir/file").unlink()
        (three / "file").chmod(0o600)
        (two / "dir/sub/deep").write_text("two")
        assert (one / "dir/file").read_text() == "one"
        assert names(two / "dir") == ["sub"]
        assert (three / "file").read_text() == "lower"
        assert [(top / "sub/deep").read_text() for top in (one / "dir", two / "dir", three)] == [
            "lower",
            "two",
            "lower",
        ]
    assert (stack.lower / "dir/file").read_text() == "lower"
    assert names(stack.lower / "dir") == ["file", "sub"]


def test_reading_leaves_the_times_of_lower_files(stack: Stack) -> None:
    """As with the kernel's overlayfs; relatime would move times that are before the last change."""
    write(stack.lower / "dir/read", "lower")
    write(stack.lower / "dir/copied", "lower")
    below = [stack.lower / "dir/read", stack.lower / "dir/copied", stack.lower / "dir", stack.lower]
    for path in below:
        os.utime(path, (1000, 2000))
    with stack.mounted() as mnt:
        assert names(mnt) == ["dir"]
        assert names(mnt / "dir") == ["copied", "read"]
        assert (mnt / "dir/read").read_text() == "lower"
        (mnt / "dir/copied").open("a").close()
    assert [path.stat().st_atime for path in below] == [1000] * 4


def test_a_thousand_layers(tmp_path: Path, needs_root: None, needs_fuse: None) -> None:
    """The kernel's overlayfs takes 500, and mount(2) one page of their names."""
    made = Stack.make(tmp_path / "s")
    lowers = tuple(tmp_path / f"s/{number}" for number in range(1000, 0, -1))
    for number, lower in enumerate(reversed(lowers), 1):
        write(lower / "file", f"{number}")
        write(lower / "dir" / f"{number}")
        write(lower / f"{number % 10}/{number}/file", f"{number}")
    with Stack(made.base, lowers).mounted() as mnt:
        assert (mnt / "file").read_text() == "1000"
        assert len(names(mnt / "dir")) == 1000
        (mnt / "dir/1").unlink()
        assert len(names(mnt / "dir")) == 999
        with (mnt / "1/1/file").open("a") as file:
            file.write(" changed")
        assert (mnt / "1/1/file").read_text() == "1 changed"
        assert len({path.stat().st_ino for path in (mnt / "dir").iterdir()}) == 999


def test_an_upper_directory_changed_between_two_mounts(stack: Stack) -> None:
    """overlayfs.rst, "Changes to underlying filesystems": it may be, while nothing is mounted."""
    write(stack.lower / "dir/file", "lower")
    write(stack.lower / "dir/other", "lower")
    (stack.lower / "linked").hardlink_to(stack.lower / "dir/other")
    with stack.mounted() as mnt:
        (mnt / "dir/file").write_text("changed")
        (mnt / "dir/other").write_text("changed too")
        write(mnt / "new/file", "new")
    (stack.upper / "dir/file").unlink()
    write(stack.upper / "dir/by-hand", "by hand")
    (stack.upper / "new").rename(stack.upper / "dir/moved")
    run("rm", "-rf", stack.upper / "dir/other")
    with stack.mounted() as mnt:
        assert names(mnt / "dir") == ["by-hand", "file", "moved", "other"]
        assert (mnt / "dir/file").read_text() == "lower"
        assert (mnt / "dir/moved/file").read_text() == "new"
        # Its other name was never seen, so the copy lives on in the work directory.
        assert (mnt / "dir/other").read_text() == (mnt / "linked").read_text()
        (mnt / "dir/by-hand").unlink()
    assert names(stack.upper / "dir") == ["moved", "other"]


@pytest.mark.parametrize("where", ["lower", "merged", "upper", "opaque"])
def test_links_of_a_directory_are_counted_exactly_or_not_at_all(stack: Stack, where: str) -> None:
    """find(1) trusts a count above 1: it takes it for 2 and one for each directory inside."""
    if where in ("lower", "merged"):
        for name in ("a", "b", "c"):
            (stack.lower / "dir" / name).mkdir(parents=True)
    if where == "merged":
        (stack.lowers[0] / "dir/d").mkdir(parents=True)
    with stack.mounted() as mnt:
        if where == "opaque":
            (mnt / "dir").mkdir()
        if where in ("upper", "opaque"):
            for name in ("a", "b", "c"):
                (mnt / "dir" / name).mkdir(parents=True)

        def counted() -> bool:
            inside = sum(path.is_dir() for path in (mnt / "dir").iterdir())
            return (mnt / "dir").stat().st_nlink in (1, 2 + inside)

        assert counted()
        (mnt / "dir/a").rmdir()
        assert counted()
        (mnt / "dir/new").mkdir()
        (mnt / "dir/file").touch()
        assert counted()
        found = run("find", mnt / "dir", "-type", "d").split()
        assert len(found) == 1 + sum(path.is_dir() for path in (mnt / "dir").iterdir())
    with stack.mounted() as mnt:
        assert counted()


# -- what is asked, and what is synced -----------------------------------------------------


def requests(pid: int) -> int:
    """How many reads process *pid* made, of requests above all."""
    fields = Path(f"/proc/{pid}/io").read_text().split()
    return int(fields[fields.index("syscr:") + 1])


def test_what_was_told_is_not_asked_again(stack: Stack) -> None:
    """The layers never change: names, attributes, bytes, and that there is no such name."""
    for number in range(20):
        write(stack.lower / f"dir/{number}", "text" * 1000)
    daemon = stack.start()
    try:
        mnt = stack.mountpoint

        def open_all() -> int:
            before = requests(daemon.pid)
            for number in range(20):
                os.close(os.open(mnt / f"dir/{number}", os.O_RDONLY))
            return requests(daemon.pid) - before

        def look() -> int:
            before = requests(daemon.pid)
            for number in range(20):
                assert (mnt / f"dir/{number}").stat().st_size == 4000
                assert outcome((mnt / f"dir/{number}-missing").stat) == "ENOENT"
                fd = os.open(mnt / f"dir/{number}", os.O_RDONLY)
                assert len(os.read(fd, 5000)) == 4000
                os.close(fd)
                assert os.access(mnt / f"dir/{number}", os.R_OK)
            return requests(daemon.pid) - before

        first = look()
        look()  # reading has moved the time of access, as far as the kernel knows
        # Files are opened and released; but no name, no attribute and no byte is asked for.
        assert look() <= open_all() + 5 < first
        daemon.unmount()
    finally:
        if daemon.process.poll() is None:
            daemon.abandon()


@contextmanager
def syncs(daemon: Daemon, log: Path) -> Iterator[None]:
    """The calls of *daemon* that bring something to the disk are written to *log*."""
    tracer = ["strace", "-f", "-e", "signal=none", "-e", "trace=fsync,fdatasync,syncfs", "-y"]
    command = [*tracer, "-o", str(log), "-p", str(daemon.pid)]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        assert b"attached" in process.stderr.readline()
        try:
            yield
        finally:
            process.terminate()


@pytest.mark.parametrize("options", [(), ("volatile",), ("fsync=0",)], ids=["", "volatile", "no"])
def test_what_is_synced_reaches_the_upper_file_system(
    stack: Stack, tmp_path: Path, options: tuple[str, ...]
) -> None:
    write(stack.lower / "dir/file", "text")
    daemon, log = stack.start(*options), tmp_path / "log"
    try:
        with syncs(daemon, log):
            mnt = stack.mountpoint
            for path in (mnt / "dir", mnt / "dir/file"):
                fd = os.open(path, os.O_RDONLY)
                os.fsync(fd)
                os.close(fd)
            of_lower = log.read_text()
            with (mnt / "dir/file").open("r+") as file:
                file.write("TEXT")
                file.flush()
                os.fdatasync(file.fileno())
                os.fsync(file.fileno())
            fd = os.open(mnt / "dir", os.O_RDONLY)
            os.fsync(fd)
            os.close(fd)
            asked = log.read_text()
            daemon.unmount()
        at_the_end = log.read_text().removeprefix(asked)
    finally:
        if daemon.process.poll() is None:
            daemon.abandon()
    assert of_lower == ""
    if options:
        assert asked == ""
    else:
        for call in ("fdatasync", "fsync"):
            assert f"{call}(" in asked
        assert f"{stack.upper}/dir/file>" in asked
        assert f"{stack.upper}/dir>" in asked
    # What `volatile` notes down in the work directory, `fsync=0` does not.
    assert ("syncfs(" in at_the_end) == (options != ("volatile",))
