"""File handles: what stays the name of a file wherever it is moved; name_to_handle_at(2)."""

import ctypes
import errno
import fcntl
import os
from typing import NamedTuple

from overlayfs.linux.xattrs import Place

_libc = ctypes.CDLL(None, use_errno=True)

# linux/fcntl.h, linux/fs.h, linux/exportfs.h
_AT_FDCWD = -100
_AT_EMPTY_PATH = 0x1000
_FS_IOC_GETFSUUID = 0x80111500
_MAX_HANDLE_SZ = 128
_UUID_SIZE = 16


class Handle(NamedTuple):
    """What a file system calls one of its files; *kind* says how to read *body*."""

    kind: int
    body: bytes


class _FileHandle(ctypes.Structure):
    _fields_ = (
        ("handle_bytes", ctypes.c_uint),
        ("handle_type", ctypes.c_int),
        ("f_handle", ctypes.c_ubyte * _MAX_HANDLE_SZ),
    )


def handle(place: Place) -> Handle:
    """The handle of the file at *place*; OSError EOPNOTSUPP where there are none."""
    found = _FileHandle(_MAX_HANDLE_SZ)
    mount = ctypes.c_int()
    if isinstance(place, int):
        at, name, flags = place, b"", _AT_EMPTY_PATH
    else:
        at, name, flags = _AT_FDCWD, place, 0
    done = _libc.name_to_handle_at(
        at, ctypes.c_char_p(name), ctypes.byref(found), ctypes.byref(mount), flags
    )
    if done:
        raise _error()
    return Handle(found.handle_type, bytes(found.f_handle[: found.handle_bytes]))


def open_path(beside: int, wanted: Handle) -> int:
    """A descriptor for looking (O_PATH) at the file *wanted*, on the file system of *beside*.

    OSError ESTALE when there is no such file any more, EPERM without CAP_DAC_READ_SEARCH.
    """
    if len(wanted.body) > _MAX_HANDLE_SZ:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
    given = _FileHandle(len(wanted.body), wanted.kind)
    given.f_handle[: len(wanted.body)] = wanted.body
    fd = _libc.open_by_handle_at(beside, ctypes.byref(given), os.O_PATH | os.O_CLOEXEC)
    if fd < 0:
        raise _error()
    return int(fd)


def uuid(fd: int) -> bytes:
    """The UUID of the file system that *fd* lies on; OSError ENOTTY when nobody tells.

    linux/fs.h, FS_IOC_GETFSUUID, which kernels know since 6.9.
    """
    told = fcntl.ioctl(fd, _FS_IOC_GETFSUUID, bytes(1 + _UUID_SIZE))
    return told[1 : 1 + told[0]].ljust(_UUID_SIZE, b"\0")


def _error() -> OSError:
    code = ctypes.get_errno()
    return OSError(code, os.strerror(code))
