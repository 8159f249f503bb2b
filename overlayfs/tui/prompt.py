"""A question in the last line of the screen."""

from collections.abc import Callable
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.widgets import Input, Static


class Prompt(Horizontal):
    """Asks for a line, if it is asked to; otherwise it is not to be seen."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "cancel", show=False),
        # There is nothing to go to.
        Binding("tab,shift+tab", "nothing", show=False),
    ]
    DEFAULT_CSS = """
    Prompt { height: 1; display: none; }
    Prompt Static { width: auto; text-style: bold; }
    Prompt Input { width: 1fr; }
    """

    def __init__(self, *, id: str) -> None:  # noqa: A002  # as all widgets call it
        super().__init__(id=id)
        self._changed: Callable[[str], None] = _nothing
        self._done: Callable[[str], None] = _nothing
        self._cancelled: Callable[[], None] = lambda: None

    def compose(self) -> ComposeResult:
        yield Static(markup=False)
        yield Input(compact=True, select_on_focus=False)

    def ask(
        self,
        question: str,
        value: str = "",
        *,
        done: Callable[[str], None],
        changed: Callable[[str], None] | None = None,
        cancelled: Callable[[], None] | None = None,
    ) -> None:
        """Ask *question*, offering *value*.

        *changed* is called with what was typed so far, *done* with the line, *cancelled* when
        the user gives none.
        """
        self._changed, self._done = changed or _nothing, done
        self._cancelled = cancelled or (lambda: None)
        self.query_one(Static).update(f"{question} ")
        field = self.query_one(Input)
        with self.prevent(Input.Changed):
            field.value = value
        field.cursor_position = len(value)
        self.display = True
        field.focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Another letter."""
        event.stop()
        if self.display:
            self._changed(event.value)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """The answer."""
        event.stop()
        # A second Enter may come before the focus is elsewhere.
        if self.display:
            self._close()
            self._done(event.value)

    def action_cancel(self) -> None:
        """No answer."""
        self._close()
        self._cancelled()

    def _close(self) -> None:
        self.display = False


def _nothing(text: str) -> None:
    """Nobody wants to know."""
