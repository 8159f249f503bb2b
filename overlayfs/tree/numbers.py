"""Inode numbers: the same at every mount of the same layers, and never the same twice.

A number is the layer's and the inode in that layer, whatever file systems they lie on.
"""

from collections.abc import Collection

from overlayfs.layers.lower import Layer
from overlayfs.union.merge import Found

ROOT = 1  # FUSE_ROOT_ID, linux/fuse.h
UPPER_NUMBER = 0x7FFF

_SHIFT = 48
_ALLOCATED = 0x7FFE << _SHIFT


class Numbers:
    """Gives numbers to the files of one tree."""

    def __init__(self, *, narrow: bool) -> None:
        """With *narrow* what is shown has 32 bits, and means nothing at the next mount."""
        # The numbers that are shown instead of those that last.
        self._narrowed: dict[int, int] | None = {} if narrow else None
        self._allocated = _ALLOCATED
        # Numbers of files in the upper layer that were in use when these were made, and what
        # these have instead: for each of their names, and when the kernel comes back to them.
        self._instead: dict[int, int] = {}

    def of(self, layer: Layer, found: Found, strange: Collection[Layer] = ()) -> int:
        """The number of what *layer* has found.

        A new one in the *strange* layers, where the directory lies on another file system
        than the root, and for inodes that are too large.
        """
        if layer in strange or found.ino >> _SHIFT:
            return self.allocate()
        number = layer.number << _SHIFT | found.ino
        return self._instead.get(number, number)

    def allocate(self) -> int:
        """A number that no file has."""
        self._allocated += 1
        return self._allocated

    def shown(self, number: int) -> int:
        """The number by which the kernel knows the file *number*."""
        if self._narrowed is None:
            return number
        return self._narrowed.setdefault(number, ROOT + 1 + len(self._narrowed))

    def give(self, inode: int, number: int) -> None:
        """Let *inode* of the upper layer have *number*, which no mount will know again."""
        self._instead[UPPER_NUMBER << _SHIFT | inode] = number

    def forget(self, inode: int) -> None:
        """*inode* of the upper layer is a new file now."""
        self._instead.pop(UPPER_NUMBER << _SHIFT | inode, None)

    @staticmethod
    def is_lasting(number: int) -> bool:
        """Whether *number* will mean the same file at the next mount."""
        return not _ALLOCATED <= number < UPPER_NUMBER << _SHIFT


def layer_of(number: int) -> int:
    """The number of the layer that the file *number* is in, or a copy of a file in it.

    For a number that means nothing at the next mount it is one that no layer has.
    """
    return number >> _SHIFT


def is_inode(found: int) -> bool:
    """Whether *found* is one that a layer can have, after ``inode_in``."""
    return not found >> _SHIFT


def inode_in(number: int, layer: Layer) -> int:
    """The inode in *layer* of the file *number*, which is to give that number again.

    For a number that is not of that layer it is one that no layer can have.
    """
    return number & (1 << _SHIFT) - 1 if number >> _SHIFT == layer.number else 1 << _SHIFT
