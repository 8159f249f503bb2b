"""The explorer, driven as by a person: keys in, what is on the screen out."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from textual import events
from textual.content import Content
from textual.pilot import Pilot
from textual.widgets import Input, Static

from overlayfs.cli.explore import subject
from overlayfs.tui.background import Failure
from overlayfs.tui.columns import heading
from overlayfs.tui.explorer import Explorer
from overlayfs.tui.page import Page
from overlayfs.tui.subject import Subject


class Driven(Explorer):
    """The explorer without a terminal: there is none to lend to a pager."""

    def suspend(self) -> AbstractContextManager[None]:  # type: ignore[override]  # as it is used
        return nullcontext()


class Person:
    """Presses keys, and looks when all that follows from them is done."""

    def __init__(self, app: Driven, pilot: Pilot[Failure]) -> None:
        self.app = app
        self.pilot = pilot

    async def press(self, *keys: str) -> None:
        """One key after the other; a word of several letters is a key by its name."""
        for key in keys:
            await self.pilot.press(key)
            await self.settle()

    async def type(self, text: str) -> None:
        """A text, letter by letter."""
        for letter in text:
            await self.pilot.press(_NAMES.get(letter, letter))
        await self.settle()

    async def paste(self, text: str) -> None:
        """A text at once, into the field that has the focus."""
        await self.settle()
        focused = self.app.focused
        assert isinstance(focused, Input)
        focused.post_message(events.Paste(text))
        await self.settle()

    async def settle(self) -> None:
        """Wait for what goes on beside the screen."""
        settled = False
        while not settled:
            await self.app.background.idle.wait()
            await self.pilot.pause()
            settled = self.app.background.idle.is_set()

    # -- what is to be seen ------------------------------------------------------------------

    def names(self) -> list[str]:
        """The names in the tree, indented by two for each level, with their mark in front."""
        outline = self.app.outline
        assert outline is not None
        lines = []
        tree = self.app.file_tree
        before = heading(200, tree.options).plain.index("name")
        for number, row in enumerate(outline.rows):
            text = tree.draw(number, 200).plain
            depth = sum(1 for _ in row.node.above())
            name = text.split("─ ")[-1] if "─ " in text else text[before:]
            lines.append(f"{text[:2].rstrip():<2} {'  ' * max(depth - 1, 0)}{name}".rstrip())
        return lines

    def shown(self) -> list[str]:
        """The paths that have a line."""
        assert self.app.outline is not None
        return ["/" + os.fsdecode(row.node.path) for row in self.app.outline.rows]

    @property
    def selected(self) -> str:
        """The path under the cursor of the tree."""
        node = self.app.file_tree.node
        assert node is not None
        return "/" + os.fsdecode(node.path)

    @property
    def title(self) -> str:
        """Which tree is shown."""
        return _plain(self.app.query_one("#files").border_title)

    @property
    def state(self) -> str:
        """What is filtered, sorted and searched."""
        return _plain(self.app.query_one("#files").border_subtitle)

    @property
    def details(self) -> str:
        """The panel with what is known."""
        return str(self.app.query_one("#details", Static).content)

    @property
    def bar(self) -> str:
        """The last line."""
        return str(self.app.query_one("#bar", Static).content)

    @property
    def page(self) -> str:
        """The page over the screen."""
        assert isinstance(self.app.screen, Page)
        return str(self.app.screen.query_one(Static).content)

    def screen(self) -> list[str]:
        """Every line that is drawn, as a terminal has it."""
        compositor = self.app.screen._compositor
        return ["".join(segment.text for segment in strip) for strip in compositor.render_strips()]


_NAMES = {"/": "slash", "*": "asterisk", " ": "space", ".": "full_stop", "_": "underscore"}
_NAMES |= {"[": "left_square_bracket", "]": "right_square_bracket", "-": "minus"}
_NAMES |= {",": "comma", "?": "question_mark", "~": "tilde", "+": "plus"}


def _plain(title: object) -> str:
    return Content.from_markup(str(title)).plain if title else ""


def explore(
    image: str | Path,
    what: Callable[[Person], Awaitable[None]],
    *,
    store: Path | None = None,
    size: tuple[int, int] = (120, 40),
    environ: dict[str, str] | None = None,
) -> Failure | None:
    """Let *what* drive the explorer of *image*; what the explorer returned."""
    with subject(store, str(image), None) as found:
        return explore_subject(found, what, size=size, environ=environ)


def explore_subject(
    found: Subject,
    what: Callable[[Person], Awaitable[None]],
    *,
    size: tuple[int, int] = (120, 40),
    environ: dict[str, str] | None = None,
) -> Failure | None:
    """The same for what is found already."""

    async def drive() -> Failure | None:
        app = Driven(found, dict(os.environ) if environ is None else environ)
        async with app.run_test(size=size) as pilot:
            person = Person(app, pilot)
            await person.settle()
            await what(person)
        return app.return_value

    return asyncio.run(drive())
