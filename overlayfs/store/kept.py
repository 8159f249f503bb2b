"""Images as the store has them."""

from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import BinaryIO, cast

from overlayfs.errors import InvalidImage, OverlayError
from overlayfs.image.config import ImageConfig
from overlayfs.image.descriptor import Descriptor
from overlayfs.image.digest import Digest
from overlayfs.image.manifest import Manifest
from overlayfs.image.source import Closing
from overlayfs.store.paths import Paths
from overlayfs.union.names import Format


@dataclass(frozen=True, slots=True)
class StoredLayer:
    """One layer: its blob, and the directory that it was unpacked into.

    *aliases* are the names of each of its files that has several.
    """

    diff_id: Digest
    blob: Descriptor
    path: Path
    size: int
    entries: int
    aliases: tuple[tuple[bytes, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class StoredImage:
    """An image in the store; *layers* base first, *id* the digest of its configuration.

    *format* is that of the layers' directories.
    """

    names: tuple[str, ...]
    id: Digest
    manifest: Descriptor
    config: ImageConfig
    layers: tuple[StoredLayer, ...]
    format: Format


@dataclass(frozen=True, slots=True)
class KeptLayer:
    """A blob of the store as the source of a layer."""

    diff_id: Digest
    descriptor: Descriptor
    path: Path

    @property
    def size(self) -> int:
        """How long the blob is."""
        return self.descriptor.size

    def open(self) -> BinaryIO:
        """The blob's bytes, to be verified by the reader."""
        try:
            return cast("BinaryIO", FileIO(self.path))
        except FileNotFoundError as exc:
            raise InvalidImage(f"blob {self.descriptor.digest}: missing in the store") from exc


class KeptImage(Closing):
    """An image of the store as a source: for layers that must be unpacked again."""

    def __init__(self, paths: Paths, descriptor: Descriptor) -> None:
        """Read manifest and configuration; InvalidImage when the store has lost them."""
        self.names: tuple[str, ...] = ()
        self.manifest = read_blob(paths, descriptor.digest)
        self.manifest_descriptor = descriptor
        manifest = Manifest.parse(self.manifest, f"manifest {descriptor.digest}")
        self.config = read_blob(paths, manifest.config.digest)
        self.config_digest = manifest.config.digest
        self.parsed = ImageConfig.parse(self.config, f"configuration {manifest.config.digest}")
        if len(self.parsed.diff_ids) != len(manifest.layers):
            raise InvalidImage(
                f"manifest {descriptor.digest}: {len(manifest.layers)} layers where the "
                f"configuration has {len(self.parsed.diff_ids)}"
            )
        self.layers = tuple(
            KeptLayer(diff_id, blob, paths.blob(blob.digest))
            for diff_id, blob in zip(self.parsed.diff_ids, manifest.layers, strict=True)
        )

    def close(self) -> None:
        """Nothing is held."""


def read_blob(paths: Paths, digest: Digest) -> bytes:
    """The bytes of a manifest or configuration; InvalidImage when they are lost or damaged."""
    try:
        data = paths.blob(digest).read_bytes()
    except FileNotFoundError as exc:
        raise InvalidImage(f"blob {digest}: missing in the store") from exc
    except OSError as exc:
        raise OverlayError(f"blob {digest}: {exc.strerror}") from exc
    digest.check(data)
    return data
