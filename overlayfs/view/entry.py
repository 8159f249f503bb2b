"""What is found in an image under a name."""

import os
from typing import NamedTuple

from overlayfs.union.attrs import Kind


class Entry(NamedTuple):
    """A file, as stat(2) tells of it.

    *mode* has the type bits, *rdev* is as ``os.makedev`` makes it, *target* that of a
    symbolic link.  *layer* is the number of the layer that it comes from, 1 being the base:
    of a directory the topmost that has it.  *file* is equal for the names of one file, within
    its layer; *nlink* how many names the layer gives it, 1 for a directory.
    """

    kind: Kind
    mode: int
    uid: int
    gid: int
    rdev: int
    size: int
    mtime_ns: int
    target: bytes
    nlink: int
    layer: int
    file: int

    @property
    def is_dir(self) -> bool:
        """Whether it is a directory."""
        return self.kind is Kind.DIRECTORY


class Whiteout(NamedTuple):
    """What a layer has under a name that it hides."""

    layer: int


def refusal(code: int, path: bytes) -> OSError:
    """The error that a system call on *path* would raise with *code*."""
    return OSError(code, os.strerror(code), path)
