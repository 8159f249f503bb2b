"""The kinds of file a tree is made of, and what is known of each."""

import stat
from enum import StrEnum
from typing import NamedTuple


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


class Attrs(NamedTuple):
    """What stat(2) says of a file, as the guest sees it; times are ns since the epoch.

    *mode* has the type bits; *blocks* counts 512 bytes each.
    """

    mode: int
    nlink: int
    uid: int
    gid: int
    rdev: int
    size: int
    blocks: int
    atime_ns: int
    mtime_ns: int
    ctime_ns: int


class AttrChange(NamedTuple):
    """What setattr is asked to change; None leaves a thing as it is."""

    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    size: int | None = None
    atime_ns: int | None = None
    mtime_ns: int | None = None


def changed(attrs: Attrs, change: AttrChange) -> Attrs:
    """*attrs* after *change*; of its mode the permission bits count."""
    mode = attrs.mode
    if change.mode is not None:
        mode = stat.S_IFMT(mode) | stat.S_IMODE(change.mode)
    wanted = {"uid": change.uid, "gid": change.gid, "size": change.size}
    wanted |= {"atime_ns": change.atime_ns, "mtime_ns": change.mtime_ns}
    return attrs._replace(
        mode=mode, **{name: value for name, value in wanted.items() if value is not None}
    )


class Caller(NamedTuple):
    """Who asks: the owner of what gets created; *privileged* keeps suid bits when it writes."""

    uid: int
    gid: int
    privileged: bool = True
