"""An upper directory that is full, or cannot be written: the caller is told, nothing is half done.

Once there is room again, the same mount goes on.
"""

import itertools
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from overlayfs.linux.files import RENAME_EXCHANGE
from tests.support.callers import outcome, rename
from tests.support.tree import Tree, assert_same, names, snapshot
from tests.support.union import Stack, is_whiteout, run, start, write

KIB = 1 << 10
USER_ROOT = ("user.containers.override_stat", b"0:0:0755:dir")


def fill(layer: Path) -> None:
    write(layer / "dir/file", b"o" * (300 * KIB))
    write(layer / "dir/small", "small")
    write(layer / "dir/gone", "gone")
    write(layer / "dir/copied", "old")
    (layer / "dir/empty").mkdir()
    (layer / "dir/link").symlink_to("small")
    os.mkfifo(layer / "dir/fifo")
    write(layer / "one", "linked")
    (layer / "far").mkdir()
    (layer / "far/two").hardlink_to(layer / "one")


@pytest.fixture(params=["kernel", "user"])
def small(
    request: pytest.FixtureRequest, tmp_path: Path, needs_root: None, needs_fuse: None
) -> Iterator[Stack]:
    """A stack whose upper and work directory lie on a small file system of their own."""
    lower, base = tmp_path / "lower", tmp_path / "small"
    lower.mkdir()
    base.mkdir()
    fill(lower)
    run("mount", "-t", "tmpfs", "-o", "size=1m,nr_inodes=100", "none", base)
    try:
        stack = Stack(base, (lower,))
        for folder in (stack.upper, stack.work, stack.mountpoint):
            folder.mkdir()
        if request.param == "user":
            for folder in (stack.upper, lower):
                os.setxattr(folder, *USER_ROOT)
        yield stack
    finally:
        run("umount", base)


@contextmanager
def mounted(stack: Stack) -> Iterator[Path]:
    """As ``Stack.mounted``, but the daemon's own log is not on the small file system."""
    daemon = start(stack.command(), stack.mountpoint, stack.base.parent)
    try:
        yield stack.mountpoint
        daemon.unmount()
    finally:
        if daemon.process.poll() is None:
            daemon.abandon()


def no_room(stack: Stack) -> None:
    """Leave no block free."""
    with (stack.base / "ballast").open("wb", buffering=0) as file:
        for size in (64 * KIB, 4 * KIB):
            while outcome(lambda size=size: file.write(b"b" * size)) == "done":
                pass


def no_inodes(stack: Stack) -> None:
    """Leave no room for one more file."""
    (stack.base / "many").mkdir()
    for number in itertools.count():
        if outcome((stack.base / f"many/{number}").touch) != "done":
            return


def make_room(stack: Stack) -> None:
    run("rm", "-rf", stack.base / "ballast", stack.base / "many")


def prepare(mnt: Path) -> None:
    """Something in the upper layer; everything was looked at."""
    (mnt / "dir/gone").unlink()
    (mnt / "dir/copied").write_text("new")
    (mnt / "new").mkdir()
    write(mnt / "new/file", "text")
    run("ls", "-lR", mnt)


# What needs one more file on the disk.
STEPS: dict[str, Callable[[Path], object]] = {
    "create": lambda mnt: (mnt / "new/made").touch(),
    "mkdir": lambda mnt: (mnt / "new/made").mkdir(),
    "mknod": lambda mnt: os.mkfifo(mnt / "new/made"),
    "symlink": lambda mnt: (mnt / "new/made").symlink_to("x"),
    "link": lambda mnt: (mnt / "new/made").hardlink_to(mnt / "new/file"),
    "create over whiteout": lambda mnt: (mnt / "dir/gone").touch(),
    "mkdir over whiteout": lambda mnt: (mnt / "dir/gone").mkdir(),
    "symlink over whiteout": lambda mnt: (mnt / "dir/gone").symlink_to("x"),
    "link over whiteout": lambda mnt: (mnt / "dir/gone").hardlink_to(mnt / "new/file"),
    "unlink": lambda mnt: (mnt / "dir/small").unlink(),
    "unlink a copy": lambda mnt: (mnt / "dir/copied").unlink(),
    "rmdir": lambda mnt: (mnt / "dir/empty").rmdir(),
    "rename": lambda mnt: (mnt / "dir/small").rename(mnt / "dir/moved"),
    "rename a copy": lambda mnt: (mnt / "dir/copied").rename(mnt / "new/moved"),
    "rename a link": lambda mnt: (mnt / "dir/link").rename(mnt / "new/moved"),
    "exchange": lambda mnt: rename(mnt / "dir/small", mnt / "new/file", RENAME_EXCHANGE),
    "link a lower file": lambda mnt: (mnt / "new/made").hardlink_to(mnt / "one"),
    "copy up": lambda mnt: (mnt / "dir/small").open("r+b").close(),
    "copy up a directory": lambda mnt: (mnt / "far").chmod(0o700),
    "copy up a fifo": lambda mnt: (mnt / "dir/fifo").chmod(0o600),
    "copy up one of two": lambda mnt: (mnt / "far/two").open("r+b").close(),
    "truncate": lambda mnt: os.truncate(mnt / "dir/small", 0),
    "setxattr": lambda mnt: os.setxattr(mnt / "dir/small", "user.note", b"v"),
}


def shown(mnt: Path) -> Tree:
    return snapshot(mnt, ignore=())


def test_without_room_for_a_file_nothing_changes(small: Stack) -> None:
    with mounted(small) as mnt:
        prepare(mnt)
        before = shown(mnt)
        upper = snapshot(small.upper, ignore=())
        no_inodes(small)
        told = {name: outcome(lambda step=step: step(mnt)) for name, step in STEPS.items()}
        # A whiteout that is there already is exchanged with what moves; nothing new is needed.
        assert {name for name, said in told.items() if said != "ENOSPC"} <= {"rename a copy"}
        if told["rename a copy"] == "done":
            (mnt / "new/moved").rename(mnt / "dir/copied")
        assert list((small.work / "work").iterdir()) == []
        assert_same(before, shown(mnt), but=frozenset({"mtime_ns"}))
        assert_same(upper, snapshot(small.upper, ignore=()), but=frozenset({"mtime_ns"}))
        make_room(small)
        for name, step in STEPS.items():
            expected = "EEXIST" if name.split()[0] in ("mkdir", "mknod", "symlink", "link") else ""
            assert outcome(lambda step=step: step(mnt)) in ("done", expected, "ENOENT"), name
        after = shown(mnt)
    with mounted(small) as mnt:
        assert_same(after, shown(mnt))


def test_without_room_for_data_the_lower_file_stays(small: Stack) -> None:
    with mounted(small) as mnt:
        prepare(mnt)
        with (mnt / "new/file").open("ab", buffering=0) as file:
            no_room(small)
            file.write(b"x" * (64 * KIB))  # what is left of the last block
            before = shown(mnt)
            big = mnt / "dir/file"
            for step in (
                lambda: file.write(b"x" * (64 * KIB)),
                lambda: big.open("r+b").close(),
                lambda: big.open("ab").close(),
                lambda: big.rename(mnt / "dir/moved"),
                lambda: (mnt / "again").hardlink_to(big),
                lambda: os.truncate(big, 200 * KIB),
                lambda: (mnt / "new/more").write_bytes(b"x" * (64 * KIB)),
            ):
                assert outcome(step) == "ENOSPC"
            (mnt / "new/more").unlink()
            assert list((small.work / "work").iterdir()) == []
            assert not (small.upper / "dir/file").exists()
            assert_same(before, shown(mnt), but=frozenset({"mtime_ns"}))
            assert big.read_bytes() == b"o" * (300 * KIB)
            # To remove, and to cut to nothing, takes no room.
            (mnt / "dir/small").unlink()
            os.truncate(big, 0)
            assert big.read_bytes() == b""
            make_room(small)
            assert file.write(b" and more") == 9
        assert (mnt / "new/file").read_bytes().endswith(b"x and more")
        big.write_bytes(b"n" * (200 * KIB))
        after = shown(mnt)
    assert is_whiteout(small.upper / "dir/small")
    with mounted(small) as mnt:
        assert_same(after, shown(mnt))


def test_data_that_a_program_wrote_is_there_after_it_was_told_of_no_room(small: Stack) -> None:
    """Every byte that write(2) counted is read back, at once and from the next mount."""
    with mounted(small) as mnt:
        expected = b""
        with (mnt / "log").open("wb", buffering=0) as file:
            said = "done"
            while said == "done":
                piece = b"%07d\n" % len(expected) * 700
                counted: list[int] = []
                said = outcome(
                    lambda piece=piece, counted=counted: counted.append(file.write(piece))
                )
                expected += piece[: sum(counted)]
        assert said == "ENOSPC"
        assert len(expected) > 300 * KIB
        assert (mnt / "log").read_bytes() == expected
    with mounted(small) as mnt:
        assert (mnt / "log").read_bytes() == expected


def test_an_upper_file_system_that_becomes_read_only(small: Stack) -> None:
    """As a disk with errors does, or an administrator: EROFS for changes, reading goes on."""
    with mounted(small) as mnt:
        prepare(mnt)
        before = shown(mnt)
        run("mount", "-o", "remount,ro", small.base)
        try:
            steps = STEPS | {
                "write": lambda mnt: (mnt / "new/file").write_text("x"),
                "chmod": lambda mnt: (mnt / "new/file").chmod(0o600),
                "utime": lambda mnt: os.utime(mnt / "new/file"),
                "truncate": lambda mnt: os.truncate(mnt / "new/file", 0),
                "remove": lambda mnt: (mnt / "new/file").unlink(),
            }
            told = {name: outcome(lambda step=step: step(mnt)) for name, step in steps.items()}
            assert set(told.values()) == {"EROFS"}, told
            assert_same(before, shown(mnt))
            reader = (mnt / "new/file").open("rb", buffering=0)
            assert reader.read() == b"text"
            assert outcome(lambda: os.truncate(mnt / "new/file", 0)) == "EROFS"
        finally:
            run("mount", "-o", "remount,rw", small.base)
        assert list((small.work / "work").iterdir()) == []
        # Whoever opened it meanwhile sees what is written from now on.
        with (mnt / "new/file").open("ab", buffering=0) as file:
            file.write(b" and more")
        assert reader.read() == b" and more"
        os.truncate(mnt / "new/file", 4)
        assert os.fstat(reader.fileno()).st_size == 4
        reader.close()
        (mnt / "dir/gone").touch()
        (mnt / "dir/small").write_text("changed")
        assert stat.S_ISREG((small.upper / "dir/gone").lstat().st_mode)
        assert names(mnt / "new") == ["file"]
