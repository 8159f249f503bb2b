"""Lower parts that are not where their file is: redirects, and data without a copy.

They are looked up in a tree of the layers beneath alone, where the same rules hold.
"""

import errno
import logging
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from overlayfs.layers.lower import Layer
from overlayfs.tree.node import Node
from overlayfs.union.attrs import Kind
from overlayfs.union.redirects import join, resolve

if TYPE_CHECKING:
    from overlayfs.tree.tree import Tree

log = logging.getLogger(__name__)

# So many files of some layers alone are kept in mind at most, some 500 bytes each.
_ENOUGH = 20_000


class Elsewhere:
    """Finds in the lower layers of *tree* what a layer above them points to."""

    def __init__(self, tree: "Tree") -> None:
        self._tree = tree
        # By the number beneath which their layers are.
        self._trees: dict[int, Tree] = {}

    def close(self) -> None:
        """Close what was opened for looking."""
        for tree in self._trees.values():
            tree.close()

    def find(self, path: bytes, number: int) -> tuple["Tree", Node]:
        """What the layers numbered below *number* have at *path*, and the tree of these.

        FileNotFoundError or NotADirectoryError if there is nothing.
        """
        names = path.split(b"/")
        known = self._trees.get(number)
        if known is not None and len(known.nodes) > _ENOUGH and not _has_read(known, names):
            known.close()
            known = None
        if known is None:
            layers = [layer for layer in self._tree.layers if layer.number < number]
            if not layers:
                raise FileNotFoundError(errno.ENOENT, "no layer beneath", path)
            known = self._trees[number] = type(self._tree)(layers, None, descriptors=64)
        node = known.root
        for name in names:
            node = known.child(node, name)
        return known, node

    def is_apart(self, node: Node) -> bool:
        """Whether the file *node* has its data in a layer beneath."""
        if node.apart is None:
            node.apart = node.layer.is_metacopy(self._tree.place(node))
        return node.apart

    def open_data(self, node: Node) -> int:
        """A descriptor for reading the data of *node*, which is apart.

        Raises OSError EIO when it is not there, as the layers are others than they were.
        """
        if node.fd >= 0:
            return os.dup(node.fd)
        layer, spot = self._data(node)
        try:
            return layer.open_file(*spot)
        except FileNotFoundError as exc:
            raise OSError(errno.EIO, "the data is not there") from exc

    def data_path(self, node: Node) -> bytes:
        """Where the layers beneath have the data of *node*, which is apart, from their root.

        OSError EIO when it says no such place, EPERM when what it says does not count.
        """
        layer = node.layer
        if not node.names:
            if node.redirect is None:
                raise OSError(errno.EIO, "there was no data when it was removed")
            return node.redirect
        found = layer.redirect(self._tree.place(node))
        if found is not None and not layer.follows:
            raise OSError(errno.EPERM, "a redirect, with redirect_dir=nofollow", found)
        parent = node.names[0].parent
        if not (found and found.startswith(b"/")) and parent.stack[-1] is layer:
            raise OSError(errno.EIO, "a place in a directory without lower parts", found)
        above = parent.path_beneath(layer.number)
        try:
            # Without a path the data lies where the file is.
            return join(above, node.names[0].name) if found is None else resolve(found, above)
        except ValueError as exc:
            raise OSError(errno.EIO, str(exc), found) from exc

    def _data(self, node: Node) -> tuple[Layer, tuple[int, bytes]]:
        """The layer, and the place in it, of the data of *node*, which is apart."""
        path = self.data_path(node)
        try:
            tree, source = self.find(path, node.layer.number)
        except (FileNotFoundError, NotADirectoryError) as exc:
            raise OSError(errno.EIO, "the data is not there", path) from exc
        if source.kind is not Kind.FILE:
            raise OSError(errno.EIO, "the data is no file", path)
        if source.apart is not False and tree.elsewhere.is_apart(source):
            return tree.elsewhere._data(source)
        return source.layer, tree.location(source)

    def blocks(self, node: Node) -> int:
        """How many blocks the data of *node*, which is apart, takes where it is."""
        try:
            if node.fd >= 0:
                return os.fstat(node.fd).st_blocks
            _, (at, name) = self._data(node)
            return os.stat(name, dir_fd=at, follow_symlinks=False).st_blocks
        except OSError as exc:
            log.debug("no data of %r: %s", node, exc)
            return 0  # whoever opens it gets the error; it can be listed and removed


def _has_read(tree: "Tree", names: Sequence[bytes]) -> bool:
    """Whether the way along *names* from the root is known without a look at the layers."""
    node: Node | None = tree.root
    for name in names:
        if node is None or node.directory is None:
            return node is None
        node = node.directory.children.get(name)
    return True


def file_path(node: Node) -> bytes:
    """Where lower layers would have the file *node*, from their root."""
    parent, name = node.names[0]
    return join(parent.lower_path(), name)
