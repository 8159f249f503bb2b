"""Bytes, locks and syncing; and mounts that change nothing."""

import errno
import fcntl
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.callers import refused
from tests.support.tree import names
from tests.support.union import Stack, run, write


def test_appenders_at_once_lose_nothing(stack: Stack) -> None:
    write(stack.lower / "log", "begin\n")
    code = (
        "import os, sys\n"
        "fd = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND)\n"
        "for number in range(300):\n"
        "    os.write(fd, f'{sys.argv[2]} {number} '.encode().ljust(57, b'.') + b'\\n')\n"
    )
    with stack.mounted() as mnt:
        processes = [
            subprocess.Popen([sys.executable, "-c", code, mnt / "log", str(number)])
            for number in range(4)
        ]
        assert [process.wait() for process in processes] == [0] * 4
        first, *lines = (mnt / "log").read_text().splitlines()
        assert first == "begin"
        told = [tuple(int(word) for word in line.rstrip(".").split()) for line in lines]
        assert sorted(told) == [(who, number) for who in range(4) for number in range(300)]
        for who in range(4):
            assert [number for each, number in told if each == who] == list(range(300))


def test_locks_between_processes(stack: Stack) -> None:
    write(stack.lower / "file")
    code = (
        "import fcntl, sys\n"
        "with open(sys.argv[1], 'r+') as file:\n"
        "    for lock in (fcntl.flock, fcntl.lockf):\n"
        "        try:\n"
        "            lock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)\n"
        "            print('mine')\n"
        "        except BlockingIOError:\n"
        "            print('taken')\n"
    )
    with stack.mounted() as mnt:

        def other() -> list[str]:
            return run(sys.executable, "-c", code, mnt / "file").split()

        with (mnt / "file").open("r+") as file:
            assert other() == ["mine", "mine"]
            fcntl.flock(file, fcntl.LOCK_EX)
            assert other() == ["taken", "mine"]
            fcntl.lockf(file, fcntl.LOCK_EX)
            assert other() == ["taken", "taken"]
            fcntl.flock(file, fcntl.LOCK_UN)
            assert other() == ["mine", "taken"]
        assert other() == ["mine", "mine"]


def test_fsync_of_files_and_directories(stack: Stack) -> None:
    write(stack.lower / "dir/file", "text")
    with stack.mounted() as mnt:
        for path in (mnt / "dir", mnt / "dir/file"):
            fd = os.open(path, os.O_RDONLY)
            os.fsync(fd)
            os.fdatasync(fd)
            os.close(fd)
        assert list(stack.upper.iterdir()) == []
        with (mnt / "dir/file").open("r+") as file:
            file.write("more")
            file.flush()
            os.fsync(file.fileno())
            os.fdatasync(file.fileno())
        fd = os.open(mnt / "dir", os.O_RDONLY)
        os.fsync(fd)
        os.close(fd)


def test_statfs_tells_of_the_upper_file_system(stack: Stack) -> None:
    def numbers(path: Path) -> tuple[int, ...]:
        found = os.statvfs(path)
        return found.f_bsize, found.f_frsize, found.f_blocks, found.f_files, found.f_namemax

    expected = numbers(stack.upper)
    with stack.mounted() as mnt:
        assert numbers(mnt) == expected
        assert os.statvfs(mnt).f_bavail > 0
    with stack.mounted(read_only=True) as mnt:
        assert numbers(mnt) == expected
        found = os.statvfs(mnt)
        assert (found.f_bavail, found.f_bfree, found.f_favail) == (0, 0, 0)


CHANGES: dict[str, Callable[[Path], object]] = {
    "write": lambda top: (top / "file").open("a"),
    "truncate": lambda top: os.truncate(top / "file", 0),
    "create": lambda top: (top / "new").touch(),
    "mkdir": lambda top: (top / "new").mkdir(),
    "mknod": lambda top: os.mkfifo(top / "new"),
    "symlink": lambda top: (top / "new").symlink_to("x"),
    "link": lambda top: (top / "new").hardlink_to(top / "file"),
    "unlink": lambda top: (top / "file").unlink(),
    "rmdir": lambda top: (top / "dir").rmdir(),
    "rename": lambda top: (top / "file").rename(top / "new"),
    "chmod": lambda top: (top / "file").chmod(0o600),
    "chown": lambda top: os.chown(top / "file", 1, 1),
    "utime": lambda top: os.utime(top / "file"),
    "setxattr": lambda top: os.setxattr(top / "file", "user.a", b""),
    "removexattr": lambda top: os.removexattr(top / "file", "user.there"),
}


@pytest.mark.parametrize("how", ["no-upper", "ro"])
def test_a_read_only_mount_changes_nothing(stack: Stack, how: str) -> None:
    write(stack.lower / "file", "text")
    os.setxattr(stack.lower / "file", "user.there", b"")
    (stack.lower / "dir").mkdir()
    write(stack.upper / "mine")
    options = ("ro",) if how == "ro" else ()
    with stack.mounted(*options, read_only=how == "no-upper") as mnt:
        for change in CHANGES.values():
            with refused(errno.EROFS):
                change(mnt)
        assert (mnt / "file").read_text() == "text"
        # With an upper directory and `ro` that is the topmost layer.
        assert (mnt / "mine").exists() == (how == "ro")
    assert names(stack.upper) == ["mine"]
