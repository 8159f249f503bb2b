"""Views of what the rest of the package calls an image."""

import io
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from overlayfs.image.digest import Digest
from overlayfs.view.image import ImageView

if TYPE_CHECKING:
    from overlayfs.image.descriptor import Descriptor
    from overlayfs.image.source import ImageSource, LayerSource
    from overlayfs.store.mounts import Record
    from overlayfs.store.store import StoredImage
    from overlayfs.union.names import Format
    from overlayfs.view.part import Part

# What reads archives and what reads directories is imported where it is needed.


def of_source(source: "ImageSource", *, what: str, scratch: Path) -> ImageView:
    """The image *source*, read where it is; nothing is read before something is asked for.

    *what* begins messages.  A layer that is compressed, and of which more than one body is
    opened, is unpacked in *scratch*, into a file without a name.  *source* must stay open for
    as long as the view; bodies outlive both.
    """
    return of_layers(source.layers, what=what, scratch=scratch)


def of_layers(layers: "Sequence[LayerSource]", *, what: str, scratch: Path) -> ImageView:
    """The image of *layers*, base first; otherwise as ``of_source``."""
    from overlayfs.view.archived import ArchivedPart

    parts: list[Part] = []
    for number, layer in enumerate(layers or (_Nothing(),), 1):
        below = ImageView(parts)
        parts.append(ArchivedPart(layer, number, below, what=what, scratch=scratch))
    return ImageView(parts)


def of_stored(image: "StoredImage") -> ImageView:
    """The image *image* of a store, from its unpacked layers."""
    if not image.layers:
        return of_layers((), what="", scratch=Path())
    layers = [(layer.path, layer.diff_id) for layer in image.layers]
    return _unpacked(layers, image.format, None)


def of_mount(record: "Record") -> ImageView:
    """What the mount *record* shows: its image, and its upper directory on top, if it has one.

    The upper directory may change while it is looked at.
    """
    from overlayfs.union.names import Format

    upper = Path(record.upper) if record.upper else None
    return _unpacked([(Path(path), None) for path in record.layers], Format(record.format), upper)


def _unpacked(
    layers: Sequence[tuple[Path, Digest | None]], fmt: "Format", upper: Path | None
) -> ImageView:
    from overlayfs.layers.lower import Layer
    from overlayfs.view.unpacked import UnpackedPart

    parts = []
    with ExitStack() as opened:
        for number, (path, diff_id) in enumerate(layers, 1):
            part = UnpackedPart(Layer(path, fmt, number), diff_id, partial(_implied, path))
            opened.callback(part.close)
            parts.append(part)
        if upper is not None:
            # It may say that parts of it are elsewhere, which nothing but a mount can follow.
            parts.append(UnpackedPart(Layer(upper, fmt, len(layers) + 1, follows=True), None))
        opened.pop_all()
    return ImageView(parts)


def _implied(root: Path) -> Collection[bytes]:
    """The implied directories of the unpacked layer at *root*, from the record beside it."""
    from overlayfs.store import paths, records

    known = records.read(paths.record(root.parent), records.LayerRecord)
    return known.implied if known else ()


class _Nothing:
    """The layer of an image that has none: an empty root."""

    diff_id = Digest.of(b"")
    descriptor: "Descriptor | None" = None
    size = 0

    def open(self) -> BinaryIO:
        return io.BytesIO()
