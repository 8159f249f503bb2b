"""Which layer the files of the tree are from."""

from collections.abc import Mapping

from overlayfs.layers.lower import Layer
from overlayfs.tree.node import Node
from overlayfs.tree.numbers import layer_of
from overlayfs.union.attrs import Kind
from overlayfs.union.provenance import LAYER, NAMES, Labels

_NOTHING: Mapping[bytes, bytes] = {}


class Provenance:
    """Extended attributes that no layer has, beneath *upper* if there is one.

    Without *labels* there are none.
    """

    def __init__(self, labels: Labels | None, upper: Layer | None) -> None:
        self.names: frozenset[bytes] = NAMES if labels is not None else frozenset()
        self._labels = labels or {}
        self._upper = upper

    def value(self, node: Node, name: bytes) -> bytes | None:
        """What *node* says by *name*, one of ``names``; None when there is nothing to say.

        What is in the upper layer is labelled so, and else says where the file that it is a
        copy of came from.
        """
        if node.layer is self._upper and name == LAYER:
            return b"upper"
        return self._labels.get(self._origin(node), _NOTHING).get(name)

    def _origin(self, node: Node) -> int:
        """The number of the layer that *node* is from, one without labels if that is no lower."""
        if node.layer is not self._upper:
            return node.layer.number
        if node.kind is not Kind.DIRECTORY:
            return layer_of(node.number)
        return next((layer.number for layer in node.stack if layer is not self._upper), 0)
