"""Directories of a layer that say where the parts beneath it are.

Documentation/filesystems/overlayfs.rst, "renaming directories": the attribute ``redirect``
has a name in the same lower directory, or a path from the root of the lower layers.
"""

from enum import Enum
from typing import NamedTuple

# What the kernel makes; it follows any: fs/overlayfs/super.c, redirect_max.
LONGEST = 256


class Redirects(Enum):
    """Whose redirects are followed, and whether they are made.

    OFF: those of the upper layer, which is ours.  FOLLOW: those of lower layers as well,
    where whoever mounts vouches for these.  MAKE: renaming makes them, too.
    """

    IGNORE = "nofollow"
    OFF = "off"
    FOLLOW = "follow"
    MAKE = "on"

    @property
    def in_lowers(self) -> bool:
        """Whether those of lower layers count."""
        return self in (Redirects.FOLLOW, Redirects.MAKE)


class Turn(NamedTuple):
    """From the layers beneath the one numbered *at* on, a directory is at *path*.

    That is a path in the union of those layers; the layer *at* said so.
    """

    at: int
    path: bytes


def resolve(value: bytes, above: bytes) -> bytes:
    """The path that the redirect *value* leads to; ValueError when it is none.

    *above* is the path of the lower directory that *value* is relative to.
    """
    path = value.removeprefix(b"/")
    parts = path.split(b"/")
    if any(part in (b"", b".", b"..") for part in parts):
        raise ValueError("no path below the root of the layers")
    if path != value:
        return path
    if len(parts) > 1:
        raise ValueError("neither a name nor a path from the root")
    return join(above, path)


def made(path: bytes, beside: bytes | None = None) -> bytes | None:
    """The redirect to *path*; None when the kernel would not make one that long.

    *beside* is the path of the lower directory that it may be relative to.
    """
    if len(path) < LONGEST:
        return b"/" + path
    above, _, name = path.rpartition(b"/")
    return name if above == beside else None


def join(above: bytes, name: bytes) -> bytes:
    """The path of *name* in the directory *above*, b"" being the root."""
    return above + b"/" + name if above else name
