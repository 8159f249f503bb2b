"""Files that lost their name, or never had one, while they are open."""

import os

import pytest

from overlayfs.linux.files import (
    RENAME_EXCHANGE,
)
from tests.support.callers import outcome, rename
from tests.support.union import Stack, write


@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_RDWR], ids=["for-reading", "for-writing"])
@pytest.mark.parametrize("where", ["lower", "upper"])
def test_an_unlinked_file_lives_as_long_as_it_is_open(stack: Stack, where: str, flags: int) -> None:
    write(stack.base / where.replace("lower", "lower1") / "file", "text")
    with stack.mounted() as mnt:
        fd = os.open(mnt / "file", flags)
        number = os.fstat(fd).st_ino
        (mnt / "file").unlink()
        write(mnt / "file", "another")
        assert (os.fstat(fd).st_nlink, os.fstat(fd).st_ino) == (0, number)
        assert os.pread(fd, 100, 0) == b"text"
        os.fchmod(fd, 0o4711)
        os.fchown(fd, 1, 2)
        os.fchmod(fd, 0o4711)
        os.utime(fd, ns=(5, 7))
        os.setxattr(fd, "user.note", b"unlinked")
        found = os.fstat(fd)
        assert (found.st_mode, found.st_uid, found.st_gid) == (0o104711, 1, 2)
        assert (found.st_mtime_ns, found.st_nlink) == (7, 0)
        assert os.getxattr(fd, "user.note") == b"unlinked"
        assert os.pread(fd, 100, 0) == b"text"
        if flags == os.O_RDWR:
            os.pwrite(fd, b"TE", 0)
            os.ftruncate(fd, 3)
            assert os.pread(fd, 100, 0) == b"TEx"
            os.fsync(fd)
        os.close(fd)
        assert (mnt / "file").read_text() == "another"
        assert list((stack.work / "work").iterdir()) == []


def test_a_removed_directory_lives_as_long_as_it_is_open(stack: Stack) -> None:
    (stack.lower / "dir").mkdir()
    with stack.mounted() as mnt:
        fd = os.open(mnt / "dir", os.O_RDONLY)
        (mnt / "dir").rmdir()
        assert os.fstat(fd).st_nlink == 0
        assert os.listdir(fd) == []  # noqa: PTH208 - a descriptor
        assert outcome(lambda: os.mkdir("sub", dir_fd=fd)) == "ENOENT"
        os.close(fd)


@pytest.mark.parametrize("how", ["rename", "rename-exchange-unlink"])
def test_a_replaced_file_lives_as_long_as_it_is_open(stack: Stack, how: str) -> None:
    write(stack.lower / "file", "old")
    with stack.mounted() as mnt:
        write(mnt / "new", "new")
        with (mnt / "file").open() as file:
            if how == "rename":
                (mnt / "new").rename(mnt / "file")
            else:
                rename(mnt / "new", mnt / "file", RENAME_EXCHANGE)
                (mnt / "new").unlink()
            assert os.fstat(file.fileno()).st_nlink == 0
            assert file.read() == "old"
        assert (mnt / "file").read_text() == "new"


def test_a_temporary_file_without_a_name(stack: Stack) -> None:
    """O_TMPFILE is refused in the way that programs know how to cope with."""
    with stack.mounted() as mnt:
        assert outcome(lambda: os.open(mnt, os.O_TMPFILE | os.O_RDWR)) == "ENOTSUP"
