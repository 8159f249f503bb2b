"""Manifests and indexes (image-spec, manifest.md and image-index.md)."""

from typing import Any, Self

from msgspec import Struct

from overlayfs.errors import InvalidImage
from overlayfs.image.descriptor import INDEXES, MANIFESTS, SCHEMA1, Descriptor, MediaType
from overlayfs.image.json import decode, encode
from overlayfs.printable import printable


class _Document(Struct, rename="camel"):
    """Everything that either kind may hold, so that one that is both can be told."""

    schema_version: int | None = None
    media_type: str | None = None
    artifact_type: str | None = None
    config: Descriptor | None = None
    layers: tuple[Descriptor, ...] | None = None
    manifests: tuple[Descriptor, ...] | None = None
    annotations: dict[str, str] | None = None
    fs_layers: Any = None


class Manifest(Struct, frozen=True, omit_defaults=True, rename="camel"):
    """One image: its configuration and its layers, base first."""

    config: Descriptor
    layers: tuple[Descriptor, ...]
    media_type: str = MediaType.OCI_MANIFEST.value
    artifact_type: str | None = None
    annotations: dict[str, str] | None = None

    @classmethod
    def parse(cls, data: bytes, what: str = "manifest") -> Self:
        """The manifest that *data* is; InvalidImage, beginning with *what*, if it is none."""
        parsed = parse(data, what)
        if not isinstance(parsed, cls):
            raise InvalidImage(f"{what}: an index where a manifest is needed")
        return parsed

    def to_json(self) -> bytes:
        """Canonical bytes: the same manifest always has the same digest."""
        return _document(self, config=self.config, layers=self.layers)


class Index(Struct, frozen=True, omit_defaults=True, rename="camel"):
    """Several images, or one image for several platforms."""

    manifests: tuple[Descriptor, ...]
    media_type: str = MediaType.OCI_INDEX.value
    artifact_type: str | None = None
    annotations: dict[str, str] | None = None

    @classmethod
    def parse(cls, data: bytes, what: str = "index") -> Self:
        """The index that *data* is; InvalidImage, beginning with *what*, if it is none."""
        parsed = parse(data, what)
        if not isinstance(parsed, cls):
            raise InvalidImage(f"{what}: a manifest where an index is needed")
        return parsed

    def to_json(self) -> bytes:
        """Canonical bytes: the same index always has the same digest."""
        return _document(self, manifests=self.manifests)


def parse(data: bytes, what: str = "manifest") -> Manifest | Index:
    """The manifest or the index that *data* is, told apart by content.

    Raises InvalidImage for a document that is neither or both (CVE-2021-41190), whose media
    type says something else than its fields, and for Docker's old schema 1.
    """
    document = decode(data, _Document, what)
    declared = document.media_type
    if declared in SCHEMA1 or document.schema_version == 1 or document.fs_layers is not None:
        raise InvalidImage(
            f"{what}: Docker's schema 1, which is no longer in use",
            hint="convert it with: skopeo copy --format v2s2",
        )
    if document.schema_version not in (None, 2):
        raise InvalidImage(f"{what}: schema version {document.schema_version} is not known")
    if document.manifests is not None and (
        document.layers is not None or document.config is not None
    ):
        raise InvalidImage(f"{what}: both an index and a manifest")
    if document.config is not None:
        _agree(what, declared, MANIFESTS)
        return Manifest(
            config=document.config,
            layers=document.layers or (),
            media_type=declared or MediaType.OCI_MANIFEST.value,
            artifact_type=document.artifact_type,
            annotations=document.annotations,
        )
    if document.manifests is not None or declared in INDEXES:
        _agree(what, declared, INDEXES)
        return Index(
            manifests=document.manifests or (),
            media_type=declared or MediaType.OCI_INDEX.value,
            artifact_type=document.artifact_type,
            annotations=document.annotations,
        )
    raise InvalidImage(f"{what}: neither a manifest nor an index")


def _agree(what: str, declared: str | None, allowed: frozenset[MediaType]) -> None:
    if declared and declared not in allowed:
        raise InvalidImage(
            f"{what}: the media type {printable(declared, 100)!r} contradicts its fields"
        )


def _document(of: Manifest | Index, **fields: object) -> bytes:
    """The order in which Go's tools write the fields."""
    head = {"schemaVersion": 2, "mediaType": of.media_type}
    if of.artifact_type is not None:
        head["artifactType"] = of.artifact_type
    tail = {} if of.annotations is None else {"annotations": dict(sorted(of.annotations.items()))}
    return encode({**head, **fields, **tail})
