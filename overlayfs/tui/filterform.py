"""The form in which a filter is put together."""

from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Grid, Horizontal, Vertical
from textual.screen import ModalScreen
from textual.widgets import Checkbox, Input, Static

from overlayfs.errors import OverlayError
from overlayfs.tui.filter import Filter, parse_size
from overlayfs.tui.node import Change

_CHANGES: tuple[tuple[str, Change | None], ...] = (
    ("added", Change.ADDED),
    ("changed", Change.CHANGED),
    ("removed", Change.REMOVED),
    ("unchanged", None),
)


class Tick(Checkbox):
    """A check box that looks different when it is ticked without colours as well."""

    def on_mount(self) -> None:
        """Begin with what is ticked."""
        self.BUTTON_INNER = "X" if self.value else " "

    def watch_value(self) -> None:
        """Draw the tick, or none."""
        self.BUTTON_INNER = "X" if self.value else " "
        super().watch_value()


class FilterForm(ModalScreen[Filter | None]):
    """Asks for a filter, beginning with *current*; gives None when the user gives up."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "apply", "apply", priority=True, show=False),
        Binding("escape", "dismiss", "give up", show=False),
        Binding("down", "app.focus_next", show=False),
        Binding("up", "app.focus_previous", show=False),
    ]
    DEFAULT_CSS = """
    FilterForm { align: center middle; }
    FilterForm > Vertical {
        width: 60; height: auto; max-height: 100%;
        border: round $primary; background: $surface; padding: 0 1;
    }
    FilterForm Grid { grid-size: 2; grid-rows: 1; height: auto; }
    FilterForm Horizontal { height: 1; }
    FilterForm Horizontal Static { width: 20; }
    FilterForm Input { width: 1fr; background: $boost; }
    FilterForm Checkbox { background: transparent; }
    FilterForm #wrong { color: $error; height: auto; }
    """

    def __init__(self, current: Filter) -> None:
        super().__init__()
        self._current = current

    def compose(self) -> ComposeResult:
        current = self._current
        with Vertical() as form:
            form.border_title = Text("Filter")
            form.border_subtitle = Text("space ticks, enter applies, esc gives up")
            with Grid():
                for name, change in _CHANGES:
                    ticked = change not in current.without
                    yield Tick(name, ticked, id=name, compact=True)
                yield Tick("set-user-ID, -group-ID", current.privileged, id="suid", compact=True)
                yield Tick("hidden by later ones", current.hidden, id="hidden", compact=True)
            with Horizontal():
                yield Static("name (*.py, /etc/*)", markup=False)
                yield Input(current.glob, id="glob", compact=True)
            with Horizontal():
                yield Static("at least (300, 1.5M)", markup=False)
                yield Input(str(current.least or ""), id="least", compact=True)
            yield Static(id="wrong", markup=False)

    def action_apply(self) -> None:
        """Give the filter, if all of it makes sense."""
        try:
            least = parse_size(self.query_one("#least", Input).value)
        except OverlayError as exc:
            self.query_one("#wrong", Static).update(f"{exc.message}: {exc.hint}")
            return
        without = [change for name, change in _CHANGES if not self._is_ticked(name)]
        self.dismiss(
            Filter(
                without=frozenset(without),
                glob=self.query_one("#glob", Input).value.strip(),
                least=least,
                privileged=self._is_ticked("suid"),
                hidden=self._is_ticked("hidden"),
            )
        )

    def _is_ticked(self, name: str) -> bool:
        return self.query_one(f"#{name}", Checkbox).value
