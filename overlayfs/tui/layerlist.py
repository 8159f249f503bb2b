"""The list of layers, with the steps between them that changed no file."""

from collections.abc import Sequence

from rich.style import Style
from rich.text import Text

from overlayfs.image.history import Step
from overlayfs.sizes import size
from overlayfs.tui import words
from overlayfs.tui.columns import DIM
from overlayfs.tui.lines import Lines
from overlayfs.tui.model import Model
from overlayfs.tui.scope import Mode, Scope
from overlayfs.tui.subject import Layer

_SHOWN = Style(color="cyan")
_METADATA = "·"
_NUMBER, _SIZE = 4, 7


class LayerList(Lines):
    """The steps of an image, base first; one of them is chosen."""

    def __init__(self, steps: Sequence[Step[Layer]], *, id: str) -> None:  # noqa: A002  # as above
        super().__init__(id=id)
        self.steps = steps
        self._model: Model | None = None
        self._scope: Scope | None = None
        self.border_title = Text("Layers")

    def on_mount(self) -> None:
        """Begin with the last layer: the tree is that of the image then."""
        self.recount(len(self.steps), len(self.steps) - 1)

    @property
    def chosen(self) -> int:
        """The number of the chosen layer: for a step without one, of the last one before."""
        chosen = self.steps[: self.cursor + 1]
        return max((step.number for step in chosen if step.number is not None), default=1)

    @property
    def step(self) -> Step[Layer] | None:
        """The step under the cursor; None when the image has none."""
        return self.steps[self.cursor] if self.steps else None

    def show(self, model: Model | None, scope: Scope | None) -> None:
        """With the sizes of *model*, and a mark at what is part of *scope*."""
        self._model, self._scope = model, scope
        self.refresh()

    def choose(self, layer: int) -> None:
        """Move the cursor to the layer of that number, if it is not there."""
        if layer == self.chosen:
            return
        places = (place for place, step in enumerate(self.steps) if step.number == layer)
        self.go(next(places, self.cursor))

    def draw(self, number: int, width: int) -> Text:
        step = self.steps[number]
        line = Text(no_wrap=True, end="", overflow="crop")
        line.append("▌" if self._is_shown(step) else " ", _SHOWN)
        command = words.command(step.created_by) or "(no history)"
        if step.number is None:
            line.append(f"{_METADATA:>{_NUMBER - 1}} {'':>{_SIZE}} {command}", DIM)
            return line
        known = size(self._model.brought.get(step.number, 0)) if self._model else "…"
        line.append(f"{step.number:>{_NUMBER - 1}} ").append(f"{known:>{_SIZE}} ").append(command)
        return line

    def _is_shown(self, step: Step[Layer]) -> bool:
        scope = self._scope
        if scope is None or step.number is None:
            return False
        if scope.mode is Mode.ALONE:
            return step.number == scope.layer
        return step.number <= scope.seen
