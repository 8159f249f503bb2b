"""Files that lost their name, or never had one, while they are open."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from overlayfs.linux.files import (
    RENAME_EXCHANGE,
)
from tests.support.callers import outcome, rename
from tests.support.tree import names
from tests.support.union import Stack, run, write


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


@contextmanager
def nameless(path: Path, flags: int) -> Iterator[int]:
    """*path*, opened and removed."""
    fd = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        path.rmdir() if path.is_dir() else path.unlink()
        yield fd
    finally:
        os.close(fd)


def change_everything(fd: int) -> os.stat_result:
    """Through the name that /proc has for *fd*, as that serves O_PATH as well."""
    itself = f"/proc/self/fd/{fd}"
    os.setxattr(itself, "trusted.note", b"1")
    os.chown(itself, 5, 6)
    Path(itself).chmod(0o611)
    os.utime(itself, ns=(1, 2))
    assert os.getxattr(itself, "trusted.note") == b"1"
    return os.fstat(fd)


@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_PATH], ids=["opened", "by-path"])
def test_everything_unlinked_can_be_changed_as_long_as_it_is_held(stack: Stack, flags: int) -> None:
    """A file of a lower layer, too, which the kernel's overlayfs refuses."""
    write(stack.lower / "lower", "text")
    with stack.mounted() as mnt:
        write(mnt / "upper", "text")
        write(mnt / "copied", "text")
        (mnt / "dir").mkdir()
        os.mkfifo(mnt / "fifo")
        for name in ("lower", "upper", "dir", "fifo"):
            with nameless(mnt / name, flags) as fd:
                kind = stat.S_IFMT(os.fstat(fd).st_mode)
                number = os.fstat(fd).st_ino
                found = change_everything(fd)
                assert (found.st_mode, found.st_nlink, found.st_ino) == (kind | 0o611, 0, number)
                assert (found.st_uid, found.st_gid, found.st_mtime_ns) == (5, 6, 2)
                if stat.S_ISDIR(kind) and not flags & os.O_PATH:
                    os.fsync(fd)
                if not stat.S_ISREG(kind):
                    continue
                itself = Path(f"/proc/self/fd/{fd}")
                assert itself.read_text() == "text"
                with itself.open("r+") as file:
                    file.write("TE")
                assert itself.read_text() == "TExt"
                os.truncate(itself, 2)
                assert (itself.read_text(), os.fstat(fd).st_size) == ("TE", 2)
                assert outcome(lambda fd=fd: os.link(f"/proc/self/fd/{fd}", mnt / "x")) != "done"
        assert names(mnt) == ["copied"]
        assert names(stack.work / "work") == []
    assert (stack.lower / "lower").read_text() == "text"
    assert (stack.lower / "lower").stat().st_uid == 0


@pytest.mark.parametrize("where", ["lower", "upper"])
def test_what_is_left_of_an_unlinked_file_outlives_its_handle(stack: Stack, where: str) -> None:
    write((stack.lower if where == "lower" else stack.upper) / "file", "text")
    with stack.mounted() as mnt:
        held = os.open(mnt / "file", os.O_PATH)
        with (mnt / "file").open() as file:
            (mnt / "file").unlink()
            assert file.read() == "text"
        assert Path(f"/proc/self/fd/{held}").read_text() == "text"
        assert change_everything(held).st_uid == 5
        os.close(held)


def test_a_removed_directory_is_still_where_somebody_works(stack: Stack) -> None:
    for name in ("lower", "merged"):
        write(stack.lower / name / "file")
    (stack.upper / "merged").mkdir()
    script = """
        cd "$0" && rm file && rmdir "../$(basename "$0")" || exit 1
        pwd; stat --format=%h .; ls -a; ls -ld ..
        for act in 'mkdir x' 'touch x' 'ln -s x x' 'mkfifo x' 'cat x'; do
            sh -c "$act" 2>/dev/null; echo "$act: $?"
        done
    """
    with stack.mounted() as mnt:
        for name in ("lower", "merged", "new"):
            write(mnt / name / "file")
            said = run("sh", "-c", script, mnt / name).splitlines()
            assert said[:2] == [str(mnt / name), "0"]
            assert [line for line in said if line.endswith(": 0")] == []
            assert not (mnt / name).exists()


def test_descriptors_do_not_leak(stack: Stack) -> None:
    """Nor what is needed meanwhile, of files that nobody has open."""
    write(stack.lower / "lower", "text")
    daemon = stack.start()
    try:
        mnt = stack.mountpoint
        turn(mnt, 100)
        before = daemon.descriptors()
        turn(mnt, 10_000)
        assert daemon.descriptors() <= before + 10
        held = [os.open(write(mnt / f"held{n}"), os.O_PATH) for n in range(100)]
        for n in range(100):
            (mnt / f"held{n}").unlink()
        assert daemon.descriptors() >= before + 98
        for fd in held:
            os.close(fd)
        # The kernel mixes its FORGETs with other requests.
        turn(mnt, 100)
        assert daemon.descriptors() <= before + 10
    finally:
        daemon.unmount()


def turn(mnt: Path, count: int) -> None:
    """Make and remove files of some kinds, written, copied, renamed and linked."""
    for number in range(count // 5):
        for name in ("a", "b", "c", "d", "e"):
            (mnt / name).touch()
        if not number % 50:
            (mnt / "a").write_text("text")
            (mnt / "b").chmod(0o600)
            (mnt / "dir").mkdir()
            os.mkfifo(mnt / "dir/fifo")
            (mnt / "dir/fifo").unlink()
            (mnt / "dir").rmdir()
        (mnt / "c").replace(mnt / "d")
        (mnt / "c").hardlink_to(mnt / "e")
        for name in ("a", "b", "c", "d", "e"):
            (mnt / name).unlink()
