"""Which layer each step of an image's history made (image-spec, config.md, "history")."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from overlayfs.image.config import History

L = TypeVar("L")


@dataclass(frozen=True, slots=True)
class Step(Generic[L]):
    """One entry of the history and the layer it made, in whatever form the caller has layers.

    *entry* is None for a layer that the history does not mention.  *layer* is None for an
    entry that changed no file, and for one that says it did when no layer is left for it.
    *number* counts layers, the base is 1; None when there is no layer.
    """

    entry: History | None
    layer: L | None
    number: int | None

    @property
    def metadata_only(self) -> bool:
        """Whether the entry itself says that it changed no file."""
        return self.entry is not None and self.entry.empty_layer

    @property
    def created_by(self) -> str:
        """The command that the entry names, empty when it names none."""
        return self.entry.created_by if self.entry else ""


def paired(history: Iterable[History], layers: Sequence[L]) -> tuple[Step[L], ...]:
    """The steps of an image, base first; every entry and every layer is in just one of them.

    Layers are given out from the base, as Docker and umoci do.  Where the spec's rule (as many
    layers as entries without ``empty_layer``) is broken nothing is refused, since the history
    is for people only: entries too many stay without a layer, layers too many come last.
    """
    numbered = enumerate(layers, 1)
    steps: list[Step[L]] = []
    for entry in history:
        number, layer = (None, None) if entry.empty_layer else next(numbered, (None, None))
        steps.append(Step(entry, layer, number))
    steps += [Step(None, layer, number) for number, layer in numbered]
    return tuple(steps)


def by_layer(history: Iterable[History], layers: Sequence[L]) -> tuple[Step[L], ...]:
    """The steps that made *layers*, one for each, base first."""
    return tuple(step for step in paired(history, layers) if step.number is not None)
