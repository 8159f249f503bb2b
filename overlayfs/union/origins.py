"""What the kernel's overlayfs notes down of the lower file that a copy was made of.

The forms are those of fs/overlayfs/overlayfs.h (``struct ovl_fb``) and fs/overlayfs/inode.c
("On-disk format for indexed nlink").
"""

import re
import struct
import sys
from typing import NamedTuple

# What we note down of it, behind the prefix of the kernel's attributes: its inode number.
NUMBER = b"pyoverlay.origin"

# version, magic, length of all, flags, kind of handle, UUID of the file system
_HEAD = struct.Struct("=5B16s")
_VERSION, _MAGIC = 0, 0xFB
_BIG_ENDIAN, _ANY_ENDIAN, _IN_UPPER = 1, 2, 4
_NATIVE = _BIG_ENDIAN if sys.byteorder == "big" else 0


class Origin(NamedTuple):
    """A file on any disk: the UUID of its file system, and its handle there."""

    uuid: bytes
    kind: int
    body: bytes

    def encode(self, *, upper: bool = False) -> bytes:
        """The value of ``trusted.overlay.origin``; of ``.upper`` for what is in the *upper*."""
        flags = _NATIVE | (_IN_UPPER if upper else 0)
        length = _HEAD.size + len(self.body)
        return _HEAD.pack(_VERSION, _MAGIC, length, flags, self.kind, self.uuid) + self.body

    @classmethod
    def decode(cls, value: bytes) -> "Origin":
        """What *value* says; ValueError when it says nothing that counts here."""
        if len(value) < _HEAD.size:
            raise ValueError(f"no origin: {value.hex()}")
        version, magic, length, flags, kind, uuid = _HEAD.unpack_from(value)
        native = flags & _ANY_ENDIAN or flags & _BIG_ENDIAN == _NATIVE
        if magic != _MAGIC or version > _VERSION or length != len(value) or not native:
            raise ValueError(f"not an origin that is known: {value.hex()}")
        return cls(uuid, kind, value[_HEAD.size :])


def relative_to_upper(extra: int) -> bytes:
    """That a file has *extra* links more than its copy in the upper layer."""
    return b"U%+d" % extra


def relative_to_lower(extra: int) -> bytes:
    """That a file has *extra* links more than what it is a copy of."""
    return b"L%+d" % extra


def links(value: bytes | None, *, upper: int, lower: int) -> int | None:
    """How many links *value* says that a file has; None when it does not say.

    *upper* and *lower* are how many its copy and what that is a copy of have on the disk.
    """
    said = _LINKS.fullmatch(value or b"")
    if said is None or lower == 1:
        return None
    found = (upper if said[1] == b"U" else lower) + int(said[2])
    return found if found > 0 else None


_LINKS = re.compile(rb"([UL])([+-]\d{1,10})")
