"""Mounting by system calls, past what mount(8) makes of options and names."""

import ctypes
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)

# asm-generic/unistd.h; the same numbers on all architectures
_SYS_OPEN_TREE, _SYS_MOVE_MOUNT, _SYS_MOUNT_SETATTR = 428, 429, 442
# linux/mount.h, linux/fcntl.h
_OPEN_TREE_CLONE, _AT_EMPTY_PATH, _MOVE_MOUNT_F_EMPTY_PATH = 1, 0x1000, 4
_MOUNT_ATTR_IDMAP = 0x100000
_AT_FDCWD = -100
_MNT_DETACH = 2  # sys/mount.h
_CLONE_NEWUSER = 0x10000000  # linux/sched.h


class _MountAttr(ctypes.Structure):
    """struct mount_attr of linux/mount.h"""

    _fields_ = [
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    ]


def _checked(result: int, *what: object) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), *what)
    return result


def mount(source: str, target: Path, kind: str, options: str) -> None:
    """mount(2): the kernel gets *options* as they are."""
    words = (source, os.fspath(target), kind)
    data = ctypes.c_char_p(os.fsencode(options))
    _checked(_libc.mount(*(ctypes.c_char_p(os.fsencode(w)) for w in words), 0, data), options)


def unmount(target: Path, *, lazy: bool = False) -> None:
    """umount2(2)."""
    flags = _MNT_DETACH if lazy else 0
    _checked(_libc.umount2(ctypes.c_char_p(os.fsencode(target)), flags), os.fspath(target))


@contextmanager
def idmapped(source: Path, target: Path, ids: str) -> Iterator[Path]:
    """*source* mounted at *target* with its ids mapped; *ids* as in user_namespaces(7)."""
    with _user_namespace(ids) as namespace:
        path = ctypes.c_char_p(os.fsencode(source))
        tree = _checked(
            _libc.syscall(_SYS_OPEN_TREE, _AT_FDCWD, path, _OPEN_TREE_CLONE | os.O_CLOEXEC)
        )
        try:
            wanted = _MountAttr(_MOUNT_ATTR_IDMAP, 0, 0, namespace)
            size = ctypes.sizeof(wanted)
            args = (tree, b"", _AT_EMPTY_PATH, ctypes.byref(wanted), size)
            _checked(_libc.syscall(_SYS_MOUNT_SETATTR, *args))
            goal = ctypes.c_char_p(os.fsencode(target))
            args = (tree, b"", _AT_FDCWD, goal, _MOVE_MOUNT_F_EMPTY_PATH)
            _checked(_libc.syscall(_SYS_MOVE_MOUNT, *args))
        finally:
            os.close(tree)
    try:
        yield target
    finally:
        unmount(target, lazy=True)


@contextmanager
def _user_namespace(ids: str) -> Iterator[int]:
    """A descriptor of a user namespace with these ids, for users and groups."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        if not _libc.unshare(_CLONE_NEWUSER):
            os.write(writing, b"x")
            signal.pause()
        os._exit(1)
    try:
        os.close(writing)
        assert os.read(reading, 1) == b"x", "no user namespace can be made"
        for kind in ("uid", "gid"):
            Path(f"/proc/{child}/{kind}_map").write_text(ids)
        namespace = os.open(f"/proc/{child}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(reading)
    try:
        yield namespace
    finally:
        os.close(namespace)
