"""Descriptors of directories and files beneath a root."""

import ctypes
import errno
import fcntl
import os
import resource
from collections.abc import Callable

_libc = ctypes.CDLL(None, use_errno=True)

# linux/openat2.h; the number is the same on every architecture of asm-generic and x86.
_SYS_OPENAT2 = 437
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08


class _OpenHow(ctypes.Structure):
    _fields_ = (
        ("flags", ctypes.c_uint64),
        ("mode", ctypes.c_uint64),
        ("resolve", ctypes.c_uint64),
    )


# Longer relative paths are walked in pieces: PATH_MAX counts the terminating NUL.
_LONGEST = 4000


def open_beneath(root: int, path: bytes, flags: int) -> int:
    """A descriptor of *path* below the directory *root*, following no symbolic link.

    *path* is relative; empty means *root* itself.  Paths longer than PATH_MAX are fine.
    Raises OSError: ELOOP for a symbolic link on the way, the rest as open(2).
    See openat2(2): RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS.
    """
    at, rest = root, path
    try:
        while len(rest) > _LONGEST:
            cut = rest.rindex(b"/", 0, _LONGEST)
            step = _openat2(at, rest[:cut], os.O_PATH | os.O_DIRECTORY)
            if at != root:
                os.close(at)
            at, rest = step, rest[cut + 1 :]
        return _openat2(at, rest or b".", flags)
    finally:
        if at != root:
            os.close(at)


def _openat2(root: int, path: bytes, flags: int) -> int:
    how = _OpenHow(flags | os.O_CLOEXEC, 0, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS)
    fd = _libc.syscall(
        _SYS_OPENAT2, root, ctypes.c_char_p(path), ctypes.byref(how), ctypes.sizeof(how)
    )
    if fd >= 0:
        return int(fd)
    code = ctypes.get_errno()
    if code in (errno.ENOSYS, errno.EPERM):
        # A kernel before 5.6, or a seccomp filter that has not heard of the call.
        return _walk(root, path, flags)
    raise OSError(code, os.strerror(code), path)


def _walk(root: int, path: bytes, flags: int) -> int:
    *parents, last = path.split(b"/")
    at = root
    try:
        for name in parents:
            step = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=at)
            if at != root:
                os.close(at)
            at = step
        return os.open(last, flags | os.O_NOFOLLOW, dir_fd=at)
    finally:
        if at != root:
            os.close(at)


def quietly(opened: Callable[[int], int], flags: int) -> int:
    """What *opened* gives for *flags* and O_NOATIME, without that where it is not allowed.

    open(2): only the owner of a file, and root, may read it without moving its time.
    """
    try:
        return opened(flags | os.O_NOATIME)
    except PermissionError as exc:
        if exc.errno != errno.EPERM:
            raise
        return opened(flags)


def beneath(dir_fd: int, name: bytes) -> bytes:
    """A path for the calls that know no directory descriptor: *name* in *dir_fd*.

    proc(5), /proc/pid/fd: the link leads to the open directory itself, wherever it moved.
    """
    return b"/proc/self/fd/%d/%s" % (dir_fd, name)


def itself(fd: int) -> bytes:
    """A path that leads to the open file *fd*, O_PATH descriptors included."""
    return b"/proc/self/fd/%d" % fd


def is_writable(fd: int) -> bool:
    """Whether *fd* was opened for writing."""
    return fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY


def raise_limit() -> int:
    """Open as many descriptors as the hard limit allows; the limit now in force."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard if hard != resource.RLIM_INFINITY else 1 << 20
