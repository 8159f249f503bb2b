"""What the word SOURCE of a command means: an image in a file, or one in the store."""

from overlayfs.archive.location import Location, Transport
from overlayfs.errors import ImageNotFound, InvalidImage
from overlayfs.image.platform import Platform
from overlayfs.store.store import Store, StoredImage

TRANSPORTS = tuple(f"{transport}:" for transport in Transport)


def find_image(store: Store, source: str, platform: Platform | None = None) -> StoredImage:
    """The image *source* in *store*, unpacked into it first when it is a file or directory.

    A path that exists goes before a name in the store; what cannot be a name is a path.
    """
    if not is_path(source):
        try:
            return store.image(source)
        except ImageNotFound as exc:
            raise ImageNotFound(
                f"{source}: no such file, and no image of that name in the store {store.root}",
                hint="`pyoverlay images` lists the images in the store",
            ) from exc
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
