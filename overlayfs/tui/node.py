"""A name of an image, and what each layer did to it."""

from collections import defaultdict
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from overlayfs.union.attrs import Kind
from overlayfs.view.entry import Entry

if TYPE_CHECKING:
    from collections.abc import Iterator


class Change(StrEnum):
    """What a layer did to a name; ``kept`` is a directory that it has and leaves as it was."""

    ADDED = "added"
    CHANGED = "changed"
    REMOVED = "removed"
    KEPT = "kept"


class Version(NamedTuple):
    """What a name is from *layer* on; *entry* is None once it is removed.

    *opaque* says of a directory that it hides all that the layers below have in it.
    """

    layer: int
    change: Change
    entry: Entry | None
    opaque: bool = False


class Totals:
    """What all beneath a directory, and itself, come to.

    By layer: *grown* is by how many bytes it becomes bigger or smaller, *brought* how many
    bytes of files the layer has in it, *counts* how many names it changed, by change.
    """

    __slots__ = ("brought", "counts", "grown")

    def __init__(self) -> None:
        self.grown: dict[int, int] = defaultdict(int)
        self.brought: dict[int, int] = defaultdict(int)
        self.counts: dict[int, dict[Change, int]] = {}

    def count(self, layer: int, change: Change) -> None:
        """One name more that *layer* changed so."""
        counts = self.counts.setdefault(layer, {})
        counts[change] = counts.get(change, 0) + 1


class Node:
    """A name in the directory *parent*; the root of an image has none.

    *versions* come with the layers, base first, and are never empty once a layer was read.
    *children* has every name that any layer has in it.  *wasted* is how many bytes of files
    beneath, or of its own, are in a layer and not in the image.
    """

    __slots__ = ("_sorted", "children", "name", "parent", "totals", "versions", "wasted")

    def __init__(self, name: bytes, parent: "Node | None") -> None:
        self.name = name
        self.parent = parent
        self.children: dict[bytes, Node] = {}
        self.versions: tuple[Version, ...] = ()
        self.totals: Totals | None = None
        self.wasted = 0
        self._sorted: tuple[Node, ...] = ()

    @property
    def path(self) -> bytes:
        """From the root, without a slash in front; the root is ``b""``."""
        return b"/".join(node.name for node in reversed((self, *self.above())) if node.parent)

    def above(self) -> "Iterator[Node]":
        """The directories that it is in, innermost first, the root last."""
        node = self.parent
        while node is not None:
            yield node
            node = node.parent

    def by_name(self) -> "tuple[Node, ...]":
        """The children in the order of their names."""
        if len(self._sorted) != len(self.children):
            self._sorted = tuple(self.children[name] for name in sorted(self.children))
        return self._sorted

    def at(self, layer: int) -> Version | None:
        """What it is in the tree up to *layer*; None before it came."""
        for version in reversed(self.versions):
            if version.layer <= layer:
                return version
        return None

    def of(self, layer: int) -> Version | None:
        """What *layer* alone did to it; None for nothing."""
        version = self.at(layer)
        return version if version is not None and version.layer == layer else None

    def hidden_by(self, layer: int) -> Version | None:
        """What a later layer than *layer* replaced or removed it with; None where it stays."""
        for version in self.versions:
            if version.layer > layer and version.change is not Change.KEPT:
                return version
        return None

    # -- sizes ---------------------------------------------------------------------------

    def size_at(self, layer: int) -> int:
        """Its bytes in the tree up to *layer*, those beneath it included."""
        version = self.at(layer)
        if version is None or version.entry is None:
            return 0
        if self.totals is None or not version.entry.is_dir:
            return own_size(version.entry)
        return sum(size for number, size in self.totals.grown.items() if number <= layer)

    def size_of(self, layer: int) -> int:
        """The bytes that *layer* alone has at it and beneath it."""
        if self.totals is not None and layer in self.totals.brought:
            return self.totals.brought[layer]
        version = self.of(layer)
        return own_size(version.entry) if version else 0

    def counts_of(self, layer: int) -> dict[Change, int]:
        """How many names at it and beneath it *layer* changed, by change."""
        # A directory may have been a file before, which counted for itself alone.
        if self.totals is not None and layer in self.totals.counts:
            return self.totals.counts[layer]
        version = self.of(layer)
        return {version.change: 1} if version and version.change is not Change.KEPT else {}


def own_size(entry: Entry | None) -> int:
    """The bytes of a regular file; nothing else has any."""
    return entry.size if entry is not None and entry.kind is Kind.FILE else 0
