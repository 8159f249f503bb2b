"""How much of the disk the store takes, what for, and what of it could go."""

from collections import Counter
from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass
from pathlib import Path

from overlayfs.image.descriptor import MANIFESTS, Descriptor
from overlayfs.image.digest import Digest
from overlayfs.store import disk, lookup
from overlayfs.store.drafts import Drafts
from overlayfs.store.names import name_of
from overlayfs.store.paths import Paths
from overlayfs.store.sweep import plan
from overlayfs.store.usage import Parts, Usage


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of thing; sizes are bytes of the disk.

    *active* of the *count* are in use; *shared* is what several images need, *unique* what one
    needs; *reclaimable* what may go: of images, all that are not mounted, of ended mounts their
    changes.
    """

    count: int
    active: int
    size: int
    shared: int = 0
    unique: int = 0
    reclaimable: int = 0


@dataclass(frozen=True, slots=True)
class ImageFigures:
    """One image: what it takes, of that what others need too, and how often it is mounted."""

    names: tuple[str, ...]
    id: Digest
    manifest: Digest
    size: int
    shared: int
    unique: int
    mounts: int


@dataclass(frozen=True, slots=True)
class Figures:
    """The whole store; *images* take what the *layers* and *blobs* take that they are made of."""

    images: Kind
    layers: Kind
    blobs: Kind
    mounts: Kind
    kept: Kind
    drafts: Kind
    each: tuple[ImageFigures, ...]

    @property
    def total(self) -> int:
        """All of it together."""
        kinds = (self.layers, self.blobs, self.mounts, self.kept, self.drafts)
        return sum(kind.size for kind in kinds)


def figures(paths: Paths, entries: Iterable[Descriptor], drafts: Drafts) -> Figures:
    """The figures of a store whose index has *entries*; every file of it is looked at."""
    counting = _Counting(paths, tuple(entries), drafts)
    usage = counting.usage
    live = [disk.used(one.directory.path) for one in usage.mounts if one.live]
    kept = [disk.used(one.directory.path) for one in usage.mounts if not one.live]
    return Figures(
        counting.images(),
        counting.kind({*usage.layers, *counting.garbage.layers}),
        counting.kind({*usage.blobs, *counting.garbage.blobs}),
        Kind(len(live), len(live), sum(live), unique=sum(live)),
        Kind(len(kept), 0, sum(kept), unique=sum(kept), reclaimable=sum(kept)),
        counting.drafts(paths.drafts),
        tuple(counting.each()),
    )


# A directory of layers, by its name, or a blob.
Thing = str | Digest


class _Counting:
    """What things take, and which images need them."""

    def __init__(self, paths: Paths, entries: tuple[Descriptor, ...], drafts: Drafts) -> None:
        self._entries = entries
        self.usage = Usage.of(paths, entries)
        self.garbage = plan(paths, self.usage, drafts)
        self._images = {
            one.digest: _things(self.usage.entries[one.digest])
            for one in entries
            if one.media_type in MANIFESTS
        }
        self._ids = {one.digest: lookup.id_of(paths, one) for one in entries}
        self._users = Counter(
            thing for parts in self.usage.entries.values() for thing in _things(parts)
        )
        self._mounts = Counter(one.record.image_id for one in self.usage.mounts)
        self._loose: set[Thing] = {*self.garbage.layers, *self.garbage.blobs}
        self._sizes = {
            thing: disk.used(paths.layer(thing) if isinstance(thing, str) else paths.blob(thing))
            for thing in (*self.usage.layers, *self.usage.blobs, *self._loose)
        }

    def kind(self, things: Set[Thing]) -> Kind:
        """All of *things*."""
        return Kind(
            len(things),
            len(things - self._loose),
            self._size(things),
            self._size(thing for thing in things if self._users[thing] > 1),
            self._size(thing for thing in things if self._users[thing] == 1),
            self._size(things & self._loose),
        )

    def images(self) -> Kind:
        """All images together."""
        things = frozenset[Thing]().union(*self._images.values())
        active = [digest for digest in self._images if self._mounts_of(digest)]
        pinned = frozenset[Thing]().union(*(self._images[digest] for digest in active))
        mounted = frozenset[Thing]().union(*(one.layers for one in self.usage.mounts))
        every = self.kind(things)
        return Kind(
            len(self._images),
            len(active),
            every.size,
            every.shared,
            every.unique,
            self._size(things - pinned - mounted),
        )

    def each(self) -> Iterator[ImageFigures]:
        """The images, in the order of the index."""
        for digest, things in self._images.items():
            size = self._size(things)
            shared = self._size(thing for thing in things if self._users[thing] > 1)
            names = (name_of(one) for one in self._entries if one.digest == digest)
            yield ImageFigures(
                tuple(name for name in names if name is not None),
                self._ids[digest],
                digest,
                size,
                shared,
                size - shared,
                self._mounts_of(digest),
            )

    def drafts(self, folder: Path) -> Kind:
        """What is being written, or was when its process died."""
        sizes = {path: disk.used(path) for path in folder.iterdir()}
        left = [size for path, size in sizes.items() if path in self.garbage.drafts]
        active = len(sizes) - len(left)
        return Kind(len(sizes), active, sum(sizes.values()), reclaimable=sum(left))

    def _mounts_of(self, digest: Digest) -> int:
        return self._mounts[str(self._ids[digest])]

    def _size(self, things: Iterable[Thing]) -> int:
        return sum(self._sizes[thing] for thing in things)


def _things(parts: Parts) -> frozenset[Thing]:
    return frozenset[Thing]((*parts.layers, *parts.blobs))
