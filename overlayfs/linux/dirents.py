"""What a directory tells of its entries without asking each (readdir(3))."""

import ctypes
import os
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)

DT_UNKNOWN = 0  # dirent.h


class _Dirent(ctypes.Structure):
    """struct dirent of glibc and musl on Linux, 64-bit offsets."""

    _fields_ = (
        ("d_ino", ctypes.c_uint64),
        ("d_off", ctypes.c_int64),
        ("d_reclen", ctypes.c_ushort),
        ("d_type", ctypes.c_ubyte),
        ("d_name", ctypes.c_char * 256),
    )


_readdir = getattr(_libc, "readdir64", None) or _libc.readdir
_readdir.restype = ctypes.POINTER(_Dirent)
_readdir.argtypes = [ctypes.c_void_p]
_libc.opendir.restype = ctypes.c_void_p
_libc.opendir.argtypes = [ctypes.c_char_p]
_libc.closedir.argtypes = [ctypes.c_void_p]


def has_types(path: Path) -> bool:
    """Whether the directory *path* tells the type of all its entries.

    Python asks an entry that has none, and does not say that it did.
    """
    folder = _libc.opendir(os.fsencode(path))
    if not folder:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), str(path))
    try:
        while entry := _readdir(folder):
            if entry.contents.d_type == DT_UNKNOWN:
                return False
        return True
    finally:
        _libc.closedir(folder)
