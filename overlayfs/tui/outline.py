"""The tree as lines: what is open, what is wanted, what is searched for."""

from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from typing import NamedTuple

from overlayfs.printable import printable
from overlayfs.tui.filter import Filter
from overlayfs.tui.node import Node
from overlayfs.tui.scope import Scope


class Row(NamedTuple):
    """One line: a name, and the lines that lead to it from the directories above."""

    node: Node
    guide: str
    is_dir: bool
    is_open: bool


class Outline:
    """The lines of the tree beneath *root*.

    The root is the first line, and what is in it is not indented.  After a change of *scope*,
    *wanted* or *by_size* call ``refresh``; what is open stays so.
    """

    def __init__(self, root: Node, scope: Scope) -> None:
        self.root = root
        self.scope = scope
        self.wanted = Filter()
        self.by_size = False
        self._open: set[Node] = {root}
        self.rows: list[Row] = []
        self._places: dict[Node, int] = {}
        self._kept: set[Node] | None = None
        self._all: list[Node] = []
        self._order: dict[Node, int] = {}
        self.refresh()

    def refresh(self) -> None:
        """The lines anew, after anything that decides about them was changed."""
        self._all, self._order = [], {}
        self._kept = None if self.wanted.wants_all else self._filtered()
        self._lay_out()

    def place(self, node: Node) -> int | None:
        """The number of the line of *node*, from 0; None when it has none."""
        return self._places.get(node)

    def nearest(self, node: Node) -> int:
        """The line of *node*, or of the innermost directory above it that has one."""
        for candidate in (node, *node.above()):
            place = self._places.get(candidate)
            if place is not None:
                return place
        return 0

    # -- opening -------------------------------------------------------------------------

    def toggle(self, node: Node) -> None:
        """Open a directory, or close it."""
        if node in self._open:
            self.shut([node])
        else:
            self.unfold([node])

    def unfold(self, nodes: Iterable[Node]) -> None:
        """Open directories."""
        self._open.update(nodes)
        self._lay_out()

    def shut(self, nodes: Iterable[Node]) -> None:
        """Close directories; those in them stay as they are."""
        self._open.difference_update(nodes)
        self._lay_out()

    def unfold_all(self) -> None:
        """Open every directory, those of other trees as well."""
        left = [self.root]
        for node in left:
            left += (child for child in node.children.values() if child.children)
        self.unfold(left)

    def shut_all(self) -> None:
        """Close every directory but the root."""
        self._open = {self.root}
        self._lay_out()

    def reveal(self, node: Node) -> bool:
        """Open what is above *node*, so that it has a line; False when the tree has it not."""
        if self.scope.version(node) is None or not self._is_kept(node):
            return False
        self.unfold(node.above())
        return node in self._places

    # -- searching -------------------------------------------------------------------------

    def everything(self) -> list[Node]:
        """All that would have a line if every directory were open, in that order."""
        if not self._all:
            self._all = list(self._walk())
            self._order = {node: place for place, node in enumerate(self._all)}
        return self._all

    def search(
        self, text: str, start: Node, *, back: bool = False, also: bool = False
    ) -> Node | None:
        """The next name behind *start* with *text* in it, from the top again at the end.

        *also* lets it be *start* itself, *back* looks the other way.  Upper-case letters in
        *text* count only if there are any; a slash looks at paths; ``*`` and ``?`` make
        it a pattern for all of the name.
        """
        if not text:
            return None
        order = self.everything()
        at = self._order.get(start, 0)
        if back:
            turn = [*range(at - 1, -1, -1), *range(len(order) - 1, at, -1)]
        else:
            turn = [*range(at + 1, len(order)), *range(at)]
        turn = [at, *turn] if also else [*turn, at]
        matches = _Search(text)
        return next((order[place] for place in turn if matches(order[place])), None)

    # -- how it is done ----------------------------------------------------------------------

    def _is_dir(self, node: Node) -> bool:
        return self.scope.entry(node).is_dir

    def _is_kept(self, node: Node) -> bool:
        return self._kept is None or node in self._kept

    def _children(self, node: Node) -> list[Node]:
        children = [child for child in self.scope.children(node) if self._is_kept(child)]
        if self.by_size:
            children.sort(key=self.scope.size, reverse=True)
        return children

    def _walk(self) -> Iterator[Node]:
        left = [self.root]
        while left:
            node = left.pop()
            yield node
            if node.children:
                left += reversed(self._children(node))

    def _filtered(self) -> set[Node]:
        """What is wanted, and the directories that lead there."""
        kept = {self.root}
        left = [self.root]
        while left:
            node = left.pop()
            children = list(self.scope.children(node)) if node.children else []
            left += children
            for child in children:
                if self.wanted.wants(self.scope, child):
                    while child not in kept:
                        kept.add(child)
                        assert child.parent is not None
                        child = child.parent
        return kept

    def _lay_out(self) -> None:
        rows: list[Row] = []
        if self.scope.version(self.root) is not None:
            is_open = self.root in self._open
            rows.append(Row(self.root, "", is_dir=True, is_open=is_open))
            if is_open:
                self._lay_out_beneath(rows)
        self.rows = rows
        self._places = {row.node: place for place, row in enumerate(rows)}

    def _lay_out_beneath(self, rows: list[Row]) -> None:
        # Directories may be deeper than Python's stack.  What is in the root has no guide.
        left = [(child, "", "") for child in reversed(self._children(self.root))]
        while left:
            node, guide, beneath = left.pop()
            is_dir = self._is_dir(node)
            is_open = is_dir and node in self._open
            rows.append(Row(node, guide, is_dir, is_open))
            if is_open:
                children = self._children(node)
                inner = [(child, beneath + "├─ ", beneath + "│  ") for child in children[:-1]]
                inner += [(child, beneath + "└─ ", beneath + "   ") for child in children[-1:]]
                left += reversed(inner)


class _Search:
    """Whether a name is what *text* looks for; see ``Outline.search``."""

    def __init__(self, text: str) -> None:
        self._folds = text == text.lower()
        self._whole_path = "/" in text
        self._text = text
        self._is_pattern = "*" in text or "?" in text

    def __call__(self, node: Node) -> bool:
        name = printable(b"/" + node.path) if self._whole_path else printable(node.name)
        if self._folds:
            name = name.lower()
        return fnmatchcase(name, self._text) if self._is_pattern else self._text in name
