"""What each layer of an image adds, changes and removes, and the bytes that nobody sees.

A body that no name of the image shows any more is wasted: whoever has the image has its
layer.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from overlayfs.union.attrs import Kind
from overlayfs.view.entry import Entry
from overlayfs.view.part import Part


class Did(StrEnum):
    """How a layer leaves a path that it does not leave alone."""

    ADDED = "added"
    CHANGED = "changed"
    REMOVED = "removed"


class Change(NamedTuple):
    """What a layer does to a path; *size* is that of the body that it brings, else 0."""

    did: Did
    path: bytes
    size: int


@dataclass(slots=True)
class LayerSum:
    """The changes of the layer *number*, in order, and its bodies, by bytes.

    *wasted* of those do not show at the top of the image.
    """

    number: int
    changes: list[Change] = field(default_factory=list)
    size: int = 0
    wasted: int = 0

    def count(self, did: Did) -> int:
        """How many paths it did that to."""
        return sum(change.did is did for change in self.changes)


class Wasted(NamedTuple):
    """A body of *size* bytes that the layer *layer* brings as *path*, and *lost* hides.

    *did* is how: CHANGED when *path* is another file then.
    """

    path: bytes
    size: int
    layer: int
    lost: int
    did: Did


@dataclass(frozen=True, slots=True)
class Account:
    """What an image spends its bytes on; the bodies of files count, as long as they are.

    *wasted* is sorted, the largest first.
    """

    layers: tuple[LayerSum, ...]
    wasted: tuple[Wasted, ...]

    @property
    def total(self) -> int:
        """All bytes of all layers."""
        return sum(layer.size for layer in self.layers)

    @property
    def waste(self) -> int:
        """Those that do not show."""
        return sum(layer.wasted for layer in self.layers)

    @property
    def efficiency(self) -> float:
        """The part of the bytes that shows; 1 when there are none."""
        return (self.total - self.waste) / self.total if self.total else 1.0


class _Body:
    """A body, with how many names of the image show it."""

    __slots__ = ("layer", "names", "path", "size")

    def __init__(self, path: bytes, size: int, layer: int) -> None:
        self.path = path
        self.size = size
        self.layer = layer
        self.names = 0


class _Node:
    """What the layers so far show at a path; *children* None for all but directories."""

    __slots__ = ("body", "children", "owner")

    def __init__(self) -> None:
        self.children: dict[bytes, _Node] | None = None
        self.body: _Body | None = None
        self.owner = (0, 0, 0)


def account(parts: Sequence[Part]) -> Account:
    """What the layers *parts*, base first, do and waste.

    A file that a layer has again counts as changed, whatever is in it; a directory only with
    another mode or owner, since archives have those that files lie in.  What goes with a
    directory is told path by path.
    """
    union = _Union()
    return Account(
        tuple([union.take(part) for part in parts]),
        tuple(sorted(union.wasted, key=lambda one: (-one.size, one.path, one.layer))),
    )


class _Union:
    """The layers so far."""

    def __init__(self) -> None:
        self.wasted: list[Wasted] = []
        self._root = _Node()
        self._layers: dict[int, LayerSum] = {}

    def take(self, part: Part) -> LayerSum:
        """Put one layer more on top."""
        made = self._layers[part.number] = LayerSum(part.number)
        _Taking(part, made, self).run(self._root)
        made.changes.sort(key=lambda change: change.path.split(b"/"))
        return made

    def lose(self, body: _Body, number: int, did: Did) -> None:
        """The layer *number* takes a name away from *body*."""
        body.names -= 1
        if not body.names and body.size:
            self._layers[body.layer].wasted += body.size
            self.wasted.append(Wasted(body.path, body.size, body.layer, number, did))


class _Taking:
    """One layer on its way into the union."""

    def __init__(self, part: Part, made: LayerSum, union: _Union) -> None:
        self._part = part
        self._made = made
        self._union = union
        self._bodies: dict[int, _Body] = {}
        # What it hides of bodies counts once it is all there: names may move within a layer.
        self._gone: list[tuple[_Body, Did]] = []

    def run(self, root: _Node) -> None:
        """Take all of it."""
        entry = self._part.find(b"")
        assert isinstance(entry, Entry)
        self._set_directory(b"", root, entry)
        left = [self._inside(b"", root, hidden=False)]
        while left:
            found = next(left[-1], None)
            if found is None:
                left.pop()
            else:
                left.append(self._inside(*found[:2], hidden=found[2]))
        for body, did in self._gone:
            self._union.lose(body, self._made.number, did)

    def _inside(
        self, path: bytes, node: _Node, *, hidden: bool
    ) -> Iterator[tuple[bytes, _Node, bool]]:
        """Take the layer's part of a directory; those in it are the caller's to take.

        With *hidden* nothing that was in it before shows.
        """
        listing = self._part.listing(path)
        assert node.children is not None
        before = node.children
        hidden = hidden or listing.opaque
        if hidden:
            node.children = {}
        above = path + b"/" if path else b""
        names = []
        for name, found in listing.entries.items():
            if found.kind is not None:
                names.append(name)
            elif name in before:
                self._remove(above + name, before.pop(name))
        entries = self._part.entries(path, names)
        for name in sorted(names):
            entry = entries[name]
            here = above + name
            known = before.get(name)
            if known is None:
                known = _Node()
            elif hidden:
                del before[name]
            node.children[name] = known
            alone = hidden or listing.entries[name].alone
            self._set(here, known, entry)
            if entry.is_dir:
                yield here, known, alone
        if hidden:
            for name, gone in before.items():
                self._remove(above + name, gone)

    def _set(self, path: bytes, node: _Node, entry: Entry) -> None:
        if entry.is_dir:
            self._set_directory(path, node, entry)
            return
        did = Did.CHANGED if _is_shown(node) else Did.ADDED
        if node.children is not None:
            for name, gone in node.children.items():
                self._remove(path + b"/" + name, gone)
            node.children = None
        self._unlink(node, Did.CHANGED)
        node.owner = _owner(entry)
        size = 0
        if entry.kind is Kind.FILE:
            body = self._bodies.get(entry.file)
            if body is None:
                body = self._bodies[entry.file] = _Body(path, entry.size, entry.layer)
                self._made.size += entry.size
                size = entry.size
            body.names += 1
            node.body = body
        self._made.changes.append(Change(did, path, size))

    def _set_directory(self, path: bytes, node: _Node, entry: Entry) -> None:
        owner = _owner(entry)
        if not _is_shown(node):
            did = Did.ADDED
        elif node.children is None or node.owner != owner:
            did = Did.CHANGED
        else:
            return
        self._unlink(node, Did.CHANGED)
        node.children = node.children if node.children is not None else {}
        node.owner = owner
        if path or did is Did.CHANGED:
            self._made.changes.append(Change(did, path, 0))

    def _remove(self, path: bytes, node: _Node) -> None:
        left = [(path, node)]
        while left:
            path, node = left.pop()
            self._made.changes.append(Change(Did.REMOVED, path, 0))
            self._unlink(node, Did.REMOVED)
            left += [(path + b"/" + name, child) for name, child in (node.children or {}).items()]

    def _unlink(self, node: _Node, did: Did) -> None:
        if node.body is not None:
            self._gone.append((node.body, did))
            node.body = None


def _owner(entry: Entry) -> tuple[int, int, int]:
    return entry.mode, entry.uid, entry.gid


def _is_shown(node: _Node) -> bool:
    """Whether the layers so far have something there; modes have the bits of a type."""
    return node.owner[0] != 0
