"""The layers of an image laid one over the other, and what each of them changes."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from overlayfs.tui.node import Change, Node, Totals, Version, own_size
from overlayfs.union.attrs import Kind
from overlayfs.view.entry import Entry
from overlayfs.view.part import Part


class Model:
    """Every name that any layer has, beneath *root*, and how it went on; *top* is the last layer.

    *brought* is how many bytes of files each layer has, *wasted* how many of them no later
    tree shows, as a later layer replaced or removed them, and *counts* how many names it
    changed.  Names of one file count once, for as long as one of them is there.
    """

    def __init__(self) -> None:
        self.root = Node(b"", None)
        self.root.totals = Totals()
        self.brought: dict[int, int] = defaultdict(int)
        self.wasted: dict[int, int] = defaultdict(int)
        self.nodes = 1
        self.top = 0
        # The names that a file with several has left, of each layer.
        self._names: dict[tuple[int, int], list[Node]] = {}

    @classmethod
    def of(cls, parts: Iterable[Part]) -> "Model":
        """That of an image with these layers, base first."""
        model = cls()
        for part in parts:
            model.lay(part)
        return model

    @property
    def total(self) -> int:
        """The bytes of files in all layers."""
        return sum(self.brought.values())

    @property
    def efficiency(self) -> float:
        """The part of these that the image shows; 1 when nothing is wasted."""
        total = self.total
        return (total - sum(self.wasted.values())) / total if total else 1.0

    def find(self, path: bytes) -> Node | None:
        """The name *path*, whether the image still has it or not."""
        node: Node | None = self.root
        for name in path.split(b"/") if path else ():
            node = node.children.get(name) if node is not None else None
        return node

    def walk(self) -> Iterator[Node]:
        """All names, directories before what is in them, sorted."""
        left = [self.root]
        while left:
            node = left.pop()
            yield node
            left += reversed(node.by_name())

    # -- one layer more ------------------------------------------------------------------

    def lay(self, part: Part) -> None:
        """Put the layer *part* on top.

        Raises OSError or InvalidImage where it cannot be read.
        """
        self.top = part.number
        entry = part.find(b"")
        assert isinstance(entry, Entry), "every layer has a root"
        left = [_Directory(self.root, b"", entry, alone=False, marked=False)]
        while left:
            left += self._fill(left.pop(), part)

    def _fill(self, here: "_Directory", part: Part) -> Iterator["_Directory"]:
        """A directory and the files in it; gives the directories in it."""
        listing = part.listing(here.path)
        opaque = listing.opaque or here.marked
        self._directory(here, part, opaque=opaque)
        alone = here.alone or opaque
        children = here.node.children
        if alone:
            for name, child in children.items():
                if name not in listing.entries:
                    self._remove(child, part.number)
        above = here.path + b"/" if here.path else b""
        entries: dict[bytes, Entry] = {}
        wanted = []
        for name, found in listing.entries.items():
            if found.kind is None:
                continue
            lent = None
            if found.kind is Kind.DIRECTORY and not alone:
                lent = _lent(children.get(name), part, above + name)
            if lent is None:
                wanted.append(name)
            else:
                entries[name] = lent
        entries |= part.entries(here.path, wanted)
        for name, found in listing.entries.items():
            known = children.get(name)
            if found.kind is None:
                if known is not None:
                    self._remove(known, part.number)
                continue
            if known is None:
                known = children[name] = Node(name, here.node)
                self.nodes += 1
            entry = entries[name]
            if entry.is_dir:
                yield _Directory(known, above + name, entry, alone, found.alone)
            else:
                self._file(known, entry, part.number)

    def _directory(self, here: "_Directory", part: Part, *, opaque: bool) -> None:
        node = here.node
        before = _entry(node)
        if before is None:
            # Every tree has a root.
            change = Change.ADDED if node.parent is not None else Change.KEPT
        elif not before.is_dir:
            change = Change.CHANGED
            self._drop(node, part.number)
        elif part.is_implied(here.path) or _same(before, here.entry):
            change = Change.KEPT
        else:
            change = Change.CHANGED
        if node.totals is None:
            node.totals = Totals()
        self._note(node, Version(part.number, change, here.entry, opaque))

    def _file(self, node: Node, entry: Entry, layer: int) -> None:
        before = _entry(node)
        if before is not None:
            self._drop(node, layer)
        self._note(node, Version(layer, Change.CHANGED if before else Change.ADDED, entry))
        size = own_size(entry)
        if not size:
            return
        if entry.nlink > 1:
            names = self._names.setdefault((layer, entry.file), [])
            names.append(node)
            if len(names) > 1:
                return
        self.brought[layer] += size
        self._grow(node, layer, size)
        for directory in _directories(node):
            directory.brought[layer] += size

    def _remove(self, node: Node, layer: int) -> None:
        """Take away a name and all beneath it, as far as they are there."""
        left = [node]
        while left:
            gone = left.pop()
            before = _entry(gone)
            if before is None:
                continue
            if before.is_dir:
                left += gone.children.values()
            else:
                self._drop(gone, layer)
            self._note(gone, Version(layer, Change.REMOVED, None))

    def _drop(self, node: Node, layer: int) -> None:
        """The bytes of what a file was until *layer*, or a directory with all beneath it."""
        before = _entry(node)
        assert before is not None
        if before.is_dir:
            for child in node.children.values():
                self._remove(child, layer)
            return
        size = own_size(before)
        if not size:
            return
        names = self._names.get((before.layer, before.file)) if before.nlink > 1 else None
        if names:
            counted = names[0] is node
            names.remove(node)
            if not counted:
                return
            if names:
                # It goes on under another name, which stands for it from now on.
                self._grow(names[0], layer, size)
                self._grow(node, layer, -size)
                return
        self._grow(node, layer, -size)
        self.wasted[before.layer] += size
        node.wasted += size
        for directory in node.above():
            directory.wasted += size

    def _grow(self, node: Node, layer: int, size: int) -> None:
        for totals in _directories(node):
            totals.grown[layer] += size

    def _note(self, node: Node, version: Version) -> None:
        node.versions = (*node.versions, version)
        if version.change is Change.KEPT:
            return
        for totals in _directories(node):
            totals.count(version.layer, version.change)


class _Directory(NamedTuple):
    """A directory of a layer that is to be laid on *node*.

    *alone* when nothing of the layers below shows in it, for what is above it or by itself
    (*marked*).
    """

    node: Node
    path: bytes
    entry: Entry
    alone: bool
    marked: bool


def _entry(node: Node) -> Entry | None:
    """What a name is after all layers so far."""
    return node.versions[-1].entry if node.versions else None


def _lent(node: Node | None, part: Part, path: bytes) -> Entry | None:
    """What *part*, a layer that has something in the directory *path*, shows of it.

    None when it has the directory itself, or it was none before.  A part would look for it in
    one layer after the other.
    """
    before = _entry(node) if node is not None else None
    if before is None or not before.is_dir or not part.is_implied(path):
        return None
    return before._replace(layer=part.number)


def _same(before: Entry, after: Entry) -> bool:
    """Whether a directory stayed as it was; its time changes with what is in it."""
    return (before.mode, before.uid, before.gid) == (after.mode, after.uid, after.gid)


def _directories(node: Node) -> Iterator[Totals]:
    """The totals that a name counts in: its own, and those of the directories above."""
    if node.totals is not None:
        yield node.totals
    for directory in node.above():
        assert directory.totals is not None
        yield directory.totals
