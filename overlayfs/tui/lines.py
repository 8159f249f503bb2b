"""A list with a cursor, of which only the lines that are seen are drawn."""

from typing import ClassVar

from rich.text import Text
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip


class Lines(ScrollView, can_focus=True):
    """Numbered lines, from 0; those who inherit say what stands in one."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"lines--cursor"}
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "up", show=False),
        Binding("down,j", "move(1)", "down", show=False),
        Binding("pageup,ctrl+b", "page(-1)", "page up", show=False),
        Binding("pagedown", "page(1)", "page down", show=False),
        Binding("home,g", "first", "first", show=False),
        Binding("end,G", "last", "last", show=False),
    ]
    DEFAULT_CSS = """
    Lines { overflow-x: hidden; scrollbar-size-vertical: 1; }
    Lines > .lines--cursor { background: $surface-lighten-2; }
    Lines:focus > .lines--cursor { background: $block-cursor-background; text-style: bold; }
    """

    class Moved(Message):
        """The cursor of *lines* is on another line."""

        def __init__(self, lines: "Lines") -> None:
            super().__init__()
            self.lines = lines

        @property
        def control(self) -> "Lines":
            return self.lines

    class Chosen(Message):
        """The line under the cursor was clicked."""

    def __init__(self, *, id: str) -> None:  # noqa: A002  # as all widgets call it
        super().__init__(id=id)
        self.cursor = 0
        self.count = 0

    def draw(self, number: int, width: int) -> Text:
        """The line *number*, for *width* cells."""
        raise NotImplementedError

    # -- for those who inherit ---------------------------------------------------------------

    def recount(self, count: int, cursor: int) -> None:
        """There are *count* lines now, and the cursor is on the one that *cursor* says."""
        self.count = count
        self.virtual_size = Size(0, count)
        self.cursor = max(0, min(cursor, count - 1))
        self._follow()
        self.refresh()

    def go(self, number: int) -> None:
        """Move the cursor, as far as there are lines."""
        wanted = max(0, min(number, self.count - 1))
        if wanted == self.cursor:
            return
        self.cursor = wanted
        self._follow()
        self.refresh()
        self.post_message(self.Moved(self))

    # -- keys and mouse ------------------------------------------------------------------------

    def action_move(self, by: int) -> None:
        """Some lines further."""
        self.go(self.cursor + by)

    def action_page(self, by: int) -> None:
        """A page further."""
        self.go(self.cursor + by * max(1, self.scrollable_content_region.height - 1))

    def action_first(self) -> None:
        """To the first line."""
        self.go(0)

    def action_last(self) -> None:
        """To the last line."""
        self.go(self.count - 1)

    def on_click(self, event: events.Click) -> None:
        """Go to the line; a second click there chooses it."""
        number = event.y - self.gutter.top + self.scroll_offset.y
        if not 0 <= number < self.count:
            return
        if number == self.cursor:
            self.post_message(self.Chosen())
        else:
            self.go(number)

    # -- drawing -----------------------------------------------------------------------------

    def render_line(self, y: int) -> Strip:
        """One line of what is seen."""
        number = self.scroll_offset.y + y
        width = self.scrollable_content_region.width
        style = self.rich_style
        if number >= self.count:
            return Strip.blank(width, style)
        if number == self.cursor:
            style += self.get_component_rich_style("lines--cursor")
        segments = self.draw(number, width).render(self.app.console)
        return Strip(segments).apply_style(style).adjust_cell_length(width, style)

    def on_resize(self) -> None:
        """Keep the cursor in sight."""
        self._follow()

    def _follow(self) -> None:
        self.scroll_to_region(
            Region(0, self.cursor, 1, 1), animate=False, force=True, immediate=True
        )
