"""Which tree is shown: of one layer, up to one, or of the whole image."""

from collections.abc import Iterator
from enum import StrEnum
from typing import NamedTuple

from overlayfs.tui.node import Change, Node, Version
from overlayfs.view.entry import Entry


class Mode(StrEnum):
    """What of an image is shown, of the layer that is chosen; the values are for people."""

    ALONE = "this layer alone"
    UP_TO = "up to this layer"
    WHOLE = "the whole image"


class Scope(NamedTuple):
    """A tree of an image whose last layer is *top*, seen from the chosen *layer*."""

    mode: Mode
    layer: int
    top: int

    @property
    def seen(self) -> int:
        """The last layer that has a part in the tree."""
        return self.top if self.mode is Mode.WHOLE else self.layer

    def version(self, node: Node) -> Version | None:
        """What is shown of *node*; None when it is not in the tree.

        What the chosen layer removes is shown as removed, unless the image is shown whole.
        """
        if self.mode is Mode.ALONE:
            return node.of(self.layer)
        version = node.at(self.seen)
        if version is None or version.entry is not None:
            return version
        return version if self.mode is Mode.UP_TO and version.layer == self.layer else None

    def entry(self, node: Node) -> Entry:
        """What *node*, which is shown, is; what it was if it is shown as removed."""
        version = self.version(node)
        if version is not None and version.entry is None:
            version = node.at(self.layer - 1)
        assert version is not None, "it is not in the tree"
        assert version.entry is not None, "nothing is removed twice"
        return version.entry

    def change(self, node: Node) -> Change | None:
        """What the chosen layer did to *node*; None for nothing."""
        version = self.version(node)
        if version is None or version.layer != self.layer or version.change is Change.KEPT:
            return None
        return version.change

    def has_changes(self, node: Node) -> bool:
        """Whether the chosen layer changed anything at *node* or beneath it."""
        return bool(node.counts_of(self.layer))

    def hidden_by(self, node: Node) -> Version | None:
        """With what a later layer hides what is shown of *node*; None where it stays."""
        version = self.version(node)
        if version is None or version.entry is None:
            return None
        return node.hidden_by(self.seen)

    def size(self, node: Node) -> int:
        """The bytes of *node* with all beneath it; of what is removed, before that."""
        version = self.version(node)
        if version is not None and version.entry is None:
            return node.size_at(self.layer - 1)
        return node.size_of(self.layer) if self.mode is Mode.ALONE else node.size_at(self.seen)

    def layers(self, node: Node) -> range:
        """The numbers of the layers that make what is shown of *node* and beneath it."""
        version = self.version(node)
        if version is not None and version.entry is None:
            return range(1, self.layer)
        return range(self.layer if self.mode is Mode.ALONE else 1, self.seen + 1)

    def children(self, node: Node) -> Iterator[Node]:
        """What is shown in the directory *node*, by name."""
        return (child for child in node.by_name() if self.version(child) is not None)
