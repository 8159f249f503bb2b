"""The kinds of file a tree is made of."""

import stat
from enum import StrEnum


class Kind(StrEnum):
    """What a name stands for; the values are those of ``user.containers.override_stat``."""

    FILE = "file"
    DIRECTORY = "dir"
    SYMLINK = "symlink"
    FIFO = "pipe"
    SOCKET = "socket"
    CHAR = "char"
    BLOCK = "block"

    @property
    def ifmt(self) -> int:
        """The file type bits of ``st_mode``."""
        return _IFMT[self]

    @classmethod
    def of(cls, mode: int) -> "Kind":
        """The kind that the type bits of *mode* name."""
        return _KINDS[stat.S_IFMT(mode)]


_IFMT = {
    Kind.FILE: stat.S_IFREG,
    Kind.DIRECTORY: stat.S_IFDIR,
    Kind.SYMLINK: stat.S_IFLNK,
    Kind.FIFO: stat.S_IFIFO,
    Kind.SOCKET: stat.S_IFSOCK,
    Kind.CHAR: stat.S_IFCHR,
    Kind.BLOCK: stat.S_IFBLK,
}
_KINDS = {ifmt: kind for kind, ifmt in _IFMT.items()}
