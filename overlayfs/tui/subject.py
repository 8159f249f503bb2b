"""What is explored."""

from collections.abc import Callable
from dataclasses import dataclass

from overlayfs.image.config import ImageConfig
from overlayfs.image.digest import Digest
from overlayfs.image.history import Step
from overlayfs.view.image import ImageView


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer, as far as that is known without reading it.

    *diff_id* is None for the upper directory of a mount, *blob_size*, the bytes of the blob
    as it is kept, where nobody says.
    """

    diff_id: Digest | None
    blob_size: int | None = None
    media_type: str = ""


@dataclass(frozen=True, slots=True)
class Subject:
    """An image, or a mount of one, to be explored.

    *title* is what the user called it.  *steps* are those of its history, base first, each
    layer in one of them.  *view* opens its files anew, for the caller to close; a second
    view of a mount shows what it has become.
    """

    title: str
    steps: tuple[Step[Layer], ...]
    view: Callable[[], ImageView]
    config: ImageConfig | None = None
