"""What pyfuse3 does not serve: programs get an errno that they know, or the kernel's own way."""

import ctypes
import errno
import fcntl
import mmap
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mounted.test_copy_up import CAPABILITY
from tests.support.callers import as_someone, outcome
from tests.support.union import Stack, run, write

# linux/falloc.h
KEEP_SIZE, PUNCH_HOLE = 1, 2
# linux/fs.h
FS_IOC_GETFLAGS = 0x80086601

_libc = ctypes.CDLL(None, use_errno=True)


def fallocate(fd: int, mode: int, offset: int, length: int) -> None:
    call = _libc.fallocate
    call.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    if call(fd, mode, offset, length):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


@pytest.fixture
def path(stack: Stack) -> Path:
    """A lower file's name in the mount, relative to it."""
    write(stack.lower / "file", b"d" * 5000)
    return Path("file")


def test_space_cannot_be_reserved_but_programs_that_must_have_it_get_it(
    stack: Stack, path: Path
) -> None:
    """fallocate(2) says EOPNOTSUPP, and then posix_fallocate(3) writes zeros."""
    with stack.mounted() as mnt:
        fd = os.open(mnt / path, os.O_RDWR)
        for mode in (0, KEEP_SIZE, KEEP_SIZE | PUNCH_HOLE):
            assert outcome(lambda mode=mode: fallocate(fd, mode, 0, 8192)) == "ENOTSUP"
        os.posix_fallocate(fd, 0, 100_000)
        assert os.fstat(fd).st_size == 100_000
        assert os.pread(fd, 5001, 0) == b"d" * 5000 + b"\0"
        os.close(fd)


def test_holes_are_data(stack: Stack) -> None:
    """lseek(2) knows no holes here; copying up, below, does."""
    with (stack.lower / "sparse").open("wb") as file:
        file.truncate(1 << 20)
    with stack.mounted() as mnt, (mnt / "sparse").open("rb") as file:
        assert os.lseek(file.fileno(), 0, os.SEEK_DATA) == 0
        assert os.lseek(file.fileno(), 0, os.SEEK_HOLE) == 1 << 20
        assert outcome(lambda: os.lseek(file.fileno(), 1 << 20, os.SEEK_DATA)) == "ENXIO"


def test_bytes_are_copied_by_the_kernel(stack: Stack, path: Path) -> None:
    """copy_file_range(2) and cp(1) work, within the mount and out of it."""
    with stack.mounted() as mnt:
        source, target = (
            os.open(mnt / path, os.O_RDONLY),
            os.open(mnt / "new", os.O_CREAT | os.O_RDWR),
        )
        assert os.copy_file_range(source, target, 5000) == 5000
        assert os.pread(target, 6000, 0) == b"d" * 5000
        os.close(source)
        os.close(target)
        run("cp", "--reflink=auto", mnt / path, stack.base / "out")
        run("cp", "--sparse=always", mnt / path, mnt / "again")
        run("cmp", stack.base / "out", mnt / "again")


def test_flags_of_files_are_not_there(stack: Stack, path: Path) -> None:
    """lsattr(1) and chattr(1) are told so."""
    with stack.mounted() as mnt, (mnt / path).open("rb") as file:
        said = outcome(lambda: fcntl.ioctl(file, FS_IOC_GETFLAGS, bytes(8)))
        assert said in ("ENOTTY", "ENOSYS")


def test_reading_and_writing_around_the_cache(stack: Stack, path: Path) -> None:
    """O_DIRECT is taken, and other descriptors see what was written."""
    with stack.mounted() as mnt, (mnt / path).open("rb", buffering=0) as reader:
        assert reader.read(4) == b"dddd"
        fd = os.open(mnt / path, os.O_RDWR | os.O_DIRECT)
        assert os.pread(fd, 4096, 0) == b"d" * 4096
        os.pwrite(fd, b"n" * 4096, 0)
        assert os.pread(reader.fileno(), 4097, 0) == b"n" * 4096 + b"d"
        os.close(fd)


def test_a_program_that_runs_cannot_be_written(stack: Stack) -> None:
    """ETXTBSY, for a lower file as for a copy."""
    run("cp", "/bin/sleep", stack.lower / "program")
    with stack.mounted() as mnt:
        for _ in range(2):
            pid = os.posix_spawn(mnt / "program", ["sleep", "1000"], os.environ)
            try:
                with pytest.raises(OSError, match="busy") as caught:
                    (mnt / "program").open("r+b")
                assert caught.value.errno == errno.ETXTBSY
            finally:
                os.kill(pid, 9)
                os.waitpid(pid, 0)
            (mnt / "program").open("r+b").close()
    assert (stack.upper / "program").exists()


def test_a_default_list_is_told_after_the_umask(stack: Stack) -> None:
    """A disk would not apply the umask beneath a default list; the kernel does it for FUSE.

    Nothing more is given away by that than was asked for.
    """
    (stack.lower / "dir").mkdir()
    run("setfacl", "-d", "-m", "u::rwx,g::rwx,o::rwx", stack.lower / "dir")
    before = os.umask(0o027)
    try:
        with stack.mounted() as mnt:
            (mnt / "dir/file").touch(mode=0o666)
            assert oct((mnt / "dir/file").stat().st_mode)[-3:] == "640"
    finally:
        os.umask(before)


def test_a_signal_amid_a_copy_waits_for_its_end(stack: Stack) -> None:
    """No handler is told of interrupts, so the caller gets the signal when the copy is there."""
    data = os.urandom(100 << 20)
    write(stack.lower / "large", data)
    code = "import os, sys; os.open(sys.argv[1], os.O_RDWR)"
    with stack.mounted() as mnt:
        with subprocess.Popen([sys.executable, "-c", code, mnt / "large"]) as process:
            while process.poll() is None and not list((stack.work / "work").iterdir()):
                pass  # the draft appears within milliseconds
            process.send_signal(signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL
        assert (stack.upper / "large").read_bytes() == data
        assert list((stack.work / "work").iterdir()) == []
        assert (mnt / "large").read_bytes() == data


@pytest.mark.parametrize("where", ["lower", "upper"])
def test_the_sgid_bit_of_a_file_that_no_group_executes_stays(open_stack: Stack, where: str) -> None:
    """A disk drops it when another user writes; the kernel tells FUSE of the usual case alone."""
    layer = {"lower": open_stack.lower, "upper": open_stack.upper}[where]
    modes = {"mandatory": 0o2666, "usual": 0o2676}
    for name, mode in modes.items():
        write(layer / name, "text", mode=mode)
    with open_stack.mounted() as mnt:
        for name in modes:
            as_someone("os.write(os.open(sys.argv[1], os.O_WRONLY), b'x')", mnt / name)
        shown = {name: oct((mnt / name).stat().st_mode)[-4:] for name in modes}
    assert shown == {"mandatory": "2666", "usual": "0676"}


def test_a_shared_mapping_takes_capabilities(stack: Stack) -> None:
    """Pages that are written back come as any write does; a disk leaves them with the file."""
    write(stack.lower / "file", b"o" * 5000)
    os.setxattr(stack.lower / "file", "security.capability", CAPABILITY)
    with stack.mounted() as mnt:
        with (mnt / "file").open("r+b") as file, mmap.mmap(file.fileno(), 0) as area:
            area[:3] = b"new"
            area.flush()
        assert "security.capability" not in os.listxattr(mnt / "file")
        assert (mnt / "file").read_bytes()[:4] == b"newo"
