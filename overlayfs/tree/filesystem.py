"""The file system: one method for each request, own types in, OSError out."""

import errno
import os
import stat
from collections.abc import Coroutine
from typing import Any

from overlayfs.tree.attributes import Attributes
from overlayfs.tree.copyup import CopyUp
from overlayfs.tree.files import Files
from overlayfs.tree.namespace import LONGEST_NAME, Namespace
from overlayfs.tree.node import Node
from overlayfs.tree.provenance import Provenance
from overlayfs.tree.recent import Recent
from overlayfs.tree.tree import Tree
from overlayfs.union.attrs import Caller, Kind
from overlayfs.union.provenance import Labels


class Listing:
    """A directory being read: the names as they were when reading began, the dots left out.

    Positions are indexes, so they stay right while files come and go.
    """

    __slots__ = ("names", "node")

    def __init__(self, node: Node) -> None:
        self.node = node
        self.names: list[bytes] = []


def _forget_target(node: Node) -> None:
    node.target = None


class Filesystem:
    """The union of layers as a live file system.

    Only the event loop calls in here; methods that can wait for bytes are coroutines, the
    others answer at once.
    """

    def __init__(self, tree: Tree, labels: Labels | None = None) -> None:
        """Serve *tree*, whose files tell where they are from if there are *labels*."""
        self.tree = tree
        self.copy_up = CopyUp(tree)
        self.attributes = Attributes(tree, self.copy_up, Provenance(labels, tree.upper))
        self.files = Files(tree, self.copy_up)
        self.namespace = Namespace(tree, self.copy_up, self.attributes)
        self._listings: dict[int, Listing] = {}
        self._handles = 0
        self._targets = Recent(tree, _forget_target, 10_000)

    def lookup(self, parent: int, name: bytes) -> Node | None:
        """The node called *name*, with one more reference; None if there is none."""
        above = self.tree.nodes[parent]
        directory = above.directory
        if directory is None:
            directory = self.tree.directory(above)
        node = directory.children.get(name)
        if node is None:
            node = _special(above, name)
            if node is None:
                return None
        if node.reply is None:
            self.tree.attrs(node)
        if node.others and self.tree.indexed.index is not None:
            node.prefer(above, name)  # a copy gets the name that it was asked for by
        node.lookups += 1
        return node

    def readlink(self, ino: int) -> bytes:
        """The target of a symbolic link."""
        node = self.tree.node(ino)
        if node.target is None:
            if node.kind is not Kind.SYMLINK:
                raise OSError(errno.EINVAL, "not a symbolic link")
            node.target = node.layer.readlink(*self.tree.location(node))
            self._targets.add(node)
        return node.target

    # -- names -------------------------------------------------------------------------

    def make(self, parent: int, name: bytes, mode: int, caller: Caller, *, rdev: int = 0) -> Node:
        """A new directory, special or empty regular file; referenced once."""
        node, fd = self.namespace.make(self.tree.node(parent), name, mode, caller, rdev=rdev)
        if fd >= 0:
            os.close(fd)
        self.tree.attrs(node)
        node.lookups += 1
        return node

    def create(self, parent: int, name: bytes, mode: int, caller: Caller) -> Node:
        """A new regular file, open once and referenced once."""
        mode = stat.S_IFREG | stat.S_IMODE(mode)
        node, fd = self.namespace.make(self.tree.node(parent), name, mode, caller)
        node.fd, node.opens = fd, 1
        self.tree.attrs(node)
        node.lookups += 1
        return node

    def symlink(self, parent: int, name: bytes, target: bytes, caller: Caller) -> Node:
        """A new symbolic link, referenced once."""
        mode = stat.S_IFLNK | 0o777
        node, _ = self.namespace.make(self.tree.node(parent), name, mode, caller, target=target)
        self.tree.attrs(node)
        node.lookups += 1
        return node

    async def link(self, ino: int, parent: int, name: bytes) -> Node:
        """One more name for *ino*; the node, with one more reference."""
        node = self.tree.node(ino)
        await self.namespace.link(node, self.tree.node(parent), name)
        self.tree.attrs(node)
        node.lookups += 1
        return node

    def unlink(self, parent: int, name: bytes) -> Coroutine[Any, Any, None] | None:
        """Remove a name that is no directory; a coroutine when that has to wait."""
        return self.namespace.unlink(self.tree.node(parent), name)

    def rmdir(self, parent: int, name: bytes) -> None:
        """Remove an empty directory."""
        self.namespace.rmdir(self.tree.node(parent), name)

    async def rename(
        self, parent: int, name: bytes, new_parent: int, new_name: bytes, flags: int
    ) -> None:
        """Move a name; see ``Namespace.rename``."""
        tree = self.tree
        await self.namespace.rename(tree.node(parent), name, tree.node(new_parent), new_name, flags)

    # -- listings ----------------------------------------------------------------------

    def opendir(self, ino: int) -> int:
        """A handle for reading the directory *ino*."""
        node = self.tree.node(ino)
        self.tree.directory(node)
        self._handles += 1
        self._listings[self._handles] = Listing(node)
        return self._handles

    def listing(self, handle: int, offset: int) -> Listing:
        """What *handle* lists, taken anew when reading starts over."""
        listing = self._listings[handle]
        if not offset:
            listing.names = list(self.tree.directory(listing.node).children)
        return listing

    def directory(self, handle: int) -> Node:
        """The directory that *handle* lists."""
        return self._listings[handle].node

    def releasedir(self, handle: int) -> None:
        """The handle is not used any more."""
        del self._listings[handle]

    # -- the whole ---------------------------------------------------------------------

    def statvfs(self) -> os.statvfs_result:
        """The numbers of the file system that takes the changes, else the top layer's."""
        layer = self.tree.upper or self.tree.layers[0]
        return os.fstatvfs(layer.root)

    def forget(self, ino: int, count: int) -> None:
        """The kernel dropped *count* references to *ino*."""
        self.tree.forget(ino, count)

    def close(self) -> None:
        """Bring everything to the disk and close it; nothing is asked afterwards.

        The lower layers first, as they wait for nothing: somebody may want to unmount them.
        """
        self.tree.close()
        for layer in self.tree.layers:
            layer.close()
        if self.tree.upper is not None:
            self.tree.upper.close()


def _special(directory: Node, name: bytes) -> Node | None:
    """The node called *name* that no listing has: ``.`` or ``..``."""
    if name == b".":
        return directory
    if name == b"..":
        return directory.parent or directory
    if len(name) > LONGEST_NAME:
        raise OSError(errno.ENAMETOOLONG, "name too long", name)
    return None
