"""The directories of a layer that is being written, or that a tar would write.

They are kept as a tree in memory: the layer is ours alone until it has its final name, so
what is known here is what is on the disk.  Every system call gets a single name relative
to the descriptor of a real directory, and no symbolic link is ever followed by the kernel.
"""

import errno
import os
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Iterator

from overlayfs.layers.inodes import Inode, Inodes

_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Open at once, for each layer; a layer's entries come directory by directory.
_MOST_OPEN = 64
_MOST_RECENT = 256
# PATH_MAX of single letters; what is deeper takes time with the square of its depth.
_DEEPEST = 2048
# What path_resolution(7) allows.
_MOST_LINKS = 40


class Directory:
    """A directory of the layer; *inode* None as long as no entry describes it."""

    __slots__ = ("children", "depth", "inode", "name", "opaque", "parent")

    def __init__(self, name: bytes, parent: "Directory | None") -> None:
        self.name = name
        self.parent = parent
        self.depth: int = parent.depth + 1 if parent else 0
        self.children: dict[bytes, Directory] = {}
        self.inode: Inode | None = None
        self.opaque = False

    @property
    def path(self) -> bytes:
        """The path from the root, empty for the root."""
        names = []
        at = self
        while at.parent is not None:
            names.append(at.name)
            at = at.parent
        return b"/".join(reversed(names))


class Tree(ABC):
    """The tree; a subclass says what else there is, on a disk or elsewhere."""

    def __init__(self) -> None:
        self.root = Directory(b"", None)
        self.made = 0
        self._recent: dict[bytes, Directory] = {}

    @abstractmethod
    def target(self, at: Directory, name: bytes) -> bytes | None:
        """The target of the symbolic link *name*; None when it is something else.

        Raises FileNotFoundError when nothing is there.  Directories are not asked for.
        """

    def reach(self, path: bytes) -> Directory:
        """The directory *path*, made where it is missing.

        A symbolic link of this layer on the way is followed as if the layer were the root
        of everything (openat2(2), RESOLVE_IN_ROOT): ``..`` ends there, and an absolute
        target begins there.  Raises NotADirectoryError for any other file on the way.
        """
        found = self._recent.get(path)
        if found is None:
            found = self._walk(path, make=True)
            assert found is not None
            if len(self._recent) >= _MOST_RECENT:
                self._recent.clear()
            self._recent[path] = found
        return found

    def find(self, path: bytes) -> Directory | None:
        """Like ``reach``, but None where something is missing."""
        return self._recent.get(path) or self._walk(path, make=False)

    def add(self, parent: Directory, name: bytes) -> Directory:
        """A new, empty directory."""
        _check_depth(parent, name)
        made = parent.children[name] = Directory(name, parent)
        self.made += 1
        return made

    def forget(self, directory: Directory) -> None:
        """Let go of *directory* and all beneath, which are about to be removed."""
        assert directory.parent is not None
        del directory.parent.children[directory.name]
        self._recent.clear()

    def _walk(self, path: bytes, *, make: bool) -> Directory | None:
        left = _names(path)
        at = self.root
        links = 0
        while left:
            name = left.pop()
            if name == b"..":  # of a symbolic link's target only
                at = at.parent or at
                continue
            known = at.children.get(name)
            if known is not None:
                at = known
                continue
            try:
                target = self.target(at, name)
            except FileNotFoundError:
                if not make:
                    return None
                at = self.add(at, name)
                continue
            if target is None:
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), name)
            links += 1
            if links > _MOST_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), name)
            if target.startswith(b"/"):
                at = self.root
            left += _names(target)
        return at


class Directories(Tree):
    """The tree on a disk, and descriptors of the directories in use."""

    def __init__(self, root: int, inodes: Inodes) -> None:
        """*root* stays the caller's to close."""
        super().__init__()
        self._root_fd = root
        self._inodes = inodes
        self._open: OrderedDict[Directory, int] = OrderedDict()

    def close(self) -> None:
        """Close every descriptor."""
        for fd in self._open.values():
            os.close(fd)
        self._open.clear()

    def fd(self, directory: Directory) -> int:
        """A descriptor of *directory*, good until the next call."""
        found = self._open.get(directory)
        if found is not None:
            self._open.move_to_end(directory)
            return found
        chain = []
        at: Directory | None = directory
        while at is not None and at.parent is not None and at not in self._open:
            chain.append(at)
            at = at.parent
        fd = self._root_fd if at is None or at.parent is None else self._open[at]
        for step in reversed(chain):
            fd = os.open(step.name, _OPEN, dir_fd=fd)
            self._open[step] = fd
            if len(self._open) > _MOST_OPEN:
                os.close(self._open.popitem(last=False)[1])
        return fd

    def target(self, at: Directory, name: bytes) -> bytes | None:
        return self._inodes.target(self.fd(at), name)

    def add(self, parent: Directory, name: bytes) -> Directory:
        _check_depth(parent, name)
        self._inodes.directory(self.fd(parent), name)
        return super().add(parent, name)

    def forget(self, directory: Directory) -> None:
        super().forget(directory)
        for gone in everything(directory):
            fd = self._open.pop(gone, None)
            if fd is not None:
                os.close(fd)

    def link(self, source: tuple[Directory, bytes], place: tuple[Directory, bytes]) -> bool:
        """Make *place* a name of the file *source*; False when that is not there."""
        # A copy: opening the second directory may close what was opened for the first.
        here = os.dup(self.fd(source[0]))
        try:
            at = self.fd(place[0])
            os.link(source[1], place[1], src_dir_fd=here, dst_dir_fd=at, follow_symlinks=False)
        except FileNotFoundError:
            return False
        finally:
            os.close(here)
        return True

    def whiteout(self, at: Directory, name: bytes) -> None:
        """Hide *name* of the layers below; FileExistsError when the layer has such a file."""
        self._inodes.whiteout(self.fd(at), name)


def _check_depth(parent: Directory, name: bytes) -> None:
    """Raise OSError ENAMETOOLONG deeper than any path leads."""
    if parent.depth == _DEEPEST:
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), name)


def everything(top: Directory) -> Iterator[Directory]:
    """*top* and all directories beneath, parents first."""
    left = [top]
    while left:
        at = left.pop()
        yield at
        left += at.children.values()


def _names(path: bytes) -> list[bytes]:
    """The names of *path*, last first."""
    return [name for name in reversed(path.split(b"/")) if name not in (b"", b".")]
