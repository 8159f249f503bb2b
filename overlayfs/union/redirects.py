"""Directories of the upper layer that say where their lower parts are.

Documentation/filesystems/overlayfs.rst, "renaming directories": the attribute ``redirect``
has a name in the same lower directory, or a path from the root of the lower layers.
"""

from enum import Enum

# What the kernel follows: fs/overlayfs/super.c, redirect_max.
LONGEST = 256


class Redirects(Enum):
    """Whether redirects of the upper layer are followed, and made as well.

    Those of lower layers, which an image may bring, never are.
    """

    IGNORE = "nofollow"
    FOLLOW = "follow"
    MAKE = "on"


def resolve(value: bytes, above: bytes) -> bytes | None:
    """The path that the redirect *value* leads to; None when it is none.

    *above* is the path of the lower directory that *value* is relative to.
    """
    path = value.removeprefix(b"/")
    parts = path.split(b"/")
    if any(part in (b"", b".", b"..") for part in parts) or len(value) > LONGEST:
        return None
    if path != value:
        return path
    if len(parts) > 1:
        return None
    return above + b"/" + path if above else path
