"""Two unpacked layers side by side, as they lie on the disk."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from overlayfs.linux import fds, xattrs

_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
_PIECE = 1 << 20


def differences(right: Path, other: Path) -> Iterator[tuple[bytes, str]]:
    """Where the tree *other* is not as *right* is, and in what; the top is ``b""``.

    Types, modes, owners, sizes, times, device numbers, numbers of links, targets, extended
    attributes and bytes count; but not the times of whiteouts, which no tar has.
    """
    roots = os.open(right, _OPEN), os.open(other, _OPEN)
    try:
        what = _difference(roots, b".")
        if what:
            yield b"", what
        left = [b""]
        while left:
            yield from _below(roots, left.pop(), left)
    finally:
        for root in roots:
            os.close(root)


def _below(roots: tuple[int, int], path: bytes, left: list[bytes]) -> Iterator[tuple[bytes, str]]:
    """The differences in the directory *path*; the directories in it that both have join *left*."""
    right = fds.open_beneath(roots[0], path, _OPEN)
    try:
        other = fds.open_beneath(roots[1], path, _OPEN)
        try:
            here, there = _names(right), _names(other)
            for name in sorted(here | there):
                inner = path + b"/" + name if path else name
                if name not in there:
                    yield inner, "missing"
                elif name not in here:
                    yield inner, "not in the layer"
                elif what := _difference((right, other), name):
                    yield inner, what
                elif stat.S_ISDIR(_stat(right, name).st_mode):
                    left.append(inner)
        finally:
            os.close(other)
    finally:
        os.close(right)


def _names(fd: int) -> set[bytes]:
    with os.scandir(fd) as scan:
        return {os.fsencode(entry.name) for entry in scan}


def _stat(fd: int, name: bytes) -> os.stat_result:
    return os.stat(name, dir_fd=fd, follow_symlinks=False)


def _difference(folders: tuple[int, int], name: bytes) -> str:
    """In what the files called *name* are not alike; empty when they are."""
    right, other = (_stat(fd, name) for fd in folders)
    kind = stat.S_IFMT(right.st_mode)
    if kind != stat.S_IFMT(other.st_mode):
        return "another type"
    for what, values in (
        ("mode", (oct(right.st_mode & 0o7777), oct(other.st_mode & 0o7777))),
        ("owner", (f"{right.st_uid}:{right.st_gid}", f"{other.st_uid}:{other.st_gid}")),
        ("device", (right.st_rdev, other.st_rdev)),
        ("time", (right.st_mtime_ns, other.st_mtime_ns)),
    ):
        if what == "time" and kind == stat.S_IFCHR and right.st_rdev == 0:
            continue
        if values[0] != values[1]:
            return f"{what} {values[1]} instead of {values[0]}"
    if kind != stat.S_IFDIR and (right.st_size, right.st_nlink) != (other.st_size, other.st_nlink):
        return "another size" if right.st_size != other.st_size else "other hard links"
    if _xattrs(folders[0], name) != _xattrs(folders[1], name):
        return "other extended attributes"
    if kind == stat.S_IFLNK:
        targets = {os.readlink(name, dir_fd=fd) for fd in folders}
        return "another target" if len(targets) > 1 else ""
    if kind == stat.S_IFREG and not _same_bytes(folders, name):
        return "other bytes"
    return ""


def _xattrs(fd: int, name: bytes) -> dict[bytes, bytes | None]:
    place = fds.beneath(fd, name)
    return {key: xattrs.get(place, key) for key in xattrs.names(place)}


def _same_bytes(folders: tuple[int, int], name: bytes) -> bool:
    with (
        os.fdopen(os.open(name, _READ, dir_fd=folders[0]), "rb", buffering=0) as right,
        os.fdopen(os.open(name, _READ, dir_fd=folders[1]), "rb", buffering=0) as other,
    ):
        while piece := right.read(_PIECE):
            if other.read(len(piece)) != piece:
                return False
        return not other.read(1)
