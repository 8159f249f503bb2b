"""What users may do, and what they are told, where other union file systems got it wrong."""

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.callers import SOMEONE, as_someone, outcome
from tests.support.union import Stack, run, write


def test_attributes_are_set_and_listed_by_another_user(open_stack: Stack) -> None:
    """Anybody but the mounter got ENODATA for setting or listing attributes."""
    write(open_stack.lower / "theirs", "text", mode=0o644)
    write(open_stack.lower / "mine", "text", mode=0o644)
    os.setxattr(open_stack.lower / "theirs", "user.note", b"v")
    os.chown(open_stack.lower / "mine", SOMEONE, SOMEONE)
    with open_stack.mounted() as mnt:
        said = as_someone(
            """
os.chdir(sys.argv[1])
os.setxattr("mine", "user.own", b"w")
print(os.listxattr("mine"), os.getxattr("mine", "user.own"))
print(os.listxattr("theirs"), os.getxattr("theirs", "user.note"))
os.removexattr("mine", "user.own")
print(os.listxattr("mine"))
os.setxattr("theirs", "user.note", b"")
""",
            mnt,
        )
        assert said.splitlines() == ["['user.own'] b'w'", "['user.note'] b'v'", "[]", "EACCES"]


MAKERS: dict[str, Callable[[Path], object]] = {
    "file": lambda path: os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o777)),
    "dir": lambda path: path.mkdir(0o777),
    "fifo": lambda path: os.mkfifo(path, 0o777),
    "node": lambda path: os.mknod(path, stat.S_IFREG | 0o777),
    "device": lambda path: os.mknod(path, stat.S_IFCHR | 0o777, os.makedev(1, 3)),
    "socket": lambda path: os.mknod(path, stat.S_IFSOCK | 0o777),
}


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o027, 0o077])
def test_the_umask_is_taken_from_every_new_file(stack: Stack, umask: int) -> None:
    """mknod(2) made files with all the bits it was given."""
    for name in MAKERS:
        write(stack.lower / f"over-{name}")
    with stack.mounted() as mnt:
        for name in MAKERS:
            (mnt / f"over-{name}").unlink()
        before = os.umask(umask)
        try:
            for name, make in MAKERS.items():
                make(mnt / name)
                make(mnt / f"over-{name}")
        finally:
            os.umask(before)
        modes = {path.name: stat.S_IMODE(path.lstat().st_mode) for path in mnt.iterdir()}
        assert set(modes.values()) == {0o777 & ~umask}
        assert len(modes) == 2 * len(MAKERS)


@pytest.mark.parametrize("length", [1, 255, 4094, 4095, 4096, 5000])
def test_the_length_of_a_links_target(
    stack: Stack, needs_kernel_overlay: None, length: int
) -> None:
    """A target that is too long gave another errno than on a disk."""
    target = "/" + "t" * (length - 1)
    twin = Stack.make(stack.base / "twin")
    with twin.by_kernel() as merged:
        expected = outcome(lambda: (merged / "link").symlink_to(target))
    with stack.mounted() as mnt:
        assert outcome(lambda: (mnt / "link").symlink_to(target)) == expected
        if expected == "done":
            assert str((mnt / "link").readlink()) == target
            assert (mnt / "link").lstat().st_size == length


def test_an_empty_target_is_refused(mnt: Path) -> None:
    assert outcome(lambda: (mnt / "link").symlink_to("")) == "ENOENT"
    assert list(mnt.iterdir()) == []


def test_what_belongs_to_a_link_is_the_links_own(stack: Stack) -> None:
    """Owner, times and attributes given to a link were given to its target."""
    write(stack.lower / "target", "text")
    (stack.lower / "link").symlink_to("target")
    before = (stack.lower / "target").stat()
    with stack.mounted() as mnt:
        link = mnt / "link"
        os.chown(link, 5, 6, follow_symlinks=False)
        os.utime(link, ns=(1, 2), follow_symlinks=False)
        os.setxattr(link, "trusted.note", b"v", follow_symlinks=False)
        found = link.lstat()
        assert (found.st_uid, found.st_gid, found.st_mtime_ns) == (5, 6, 2)
        assert os.getxattr(link, "trusted.note", follow_symlinks=False) == b"v"
        after = (mnt / "target").stat()
        assert (after.st_uid, after.st_gid, after.st_mtime_ns) == (
            before.st_uid,
            before.st_gid,
            before.st_mtime_ns,
        )
        assert os.listxattr(mnt / "target") == []
    assert run("ls", stack.upper).split() == ["link"]
    with stack.mounted() as mnt:
        found = (mnt / "link").lstat()
        assert (found.st_uid, found.st_gid, found.st_mtime_ns) == (5, 6, 2)
