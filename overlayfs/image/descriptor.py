"""Descriptors and media types (image-spec, descriptor.md and media-types.md)."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Self

from msgspec import Meta, Struct
from msgspec.structs import replace

from overlayfs.image.digest import Digest
from overlayfs.image.platform import Platform

REF_NAME = "org.opencontainers.image.ref.name"
CONTAINERD_NAME = "io.containerd.image.name"
REFERENCE_TYPE = "vnd.docker.reference.type"


class MediaType(StrEnum):
    """The media types that make a container image, OCI's first and Docker's twin after it."""

    OCI_INDEX = "application/vnd.oci.image.index.v1+json"
    OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
    OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
    OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
    OCI_LAYER_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
    OCI_LAYER_ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd"
    DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
    DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
    DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
    DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
    DOCKER_LAYER_GZIP = "application/vnd.docker.image.rootfs.diff.tar.gzip"
    DOCKER_LAYER_ZSTD = "application/vnd.docker.image.rootfs.diff.tar.zstd"
    DOCKER_FOREIGN = "application/vnd.docker.image.rootfs.foreign.diff.tar"
    DOCKER_FOREIGN_GZIP = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
    OCI_FOREIGN = "application/vnd.oci.image.layer.nondistributable.v1.tar"
    OCI_FOREIGN_GZIP = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
    OCI_FOREIGN_ZSTD = "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd"
    SCHEMA1 = "application/vnd.docker.distribution.manifest.v1+json"
    SCHEMA1_SIGNED = "application/vnd.docker.distribution.manifest.v1+prettyjws"


INDEXES = frozenset({MediaType.OCI_INDEX, MediaType.DOCKER_INDEX})
MANIFESTS = frozenset({MediaType.OCI_MANIFEST, MediaType.DOCKER_MANIFEST})
CONFIGS = frozenset({MediaType.OCI_CONFIG, MediaType.DOCKER_CONFIG})
SCHEMA1 = frozenset({MediaType.SCHEMA1, MediaType.SCHEMA1_SIGNED})
LAYERS = frozenset(
    {
        MediaType.OCI_LAYER,
        MediaType.OCI_LAYER_GZIP,
        MediaType.OCI_LAYER_ZSTD,
        MediaType.DOCKER_LAYER,
        MediaType.DOCKER_LAYER_GZIP,
        MediaType.DOCKER_LAYER_ZSTD,
        MediaType.DOCKER_FOREIGN,
        MediaType.DOCKER_FOREIGN_GZIP,
        MediaType.OCI_FOREIGN,
        MediaType.OCI_FOREIGN_GZIP,
        MediaType.OCI_FOREIGN_ZSTD,
    }
)
_TO_OCI = {
    MediaType.DOCKER_INDEX: MediaType.OCI_INDEX,
    MediaType.DOCKER_MANIFEST: MediaType.OCI_MANIFEST,
    MediaType.DOCKER_CONFIG: MediaType.OCI_CONFIG,
    MediaType.DOCKER_LAYER: MediaType.OCI_LAYER,
    MediaType.DOCKER_LAYER_GZIP: MediaType.OCI_LAYER_GZIP,
    MediaType.DOCKER_LAYER_ZSTD: MediaType.OCI_LAYER_ZSTD,
    MediaType.DOCKER_FOREIGN: MediaType.OCI_FOREIGN,
    MediaType.DOCKER_FOREIGN_GZIP: MediaType.OCI_FOREIGN_GZIP,
}


def oci_twin(media_type: str) -> str:
    """OCI's name for what Docker calls *media_type*; any other name comes back as it is."""
    return _TO_OCI.get(MediaType(media_type), media_type) if media_type in _TO_OCI else media_type


class Descriptor(Struct, frozen=True, omit_defaults=True, rename="camel"):
    """What a blob must turn out to be; never trusted until its bytes agree."""

    media_type: str
    digest: Digest
    size: Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]
    urls: tuple[str, ...] | None = None
    annotations: dict[str, str] | None = None
    platform: Platform | None = None
    artifact_type: str | None = None

    def annotation(self, key: str) -> str | None:
        """The annotation *key*, None when there is none."""
        return (self.annotations or {}).get(key)

    @property
    def bare(self) -> Self:
        """The same blob with nothing said about it but type, digest and size."""
        return type(self)(self.media_type, self.digest, self.size)

    @property
    def in_oci_words(self) -> Self:
        """The same, with OCI's media type where Docker's has a twin."""
        return replace(self, media_type=oci_twin(self.media_type))

    def annotated(self, annotations: Mapping[str, str]) -> Self:
        """The same with *annotations* added."""
        return replace(self, annotations={**(self.annotations or {}), **annotations})

    def within(self, outer: Platform | None) -> Self:
        """This entry of an index that is itself for the platform *outer*."""
        return self if self.platform is not None else replace(self, platform=outer)

    @property
    def is_attestation(self) -> bool:
        """Whether this is a statement about an image in the same index, not an image.

        BuildKit marks those with an annotation and the platform ``unknown/unknown``.
        """
        if self.annotation(REFERENCE_TYPE) is not None:
            return True
        return self.platform is not None and self.platform.is_unknown
