"""What an image says of its layers, for the commands that tell of them one by one."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from overlayfs.image.config import ImageConfig
from overlayfs.image.descriptor import Descriptor
from overlayfs.image.digest import Digest
from overlayfs.image.history import by_layer
from overlayfs.image.source import ImageSource
from overlayfs.store.store import StoredImage

# So much of a history line is shown in a table.
_SHORT = 60


@dataclass(frozen=True, slots=True)
class LayerFacts:
    """A layer by its *number*, the base being 1; *blob* is None where nobody says."""

    number: int
    diff_id: Digest
    blob: Descriptor | None
    created: str
    created_by: str


def facts_of(
    config: ImageConfig, found: StoredImage | ImageSource | None = None
) -> tuple[LayerFacts, ...]:
    """The layers of an image by its configuration, base first; their blobs are those of *found*."""
    blobs: Sequence[Descriptor | None]
    if found is None:
        blobs = [None] * len(config.diff_ids)
    elif isinstance(found, StoredImage):
        blobs = [layer.blob for layer in found.layers]
    else:
        blobs = [layer.descriptor for layer in found.layers]
    return tuple(_facts(config, blobs))


def _facts(config: ImageConfig, blobs: Sequence[Descriptor | None]) -> Iterator[LayerFacts]:
    steps = by_layer(config.history, config.diff_ids)
    layers = zip(config.diff_ids, blobs, steps, strict=True)
    for number, (diff_id, blob, step) in enumerate(layers, 1):
        created = step.entry.created if step.entry else ""
        yield LayerFacts(number, diff_id, blob, created, step.created_by)


def diff_id(layer: LayerFacts, *, no_trunc: bool) -> str:
    """The diff id for a table."""
    return str(layer.diff_id) if no_trunc else layer.diff_id.hex[:12]


def made_by(layer: LayerFacts, *, no_trunc: bool) -> str:
    """The history line for a table."""
    text = layer.created_by or "-"
    return text if no_trunc or len(text) <= _SHORT else f"{text[: _SHORT - 1]}…"
