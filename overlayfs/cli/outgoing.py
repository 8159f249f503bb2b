"""What the words IMAGE... of ``save`` mean: images to be written, each with its names."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace

from overlayfs.archive.detect import list_images, open_image
from overlayfs.archive.location import Location
from overlayfs.archive.writing.images import Outgoing, merged
from overlayfs.cli.sources import find_image, is_path
from overlayfs.errors import AmbiguousImage, InvalidImage, OverlayError
from overlayfs.image.platform import Platform
from overlayfs.image.reference import Reference
from overlayfs.printable import printable
from overlayfs.store.kept import KeptImage
from overlayfs.store.paths import Paths
from overlayfs.store.store import Store


@contextmanager
def outgoing(
    store: Store, words: Sequence[str], platform: Platform | None, *, all_names: bool
) -> Iterator[list[Outgoing]]:
    """The images that *words* mean, open until the end, each once.

    An image of the store has the name that it is asked for by, or all of them if that is its id
    or *all_names*; a file or directory stands for all images in it unless one is chosen, under
    the names that it gives them.  Errors as those who find them have.
    """
    with ExitStack() as stack:
        found: list[Outgoing] = []
        for word in words:
            if is_path(word):
                found += _in_file(store, word, platform, stack)
            else:
                found.append(_in_store(store, word, stack, all_names=all_names))
        yield merged(found)


def _in_store(store: Store, word: str, stack: ExitStack, *, all_names: bool) -> Outgoing:
    image = find_image(store, word)
    source = KeptImage(Paths(store.root), image.manifest)
    for layer in source.layers:
        if not layer.path.exists():
            raise InvalidImage(
                f"{printable(word)}: blob {layer.descriptor.digest}: missing in the store",
                hint="add it again from where it came",
            )
    # It may be removed meanwhile, but not taken away.
    stack.enter_context(store.reading(image))
    named = None if all_names else _name(word, image.names)
    return Outgoing(source, (named,) if named else image.names, printable(word))


def _name(word: str, names: Sequence[str]) -> str | None:
    """The one of *names* that *word* is; None when it is an id or a digest."""
    try:
        wanted = {word, replace(Reference.parse(word), digest=None).familiar}
    except OverlayError:
        wanted = {word}
    return next((name for name in names if name in wanted), None)


def _in_file(
    store: Store, word: str, platform: Platform | None, stack: ExitStack
) -> list[Outgoing]:
    try:
        return [_opened(store, word, platform, stack)]
    except AmbiguousImage:
        location = Location.parse(word)
        if location is None or location.selector is not None:
            raise
    listed = list_images(word, scratch=store.scratch)
    indexes = dict.fromkeys(choice.index for choice in listed)
    return [_opened(store, f"{word}@{index}", platform, stack) for index in indexes]


def _opened(store: Store, word: str, platform: Platform | None, stack: ExitStack) -> Outgoing:
    source = stack.enter_context(open_image(word, platform=platform, scratch=store.scratch))
    return Outgoing(source, source.names, printable(word))
