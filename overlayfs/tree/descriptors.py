"""Open directories of the layers."""

import errno
import os
from collections import OrderedDict

from overlayfs.layers.lower import Layer
from overlayfs.tree.node import Node
from overlayfs.tree.numbers import ROOT


class DirectoryDescriptors:
    """Open directories of the layers, the least recently used closed when too many."""

    def __init__(self, limit: int) -> None:
        self._limit = max(limit, 64)
        self._open: OrderedDict[tuple[int, int], int] = OrderedDict()

    def get(self, node: Node, layer: Layer) -> int:
        """A descriptor of the part of *node* in *layer*, good until the next await."""
        if node.parent is None:
            if node.ino != ROOT:
                raise OSError(errno.ESTALE, "unlinked")
            return layer.root
        key = (node.ino, layer.number)
        fd = self._open.get(key)
        if fd is None:
            fd = layer.open_dir(node.path_beneath(layer.number + 1))
            self._open[key] = fd
            if len(self._open) > self._limit:
                os.close(self._open.popitem(last=False)[1])
        else:
            self._open.move_to_end(key)
        return fd

    def drop(self, node: Node) -> None:
        """Close what is open of *node*."""
        for layer in node.stack:
            fd = self._open.pop((node.ino, layer.number), None)
            if fd is not None:
                os.close(fd)

    def close(self) -> None:
        """Close everything."""
        while self._open:
            os.close(self._open.popitem()[1])
