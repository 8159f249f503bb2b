"""An image found in an archive, ready to be taken in."""

from collections.abc import Callable
from dataclasses import dataclass

from overlayfs.archive.files import FileRange, Files
from overlayfs.errors import InvalidImage
from overlayfs.image.config import ImageConfig
from overlayfs.image.descriptor import CONFIGS, LAYERS, Descriptor
from overlayfs.image.digest import Digest
from overlayfs.image.json import CONFIG_LIMIT
from overlayfs.image.manifest import Manifest
from overlayfs.image.source import Closing
from overlayfs.printable import printable

# Docker stops at 127; the kernel's overlayfs at 500.
_MOST_LAYERS = 4096
# Of a text that may have megabytes.
_SHOWN = 100


@dataclass(frozen=True, slots=True)
class ArchivedLayer:
    """A LayerSource: one file of an archive."""

    files: Files
    path: str
    size: int
    diff_id: Digest
    descriptor: Descriptor | None = None

    def open(self) -> FileRange:
        """The blob as it is stored, not verified."""
        return self.files.open(self.path)


@dataclass(frozen=True, slots=True)
class Contents:
    """What an image is made of, wherever its parts lie."""

    manifest: bytes | None
    manifest_descriptor: Descriptor | None
    config: ImageConfig
    config_digest: Digest
    layers: tuple[ArchivedLayer, ...]


class ArchivedImage(Closing):
    """An ImageSource over the files of an archive, which it closes."""

    def __init__(self, files: Files, names: tuple[str, ...], contents: Contents) -> None:
        self._files = files
        self.names = names
        self.manifest = contents.manifest
        self.manifest_descriptor = contents.manifest_descriptor
        self.config = contents.config.raw
        self.config_digest = contents.config_digest
        self.layers = contents.layers

    def close(self) -> None:
        """Close the archive; a temporary copy of it is gone then."""
        self._files.close()


def read_blob(files: Files, path: str, descriptor: Descriptor, limit: int) -> bytes:
    """The blob *descriptor* from *path*; InvalidImage when it is too long or another one."""
    what = f"{files.label}: {descriptor.digest}"
    size = files.size(path)
    if size is None:
        raise InvalidImage(f"{what}: missing from the archive")
    if size != descriptor.size:
        raise InvalidImage(f"{what}: expected {descriptor.size} bytes, got {size}")
    data = files.read(path, limit)
    descriptor.digest.check(data, files.label)
    return data


def from_manifest(
    files: Files, data: bytes, descriptor: Descriptor, locate: Callable[[Digest], str]
) -> Contents:
    """The image of the manifest *data*, already verified, whose blobs lie where *locate* says.

    Raises InvalidImage for an artifact that is no container image, for a configuration that
    is missing or wrong, and for layers that are missing or as long as they should not be.
    """
    what = f"{files.label}: manifest {descriptor.digest}"
    manifest = Manifest.parse(data, what)
    kind = manifest.config.media_type
    if kind not in CONFIGS:
        raise InvalidImage(
            f"{what}: an artifact ({printable(kind, _SHOWN)}), not a container image"
        )
    raw = read_blob(files, locate(manifest.config.digest), manifest.config, CONFIG_LIMIT)
    config = ImageConfig.parse(raw, f"{files.label}: configuration {manifest.config.digest}")
    same_number(what, len(manifest.layers), len(config.diff_ids))
    layers = tuple(
        _layer(files, locate(layer.digest), layer, diff_id)
        for layer, diff_id in zip(manifest.layers, config.diff_ids, strict=True)
    )
    return Contents(data, descriptor, config, manifest.config.digest, layers)


def same_number(what: str, layers: int, diff_ids: int) -> None:
    """Raise InvalidImage unless there are as many layers as diff ids, and not too many."""
    if layers > _MOST_LAYERS:
        raise InvalidImage(f"{what}: {layers} layers, at most {_MOST_LAYERS} are taken")
    if layers != diff_ids:
        raise InvalidImage(f"{what}: {layers} layers, but the configuration names {diff_ids}")


def _layer(files: Files, path: str, descriptor: Descriptor, diff_id: Digest) -> ArchivedLayer:
    what = f"{files.label}: layer {descriptor.digest}"
    if descriptor.media_type not in LAYERS:
        kind = printable(descriptor.media_type, _SHOWN)
        raise InvalidImage(f"{what}: a layer of type {kind}, which cannot be unpacked")
    size = files.size(path)
    if size is None:
        elsewhere = (
            f" (it is kept at {printable(descriptor.urls[0], _SHOWN)})" if descriptor.urls else ""
        )
        raise InvalidImage(f"{what}: missing from the archive{elsewhere}")
    if size != descriptor.size:
        raise InvalidImage(f"{what}: expected {descriptor.size} bytes, got {size}")
    return ArchivedLayer(files, path, size, diff_id, descriptor)
