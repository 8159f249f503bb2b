"""``index.json``: which images there are, and what they are called."""

from collections.abc import Callable, Iterable
from pathlib import Path

from msgspec.structs import replace

from overlayfs.image.descriptor import MANIFESTS, REF_NAME, Descriptor
from overlayfs.image.digest import Digest
from overlayfs.image.manifest import Index
from overlayfs.linux import locks
from overlayfs.store.paths import Paths
from overlayfs.store.records import publish

# image-layout.md, "oci-layout file".
_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'

Change = Callable[[tuple[Descriptor, ...]], tuple[Descriptor, ...]]


class Names:
    """The names in the store; other tools (skopeo, umoci) may write there as well.

    A name is an annotation of a descriptor, so an image with two names has two.
    """

    def __init__(self, paths: Paths) -> None:
        self._paths = paths

    def create(self) -> None:
        """Make the store an OCI image layout, if it is none yet."""
        with locks.exclusive(self._paths.lock("index")):
            if not self._paths.layout.exists():
                publish(self._paths.layout, _LAYOUT, through=self._paths.root)
            if not self._paths.index.exists():
                publish(self._paths.index, Index(()).to_json(), through=self._paths.root)

    def images(self) -> tuple[Descriptor, ...]:
        """The descriptors of manifests, with a name or without."""
        return tuple(one for one in self._read().manifests if one.media_type in MANIFESTS)

    def record(self, names: Iterable[str], manifest: Descriptor, drafts: Path) -> None:
        """Let *names* mean *manifest*; without names, have it in the index all the same."""
        wanted = tuple(dict.fromkeys(names))
        with locks.exclusive(self._paths.lock("index")):
            index = self._read()
            manifests = _renamed(index.manifests, wanted, manifest)
            if manifests != index.manifests:
                changed = replace(index, manifests=manifests)
                publish(self._paths.index, changed.to_json(), through=drafts)

    def _read(self) -> Index:
        data = self._paths.index.read_bytes()
        return Index.parse(data, str(self._paths.index))


def name_of(descriptor: Descriptor) -> str | None:
    """The name that *descriptor* gives its image."""
    return descriptor.annotation(REF_NAME)


def digests(descriptors: Iterable[Descriptor]) -> tuple[Digest, ...]:
    """The different images among *descriptors*, in order."""
    return tuple(dict.fromkeys(one.digest for one in descriptors))


def _renamed(
    known: tuple[Descriptor, ...], names: tuple[str, ...], manifest: Descriptor
) -> tuple[Descriptor, ...]:
    kept = []
    present = set()
    for one in known:
        name = name_of(one)
        if one.digest == manifest.digest:
            present.add(name)
            if name is None and names:
                continue  # it has a name now
        elif name in names:
            # Another image loses this name, not its place.
            if any(other.digest == one.digest and name_of(other) != name for other in known):
                continue
            one = called(one, None)
        kept.append(one)
    missing: list[str | None] = [name for name in names if name not in present]
    if not names and not present:
        missing = [None]
    return (*kept, *(called(manifest, name) for name in missing))


def called(descriptor: Descriptor, name: str | None) -> Descriptor:
    """*descriptor* with that name; None takes it away."""
    annotations = dict(descriptor.annotations or {})
    annotations.pop(REF_NAME, None)
    if name is not None:
        annotations[REF_NAME] = name
    return replace(descriptor, annotations=annotations or None)
