"""Models of images that are made for a test, entry by entry."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from overlayfs.archive.detect import open_image
from overlayfs.tui.model import Model
from overlayfs.tui.node import Node
from overlayfs.view.image import ImageView
from overlayfs.view.opening import of_source
from tests.support.archives import Made, from_1_10, write_tar
from tests.support.layers import Item, tar


@contextmanager
def viewed(folder: Path, *layers: bytes) -> Iterator[ImageView]:
    """An image of these tars, which lies in *folder*."""
    archive = write_tar(folder / "image.tar", from_1_10([(Made(layers), ["app:1"])]))
    with (
        open_image(str(archive), scratch=folder) as source,
        of_source(source, what="image", scratch=folder) as view,
    ):
        yield view


def model_of(folder: Path, *layers: tuple[Item, ...]) -> Model:
    """The model of an image of these layers."""
    with viewed(folder, *(tar(*items) for items in layers)) as view:
        return Model.of(view.parts)


def node(model: Model, path: bytes) -> Node:
    """The name *path*, which is there."""
    found = model.find(path)
    assert found is not None, path
    return found
