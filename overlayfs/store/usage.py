"""What is in use: by the images that the index lists, and by mounts.

The mark of mark and sweep.  Who adds, names or mounts holds the store's lock with others from
where it looks things up to where it has written down that it uses them; who takes away holds it
alone.  So what is read here under that lock is all that counts, but for what is under way: it
has a lock of its own, see ``store.sweep``.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from overlayfs.errors import InvalidImage
from overlayfs.image.config import ImageConfig
from overlayfs.image.descriptor import CONFIGS, INDEXES, MANIFESTS, Descriptor
from overlayfs.image.digest import Digest
from overlayfs.image.manifest import Index, Manifest
from overlayfs.store.chains import steps
from overlayfs.store.kept import read_blob
from overlayfs.store.mounts import MountDirectory, Record, directories, is_mounted
from overlayfs.store.paths import Paths


@dataclass(frozen=True, slots=True)
class Parts:
    """What one entry of the index needs; *layers* are the directories that are unpacked.

    *damage* says why that is not all that it needs: a part that leads to others is lost.
    """

    blobs: frozenset[Digest]
    diff_ids: frozenset[Digest] = frozenset()
    chains: frozenset[Digest] = frozenset()
    layers: frozenset[str] = frozenset()
    damage: str = ""


def parts_of(paths: Paths, entry: Descriptor) -> Parts:
    """What *entry* needs, as far as its documents are here and whole."""
    if entry.media_type in INDEXES:
        return _parts_of_index(paths, entry)
    if entry.media_type not in MANIFESTS:
        return Parts(frozenset({entry.digest}))
    found = {entry.digest}
    try:
        manifest = Manifest.parse(read_blob(paths, entry.digest), f"manifest {entry.digest}")
        found |= {manifest.config.digest, *(layer.digest for layer in manifest.layers)}
        if manifest.config.media_type not in CONFIGS:
            return Parts(frozenset(found))  # an artifact, which has no layers to unpack
        raw = read_blob(paths, manifest.config.digest)
        config = ImageConfig.parse(raw, f"configuration {manifest.config.digest}")
    except InvalidImage as exc:
        return Parts(frozenset(found), damage=exc.message)
    chain = steps(config.diff_ids)
    names = (directory_of(paths, step.chain.hex) for step in chain)
    return Parts(
        frozenset(found),
        frozenset(config.diff_ids),
        frozenset(step.chain for step in chain),
        frozenset(name for name in names if name is not None),
    )


def _parts_of_index(paths: Paths, entry: Descriptor) -> Parts:
    try:
        index = Index.parse(read_blob(paths, entry.digest), f"index {entry.digest}")
    except InvalidImage as exc:
        return Parts(frozenset({entry.digest}), damage=exc.message)
    # Of the platforms those that were copied are here.
    here = [one for one in index.manifests if paths.blob(one.digest).exists()]
    below = [parts_of(paths, one) for one in here if one.digest != entry.digest]
    return Parts(
        frozenset({entry.digest}).union(*(one.blobs for one in below)),
        frozenset[Digest]().union(*(one.diff_ids for one in below)),
        frozenset[Digest]().union(*(one.chains for one in below)),
        frozenset[str]().union(*(one.layers for one in below)),
        next((one.damage for one in below if one.damage), ""),
    )


def directory_of(paths: Paths, chain: str) -> str | None:
    """The name of the layer directory that ends the chain with the id *chain* (hex)."""
    try:
        return (paths.chains / chain).readlink().name
    except FileNotFoundError:
        return None


@dataclass(frozen=True, slots=True)
class Mounted:
    """A mount that is written down; *live* unless it is unmounted and its changes are kept."""

    directory: MountDirectory
    record: Record
    live: bool

    @property
    def layers(self) -> frozenset[str]:
        """The names of the layer directories that it shows."""
        return frozenset(Path(layer).parent.name for layer in self.record.layers)

    def says(self) -> str:
        """What it is, to a person who wants to take something away from it."""
        if self.live:
            return f"mounted at {self.record.mountpoint}"
        return f"changes made at {self.record.mountpoint} are kept in {self.record.upper}"


def mounts_of(paths: Paths) -> Iterator[Mounted]:
    """The mounts that live and those that have left changes, the oldest first."""
    for directory, record in directories(paths.root):
        live = is_live(directory, record)
        if live or directory.has_changes:
            yield Mounted(directory, record, live)


def is_live(directory: MountDirectory, record: Record) -> bool:
    """Whether something is mounted, its daemon dead perhaps."""
    return directory.locked or (not record.ended and is_mounted(Path(record.mountpoint)))


@dataclass(frozen=True)
class Usage:
    """Who uses what: the *entries* of the index, each digest once, and the *mounts*."""

    entries: Mapping[Digest, Parts]
    mounts: tuple[Mounted, ...]

    @cached_property
    def layers(self) -> frozenset[str]:
        """The names of the layer directories in use."""
        mounted = (one.layers for one in self.mounts)
        return frozenset[str]().union(*(one.layers for one in self.entries.values()), *mounted)

    @cached_property
    def blobs(self) -> frozenset[Digest]:
        """The blobs in use."""
        return frozenset[Digest]().union(*(one.blobs for one in self.entries.values()))

    @cached_property
    def diff_ids(self) -> frozenset[Digest]:
        """The layers of images, unpacked or not."""
        return frozenset[Digest]().union(*(one.diff_ids for one in self.entries.values()))

    @cached_property
    def chains(self) -> frozenset[Digest]:
        """The chains of layers that images have."""
        return frozenset[Digest]().union(*(one.chains for one in self.entries.values()))

    @classmethod
    def of(cls, paths: Paths, entries: Iterable[Descriptor]) -> "Usage":
        """What *entries* of the index and all mounts use, as it is now."""
        different = {entry.digest: entry for entry in entries}
        known = {digest: parts_of(paths, entry) for digest, entry in different.items()}
        return cls(known, tuple(mounts_of(paths)))

    @property
    def damage(self) -> Mapping[Digest, str]:
        """Entries of which it cannot be told all that they use, with the reason."""
        return {digest: parts.damage for digest, parts in self.entries.items() if parts.damage}

    def mounts_of_image(self, image_id: Digest) -> list[Mounted]:
        """The mounts that show the image with that id."""
        return [one for one in self.mounts if one.record.image_id == str(image_id)]
