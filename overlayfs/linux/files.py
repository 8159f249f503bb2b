"""Renaming with flags, and copying the bytes of files."""

import ctypes
import errno
import fcntl
import os
from contextlib import suppress

_libc = ctypes.CDLL(None, use_errno=True)

# linux/fs.h
RENAME_NOREPLACE = 1
RENAME_EXCHANGE = 2
RENAME_WHITEOUT = 4
_FICLONE = 0x40049409

# What a file system allots at once, so that less than this has no holes.
_BLOCK = 4096

# copy_file_range(2) is cut short by the kernel at about this size anyway.
_CHUNK = 1 << 30


def renameat2(old_dir: int, old: bytes, new_dir: int, new: bytes, flags: int = 0) -> None:
    """Rename *old* in *old_dir* to *new* in *new_dir*; see renameat2(2) for *flags*."""
    if _libc.renameat2(old_dir, ctypes.c_char_p(old), new_dir, ctypes.c_char_p(new), flags):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), new)


def unlink_if_there(dir_fd: int, name: bytes) -> None:
    """Remove *name* in *dir_fd*, which may be gone."""
    with suppress(FileNotFoundError):
        os.unlink(name, dir_fd=dir_fd)


def copy_data(source: int, target: int, size: int) -> None:
    """Copy the first *size* bytes of *source* into the empty file *target*.

    Shares the blocks where the file system can (ioctl_ficlone(2)), else copies only what
    is no hole (lseek(2), SEEK_DATA), inside the kernel where that works
    (copy_file_range(2)).  *target* ends with exactly *size* bytes.
    """
    there = os.fstat(source).st_size
    if size == there and size:
        try:
            fcntl.ioctl(target, _FICLONE, source)
        except OSError as exc:
            if exc.errno not in _CANNOT_CLONE:
                raise
        else:
            return
    os.ftruncate(target, size)
    if size <= _BLOCK:
        _copy_bytes(source, target, 0, min(size, there))  # two calls instead of three
        return
    end = 0
    while end < size:
        try:
            start = os.lseek(source, end, os.SEEK_DATA)
        except OSError as exc:
            if exc.errno == errno.ENXIO:
                return  # nothing but a hole is left
            raise
        end = min(os.lseek(source, start, os.SEEK_HOLE), size)
        _copy_range(source, target, start, end)


_CANNOT_CLONE = {
    errno.EOPNOTSUPP,
    errno.ENOTTY,
    errno.EXDEV,
    errno.EINVAL,
    errno.ENOSYS,
    errno.EPERM,
}


def _copy_range(source: int, target: int, start: int, end: int) -> None:
    at = start
    while at < end:
        try:
            done = os.copy_file_range(source, target, min(end - at, _CHUNK), at, at)
        except OSError as exc:
            if exc.errno not in _CANNOT_CLONE:
                raise
            done = 0
        if not done:
            # Another file system, or one that answers 0 (some of /proc's kind do).
            _copy_bytes(source, target, at, end)
            return
        at += done


def _copy_bytes(source: int, target: int, start: int, end: int) -> None:
    at = start
    while at < end:
        data = os.pread(source, min(end - at, 1 << 20), at)
        if not data:
            raise OSError(errno.EIO, "file became shorter while it was copied")
        at += os.pwrite(target, data, at)


def read_at(fd: int, buffer: memoryview, offset: int) -> int:
    """Fill *buffer* from *offset*; how much was read, less at the end of the file only."""
    done = 0
    while done < len(buffer):
        step = os.preadv(fd, [buffer[done:]], offset + done)
        if not step:
            break
        done += step
    return done


def write_at(fd: int, data: bytes, offset: int) -> int:
    """Write *data* at *offset*; how much of it was written.

    pwrite(2) may write less at a time.  An error is raised when nothing was written, as
    that call does it: the caller comes back with the rest and meets it then.
    """
    done = os.pwrite(fd, data, offset)
    while done < len(data):
        try:
            done += os.pwrite(fd, memoryview(data)[done:], offset + done)
        except OSError:
            break
    return done


def syncfs(fd: int) -> None:
    """Write everything of the file system that *fd* lies on to its disk; syncfs(2)."""
    if _libc.syncfs(fd):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
