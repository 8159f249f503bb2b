"""The tree of files."""

from typing import ClassVar

from rich.text import Text
from textual.binding import Binding, BindingType

from overlayfs.tui.columns import Options, file_line, shift_for
from overlayfs.tui.lines import Lines
from overlayfs.tui.node import Node
from overlayfs.tui.outline import Outline


class FileTree(Lines):
    """The lines of an outline; nothing as long as there is none."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "turn", "open or close", show=False),
        Binding("right", "unfold", "open", show=False),
        Binding("left", "shut", "close, or go up", show=False),
        Binding("plus,asterisk", "unfold_all", "open all", show=False),
        Binding("minus,ctrl+space,ctrl+@", "shut_all", "close all", show=False),
    ]

    def __init__(self, *, id: str) -> None:  # noqa: A002  # as all widgets call it
        super().__init__(id=id)
        self.outline: Outline | None = None
        self.options = Options()

    @property
    def node(self) -> Node | None:
        """What the cursor is on."""
        if self.outline is None or not self.outline.rows:
            return None
        return self.outline.rows[self.cursor].node

    def show(self, outline: Outline) -> None:
        """Show *outline*, the cursor on its root."""
        self.outline = outline
        self._update(outline.root)

    def keep(self, node: Node) -> None:
        """After a change of the outline: the cursor on *node*, or on what is above it."""
        self._update(node)

    def reveal(self, node: Node) -> bool:
        """Open what is above *node* and go there; False when the tree has it not."""
        assert self.outline is not None
        if not self.outline.reveal(node):
            return False
        before = self.node
        self._update(node)
        if before is not node:
            self.post_message(self.Moved(self))
        return True

    def set_options(self, options: Options) -> None:
        """Draw something else beside the names."""
        self.options = options
        self.refresh()

    def _update(self, node: Node) -> None:
        assert self.outline is not None
        self.recount(len(self.outline.rows), self.outline.nearest(node))

    # -- keys ------------------------------------------------------------------------------

    def action_turn(self) -> None:
        """Open the directory under the cursor, or close it."""
        if self.outline is not None and (node := self.node) is not None:
            self.outline.toggle(node)
            self._update(node)

    def action_unfold(self) -> None:
        """Open the directory under the cursor; go into one that is open."""
        if self.outline is None or self.node is None:
            return
        row = self.outline.rows[self.cursor]
        if row.is_open:
            self.go(self.cursor + 1)
        elif row.is_dir:
            self.action_turn()

    def action_shut(self) -> None:
        """Close the directory under the cursor; from anything else go to where it is."""
        if self.outline is None or self.node is None:
            return
        if self.outline.rows[self.cursor].is_open and self.node.parent:
            self.action_turn()
        elif self.node.parent is not None:
            self.go(self.outline.nearest(self.node.parent))

    def action_unfold_all(self) -> None:
        """Open every directory."""
        if self.outline is not None and (node := self.node) is not None:
            self.outline.unfold_all()
            self._update(node)

    def action_shut_all(self) -> None:
        """Close every directory."""
        if self.outline is not None and (node := self.node) is not None:
            self.outline.shut_all()
            self._update(node)

    # -- drawing -----------------------------------------------------------------------------

    def draw(self, number: int, width: int) -> Text:
        assert self.outline is not None
        rows = self.outline.rows
        shift = shift_for(rows[self.cursor], width, self.options)
        return file_line(rows[number], self.outline.scope, width, self.options, shift)
