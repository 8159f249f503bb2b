"""Open directories of the layers."""

import errno
import os
from collections import OrderedDict

from overlayfs.layers.lower import Layer
from overlayfs.tree.node import Node
from overlayfs.tree.numbers import ROOT

_NOTHING = (None, None, -1)


class DirectoryDescriptors:
    """Open directories of the layers, the least recently used closed when too many."""

    def __init__(self, limit: int) -> None:
        self._limit = max(limit, 64)
        self._open: OrderedDict[tuple[int, int], int] = OrderedDict()
        # What was asked for last, as it is by each of the files in a directory.
        self._last: tuple[Node | None, Layer | None, int] = _NOTHING

    def get(self, node: Node, layer: Layer) -> int:
        """A descriptor of the part of *node* in *layer*, good until the next await."""
        last, its, fd = self._last
        if node is last and layer is its:
            return fd
        if node.parent is None:
            if node.ino != ROOT:
                raise OSError(errno.ESTALE, "unlinked")
            return layer.root
        key = (node.ino, layer.number)
        known = self._open.get(key)
        if known is None:
            fd = self._open[key] = layer.open_dir(node.path_beneath(layer.number + 1))
            if len(self._open) > self._limit:
                os.close(self._open.popitem(last=False)[1])
        else:
            fd = known
            self._open.move_to_end(key)
        self._last = (node, layer, fd)
        return fd

    def drop(self, node: Node) -> None:
        """Close what is open of *node*."""
        if node is self._last[0]:
            self._last = _NOTHING
        for layer in node.stack:
            fd = self._open.pop((node.ino, layer.number), None)
            if fd is not None:
                os.close(fd)

    def close(self) -> None:
        """Close everything."""
        self._last = _NOTHING
        while self._open:
            os.close(self._open.popitem()[1])
