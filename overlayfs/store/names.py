"""``index.json``: which images there are, and what they are called."""

from collections.abc import Callable, Container, Iterable, Iterator
from pathlib import Path

from msgspec.structs import replace

from overlayfs.errors import OverlayError
from overlayfs.image.descriptor import MANIFESTS, REF_NAME, Descriptor
from overlayfs.image.digest import Digest
from overlayfs.image.json import MANIFEST_LIMIT
from overlayfs.image.manifest import Index
from overlayfs.image.reference import DEFAULT_DOMAIN, Reference
from overlayfs.linux import locks
from overlayfs.printable import printable
from overlayfs.store.paths import Paths
from overlayfs.store.records import publish

# Where an image came from when its manifest had to be written anew.
SOURCE_DIGEST = "io.github.pyoverlay.source.digest"

# image-layout.md, "oci-layout file".
_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'

_ALGORITHMS = ("library/sha256", "library/sha512")

Change = Callable[[tuple[Descriptor, ...]], Iterable[Descriptor]]


class Names:
    """The names in the store; other tools (skopeo, umoci) may write there as well.

    A name is an annotation of a descriptor, so an image with two names has two.
    """

    def __init__(self, paths: Paths) -> None:
        self._paths = paths

    def create(self, drafts: Path) -> None:
        """Make the store an OCI image layout, if it is none yet."""
        with locks.exclusive(self._paths.lock("index")):
            if not self._paths.layout.exists():
                publish(self._paths.layout, _LAYOUT, through=drafts)
            if not self._paths.index.exists():
                publish(self._paths.index, Index(()).to_json(), through=drafts)

    def entries(self) -> tuple[Descriptor, ...]:
        """All that the index lists, also what is no image."""
        return self._read().manifests

    def images(self) -> tuple[Descriptor, ...]:
        """The descriptors of manifests, with a name or without."""
        return tuple(one for one in self.entries() if one.media_type in MANIFESTS)

    def record(self, names: Iterable[str], manifest: Descriptor, drafts: Path) -> None:
        """Let *names* mean *manifest*; without names, have it in the index all the same.

        An image that loses its last name to it stays, without one.
        """
        wanted = tuple(dict.fromkeys(names))
        self._change(lambda known: _renamed(known, wanted, manifest), drafts)

    def untag(self, names: Container[str], drafts: Path) -> None:
        """Take *names*, spelled as they are here, from their images, which stay."""
        self._change(lambda known: _untagged(known, names), drafts)

    def forget(self, manifests: Container[Digest], drafts: Path) -> None:
        """List these images no more, by whatever name."""
        self._change(lambda known: (one for one in known if one.digest not in manifests), drafts)

    def _change(self, change: Change, drafts: Path) -> None:
        with locks.exclusive(self._paths.lock("index")):
            index = self._read()
            manifests = tuple(change(index.manifests))
            if manifests != index.manifests:
                data = replace(index, manifests=manifests).to_json()
                if len(data) > MANIFEST_LIMIT:  # it could not be read again
                    raise OverlayError(f"store {self._paths.root}: no room for more names")
                publish(self._paths.index, data, through=drafts)

    def _read(self) -> Index:
        data = self._paths.index.read_bytes()
        return Index.parse(data, str(self._paths.index))


def name_of(descriptor: Descriptor) -> str | None:
    """The name that *descriptor* gives its image."""
    return descriptor.annotation(REF_NAME)


def plain(name: str) -> str:
    """*name* in its familiar form, whatever the tool that wrote it; as it is if it is no name."""
    try:
        return Reference.parse(name).familiar
    except OverlayError:
        return name


def legal_name(text: str) -> str:
    """The familiar form of *text*, a name to be given; OverlayError when none can be so called."""
    reference = Reference.parse(text)
    if reference.digest is not None:
        raise OverlayError(
            f"{printable(text)}: a digest is no name to give",
            hint="an image has its digest by itself; leave out what is behind the @",
        )
    if reference.domain == DEFAULT_DOMAIN and reference.path in _ALGORITHMS:
        # sha256:… would mean a digest.
        raise OverlayError(f"{printable(text)}: the name of a digest's algorithm")
    return reference.familiar


def _renamed(
    known: tuple[Descriptor, ...], names: tuple[str, ...], manifest: Descriptor
) -> Iterator[Descriptor]:
    taken = {plain(name) for name in names}
    has = {plain(name) for one in known if one.digest == manifest.digest and (name := name_of(one))}
    moving = {
        name
        for one in known
        if one.digest != manifest.digest and (name := name_of(one)) and plain(name) in taken
    }
    for one in _untagged(known, moving):
        # With a name it need not be there without.
        if one.digest != manifest.digest or name_of(one) is not None or not names:
            yield one
    yield from (called(manifest, name) for name in names if plain(name) not in has)
    if not names and not any(one.digest == manifest.digest for one in known):
        yield called(manifest, None)


def _untagged(known: tuple[Descriptor, ...], names: Container[str]) -> Iterator[Descriptor]:
    stay = {one.digest for one in known if name_of(one) not in names}
    for one in known:
        if name_of(one) not in names:
            yield one
        elif one.digest not in stay:
            # It loses its names, not its place.
            stay.add(one.digest)
            yield called(one, None)


def called(descriptor: Descriptor, name: str | None) -> Descriptor:
    """*descriptor* with that name; None takes it away."""
    annotations = dict(descriptor.annotations or {})
    annotations.pop(REF_NAME, None)
    if name is not None:
        annotations[REF_NAME] = name
    return replace(descriptor, annotations=annotations or None)
