"""What the words SOURCE, IMAGE and IMAGE:PATH of a command mean.

An image is one in a file or a directory, or one in the store.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from overlayfs.archive.location import Location, Transport
from overlayfs.errors import ImageNotFound, InvalidImage
from overlayfs.image.platform import Platform
from overlayfs.printable import printable
from overlayfs.store.store import Store, StoredImage

if TYPE_CHECKING:
    from overlayfs.image.config import ImageConfig
    from overlayfs.image.source import ImageSource
    from overlayfs.view.image import ImageView

TRANSPORTS = tuple(f"{transport}:" for transport in Transport)


def find_image(store: Store, source: str, platform: Platform | None = None) -> StoredImage:
    """The image *source* in *store*, unpacked into it first when it is a file or directory.

    A path that exists goes before a name in the store; what cannot be a name is a path.
    """
    if not is_path(source):
        return _stored(store, source)
    # What reads archives takes longer to import than an image of the store to mount.
    from overlayfs.archive.detect import open_image
    from overlayfs.cli import progress

    with (
        open_image(source, platform=platform, scratch=store.scratch) as image,
        progress.shown(source) as shown,
    ):
        try:
            return store.add(image, progress=shown)
        except InvalidImage as exc:
            # The store knows layers, but not the file that they come from.
            raise InvalidImage(f"{source}: {exc.message}", hint=exc.hint) from exc


@contextmanager
def opened(
    root: Path | None, image: str, platform: Platform | None = None
) -> "Iterator[StoredImage | ImageSource]":
    """The image *image*, for commands that only read: a file is not taken into the store.

    *root* is the store, None the default one; *platform* chooses from what a file offers.
    """
    if not is_path(image):
        yield _stored(Store.open(root), image)
        return
    from overlayfs.archive.detect import open_image

    with open_image(image, platform=platform, scratch=scratch()) as source:
        yield source


@contextmanager
def viewed(
    root: Path | None, image: str, platform: Platform | None = None
) -> "Iterator[ImageView]":
    """The files of the image *image*, by path; otherwise as ``opened``."""
    with described(root, image, platform) as (view, _):
        yield view


@contextmanager
def described(
    root: Path | None, image: str, platform: Platform | None = None
) -> "Iterator[tuple[ImageView, ImageConfig]]":
    """The files of the image *image*, and its configuration; otherwise as ``opened``."""
    with opened(root, image, platform) as found:
        view, config = view_of(found, image)
        with view:
            yield view, config


def view_of(found: "StoredImage | ImageSource", image: str) -> "tuple[ImageView, ImageConfig]":
    """The files of what ``opened`` gave for *image*, and its configuration."""
    from overlayfs.image.config import ImageConfig
    from overlayfs.view import opening

    if isinstance(found, StoredImage):
        return opening.of_stored(found), found.config
    what = printable(image)
    config = ImageConfig.parse(found.config, f"{what}: configuration")
    return opening.of_source(found, what=what, scratch=scratch()), config


def scratch() -> Path:
    """Where to unpack what cannot be read as it is, without touching a store.

    The disk rather than /tmp, which may be memory: whole layers go there.
    """
    return Path(os.environ.get("TMPDIR") or "/var/tmp")


def _stored(store: Store, name: str) -> StoredImage:
    try:
        return store.image(name)
    except ImageNotFound as exc:
        raise ImageNotFound(
            f"{name}: no such file, and no image of that name in the store {store.root}",
            hint="`pyoverlay images` lists the images in the store",
        ) from exc


def image_path(text: str) -> tuple[str, bytes | None]:
    """The image and the path in it that ``IMAGE:PATH`` names; the path None for ``IMAGE``.

    The path begins at the last colon that a slash follows; a transport's colon is none.
    """
    image, colon, path = text.rpartition(":/")
    if not colon or not image or f"{image}:" in TRANSPORTS:
        return text, None
    return image, b"/" + os.fsencode(path)


def image_paths(words: Sequence[str]) -> list[tuple[str, bytes]]:
    """The images and paths of ``IMAGE:PATH...`` and of ``IMAGE PATH...``.

    The path is the root where none is given.
    """
    image, path = image_path(words[0])
    if path is None and len(words) > 1:
        return [(image, os.fsencode(word)) for word in words[1:]]
    pairs = (image_path(word) for word in words)
    return [(image, b"/" if path is None else path) for image, path in pairs]


def is_path(source: str) -> bool:
    """Whether *source* is a path, with or without a choice of image behind it.

    A directory that is no image, and that merely happens to be called like one, is not meant.
    """
    if source.startswith(("/", "./", "../", *TRANSPORTS)):
        return True
    location = Location.parse(source)
    if location is None:
        return False
    return not location.path.is_dir() or any(
        (location.path / name).exists() for name in ("index.json", "manifest.json", "repositories")
    )
