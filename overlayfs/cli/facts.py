"""What is known of an image, wherever it is kept: what inspect, history and images show."""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from overlayfs.cli.sources import opened
from overlayfs.errors import ImageNotFound, OverlayError
from overlayfs.image.config import ImageConfig
from overlayfs.image.descriptor import Descriptor, MediaType
from overlayfs.image.digest import Digest
from overlayfs.image.history import Step, paired
from overlayfs.image.manifest import Manifest
from overlayfs.image.platform import Platform
from overlayfs.image.reference import Reference
from overlayfs.image.source import ImageSource, LayerSource
from overlayfs.printable import printable
from overlayfs.store.kept import KeptImage, StoredImage, StoredLayer
from overlayfs.store.names import SOURCE_DIGEST
from overlayfs.store.paths import Paths, default_root
from overlayfs.store.store import Store

# What docker prints for a repository or a tag that is not there.
NONE = "<none>"


@dataclass(frozen=True, slots=True)
class LayerFacts:
    """One layer.

    *digest*, *media_type* and *size* are the blob's; *digest* is None where nobody has said it.
    *unpacked* is what its files add up to, *entries* how many it has and *path* where they
    are: known in the store only.
    """

    diff_id: Digest
    digest: Digest | None
    media_type: str
    size: int
    unpacked: int | None = None
    entries: int | None = None
    path: Path | None = None


@dataclass(frozen=True)
class ImageFacts:
    """One image; *layers* base first, *id* the digest of its configuration.

    *manifest* describes the manifest whose exact bytes are *raw_manifest*; both are None where
    there is none, in a docker-archive.  *origin* is the digest of the manifest it came with,
    where the store had to write another.
    """

    names: tuple[str, ...]
    id: Digest
    manifest: Descriptor | None
    raw_manifest: bytes | None
    origin: Digest | None
    config: ImageConfig
    layers: tuple[LayerFacts, ...]

    @cached_property
    def steps(self) -> tuple[Step[LayerFacts], ...]:
        """The history with its layers, base first."""
        return paired(self.config.history, self.layers)

    @property
    def unpacked(self) -> int | None:
        """What the files of all layers add up to, where that is known."""
        sizes = [layer.unpacked for layer in self.layers]
        return None if None in sizes else sum(size for size in sizes if size is not None)

    @property
    def repo_digests(self) -> tuple[str, ...]:
        """The repositories of the names, with the digest it came with and that of the manifest."""
        digests = [self.origin, self.manifest.digest if self.manifest else None]
        found = (
            f"{repository(name)}@{digest}" for name in self.names for digest in digests if digest
        )
        return tuple(dict.fromkeys(found))

    @property
    def annotations(self) -> dict[str, str]:
        """Those of the manifest."""
        if self.raw_manifest is None:
            return {}
        return Manifest.parse(self.raw_manifest).annotations or {}


def image_facts(root: Path | None, text: str, platform: Platform | None = None) -> ImageFacts:
    """What is known of the image that *text* means: one of the store, in a file, or mounted.

    Nothing is taken into the store; *platform* chooses from what a file offers.
    """
    mounted = _mounted(root, text)
    if mounted is not None:
        return mounted
    with opened(root, text, platform) as image:
        if isinstance(image, StoredImage):
            return of_stored(Store.open(root), image)
        return of_source(image, printable(text))


def of_stored(store: Store, image: StoredImage) -> ImageFacts:
    """What the store knows of *image*."""
    manifest = KeptImage(Paths(store.root), image.manifest).manifest
    came_as = image.manifest.annotation(SOURCE_DIGEST)
    return ImageFacts(
        names=image.names,
        id=image.id,
        manifest=image.manifest.bare,
        raw_manifest=manifest,
        origin=None if came_as is None else Digest.parse(came_as),
        config=image.config,
        layers=tuple(_stored_layer(layer) for layer in image.layers),
    )


def of_source(image: ImageSource, what: str) -> ImageFacts:
    """What *image*, which begins messages as *what*, says of itself."""
    return ImageFacts(
        names=image.names,
        id=image.config_digest,
        manifest=image.manifest_descriptor,
        raw_manifest=image.manifest,
        origin=None,
        config=ImageConfig.parse(image.config, f"{what}: configuration"),
        layers=tuple(_source_layer(layer) for layer in image.layers),
    )


def repository(name: str) -> str:
    """The familiar name without tag and digest; *name* itself where it is no legal one."""
    return split_name(name)[0]


def split_name(name: str) -> tuple[str, str]:
    """The familiar repository and the tag of *name*, ``<none>`` where it has none."""
    try:
        reference = Reference.parse(name)
    except OverlayError:
        return name, NONE  # other tools write what they like into the store's index
    tag = reference.tag or NONE
    familiar = replace(reference, tag=None, digest=None).familiar
    return familiar, tag


def _mounted(root: Path | None, text: str) -> ImageFacts | None:
    """The image that is mounted at the directory *text*."""
    from overlayfs import mounting

    record = mounting.mounted_at(root or default_root(), Path(text))
    if record is None:
        return None
    store = Store.open(root)
    try:
        return of_stored(store, store.image(record.image_id))
    except ImageNotFound as exc:
        raise ImageNotFound(f"{text}: its image {record.image} is in the store no more") from exc


def _stored_layer(layer: StoredLayer) -> LayerFacts:
    return LayerFacts(
        diff_id=layer.diff_id,
        digest=layer.blob.digest,
        media_type=layer.blob.media_type,
        size=layer.blob.size,
        unpacked=layer.size,
        entries=layer.entries,
        path=layer.path,
    )


def _source_layer(layer: LayerSource) -> LayerFacts:
    blob = layer.descriptor
    if blob is not None:
        return LayerFacts(layer.diff_id, blob.digest, blob.media_type, blob.size)
    # A docker-archive says nothing of its layers: they are what they look like.
    from overlayfs.archive.compression import Compression, sniff

    with layer.open() as file:
        packed = sniff(file.read(6))
    media_type = {
        Compression.NONE: MediaType.DOCKER_LAYER,
        Compression.GZIP: MediaType.DOCKER_LAYER_GZIP,
        Compression.ZSTD: MediaType.DOCKER_LAYER_ZSTD,
    }.get(packed, MediaType.DOCKER_LAYER)
    digest = layer.diff_id if packed is Compression.NONE else None
    return LayerFacts(layer.diff_id, digest, media_type, layer.size)
