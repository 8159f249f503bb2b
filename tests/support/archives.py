"""Image archives byte by byte: layouts that no installed tool writes, and hostile ones."""

import hashlib
import io
import json
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from overlayfs.archive.compression import decompressed
from overlayfs.image.config import ImageConfig
from overlayfs.image.digest import verified
from overlayfs.image.source import ImageSource, LayerSource

OCI = "application/vnd.oci.image"
DOCKER = "application/vnd.docker"


@dataclass(frozen=True, slots=True)
class Link:
    """A member that is a link: symbolic, or hard."""

    target: str
    hard: bool = False


@dataclass(frozen=True, slots=True)
class Special:
    """A member of another type, with or without a size it claims."""

    type: bytes
    size: int = 0


Member = bytes | Link | Special | None  # None: a directory
Members = Sequence[tuple[str, Member]]


def tar_bytes(members: Members, form: int = tarfile.GNU_FORMAT) -> bytes:
    """A tar with just these members, in this order."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as tar:
        for name, member in members:
            info = tarfile.TarInfo(name)
            match member:
                case bytes():
                    info.size = len(member)
                    tar.addfile(info, io.BytesIO(member))
                    continue
                case Link():
                    info.type = tarfile.LNKTYPE if member.hard else tarfile.SYMTYPE
                    info.linkname = member.target
                case Special():
                    info.type, info.size = member.type, member.size
                case None:
                    info.type = tarfile.DIRTYPE
            tar.addfile(info)
    return out.getvalue()


def write_tar(path: Path, members: Members) -> Path:
    """That tar at *path*."""
    path.write_bytes(tar_bytes(members))
    return path


def write_directory(path: Path, members: Members) -> Path:
    """The same files below a new directory *path*."""
    path.mkdir(parents=True)
    for name, member in members:
        target = path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        match member:
            case bytes():
                target.write_bytes(member)
            case Link(hard=False):
                target.symlink_to(member.target)
            case Link():
                target.hardlink_to(path / member.target)
            case Special():
                raise ValueError("a special member is for tars")
            case None:
                target.mkdir(exist_ok=True)
    return path


def to_json(value: Any) -> bytes:
    """Compact JSON, as Go's tools write it."""
    return json.dumps(value, separators=(",", ":")).encode()


def sha256(data: bytes) -> str:
    """The hex digest of *data*."""
    return hashlib.sha256(data).hexdigest()


def digest(data: bytes) -> str:
    """The digest of *data*, with its algorithm."""
    return f"sha256:{sha256(data)}"


def descriptor(media_type: str, data: bytes, **more: Any) -> dict[str, Any]:
    """The descriptor of *data*."""
    return {"mediaType": media_type, "digest": digest(data), "size": len(data), **more}


@dataclass(frozen=True)
class Made:
    """An image: uncompressed layers, base first, and what its configuration says besides."""

    layers: tuple[bytes, ...]
    more: Mapping[str, Any] = field(default_factory=dict)
    architecture: str = "amd64"

    @property
    def config(self) -> bytes:
        return to_json(
            {
                "architecture": self.architecture,
                "os": "linux",
                "config": {"Env": ["PATH=/bin"], "Cmd": ["/bin/sh"]},
                "rootfs": {"type": "layers", "diff_ids": [digest(layer) for layer in self.layers]},
                "history": [{"created_by": "made"} for _ in self.layers],
                **self.more,
            }
        )

    @property
    def id(self) -> str:
        return digest(self.config)

    def manifest(self, **more: Any) -> bytes:
        layers = [descriptor(f"{OCI}.layer.v1.tar", layer) for layer in self.layers]
        return to_json(
            {
                "schemaVersion": 2,
                "mediaType": f"{OCI}.manifest.v1+json",
                "config": descriptor(f"{OCI}.config.v1+json", self.config),
                "layers": layers,
                **more,
            }
        )


def image(*texts: str, architecture: str = "amd64", **more: Any) -> Made:
    """An image with one layer, a file with the text, for each of *texts*."""
    layers = tuple(tar_bytes([("file", text.encode())], tarfile.PAX_FORMAT) for text in texts)
    return Made(layers, more, architecture)


def v1_id(number: int) -> str:
    """An id as Docker drew them at random before 1.10."""
    return f"{number:064x}"


def before_1_10(
    chain: Sequence[tuple[str, Mapping[str, Any], bytes | None]],
    repositories: Mapping[str, Mapping[str, str]] | None,
) -> Members:
    """``docker save`` of Docker 1.9: (id, what its json says besides, layer), base first."""
    members: list[tuple[str, Member]] = []
    parent = ""
    for id_, more, layer in chain:
        document = {"id": id_, **({"parent": parent} if parent else {}), **more}
        members += [
            (f"{id_}/", None),
            (f"{id_}/VERSION", b"1.0"),
            (f"{id_}/json", to_json(document)),
        ]
        if layer is not None:
            members.append((f"{id_}/layer.tar", layer))
        parent = id_
    if repositories is not None:
        members.append(("repositories", to_json(repositories)))
    return members


def from_1_10(images: Iterable[tuple[Made, Sequence[str]]]) -> Members:
    """``docker save`` of Docker 1.10 to 24: equal layers are symlinks to the first of them."""
    members: list[tuple[str, Member]] = []
    listed = []
    kept: dict[str, str] = {}
    number = 0
    for made, names in images:
        paths = []
        for layer in made.layers:
            number += 1
            folder = sha256(b"%d" % number)
            path = f"{folder}/layer.tar"
            known = kept.setdefault(digest(layer), path)
            members += [
                (f"{folder}/", None),
                (f"{folder}/VERSION", b"1.0"),
                (f"{folder}/json", to_json({"id": folder})),
                (path, layer if known == path else Link(f"../{known}")),
            ]
            paths.append(path)
        config = f"{sha256(made.config)}.json"
        members.append((config, made.config))
        listed.append({"Config": config, "RepoTags": list(names) or None, "Layers": paths})
    return [*members, ("manifest.json", to_json(listed)), ("repositories", b"{}")]


def blobs(*contents: bytes) -> Members:
    """The members ``blobs/sha256/…`` of a layout."""
    return [(f"blobs/sha256/{sha256(data)}", data) for data in dict.fromkeys(contents)]


def layout(entries: Sequence[Mapping[str, Any]], *contents: bytes) -> Members:
    """An OCI image layout with these entries in its index, and these blobs."""
    index = {"schemaVersion": 2, "mediaType": f"{OCI}.index.v1+json", "manifests": list(entries)}
    return [
        *blobs(*contents),
        ("index.json", to_json(index)),
        ("oci-layout", b'{"imageLayoutVersion":"1.0.0"}'),
    ]


def entry(made: Made, name: str | None = None, **more: Any) -> dict[str, Any]:
    """The entry of an index for an image."""
    annotations = {} if name is None else {"org.opencontainers.image.ref.name": name}
    return descriptor(
        f"{OCI}.manifest.v1+json", made.manifest(), annotations=annotations or None, **more
    )


def contents(*images: Made) -> tuple[bytes, ...]:
    """All blobs of some images."""
    return tuple(data for made in images for data in (made.manifest(), made.config, *made.layers))


def from_25(made: Made, name: str) -> Members:
    """``docker save`` of Docker 25 and later: an OCI layout and a docker-archive at once."""
    repository, _, tag = name.rpartition(":")
    index_entry = descriptor(
        f"{OCI}.manifest.v1+json",
        made.manifest(),
        annotations={
            "io.containerd.image.name": f"docker.io/library/{name}",
            "org.opencontainers.image.ref.name": tag,
        },
    )
    listed = {
        "Config": f"blobs/sha256/{sha256(made.config)}",
        "RepoTags": [name],
        "Layers": [f"blobs/sha256/{sha256(layer)}" for layer in made.layers],
        "LayerSources": {
            digest(layer): descriptor(f"{OCI}.layer.v1.tar", layer) for layer in made.layers
        },
    }
    return [
        *layout([index_entry], *contents(made)),
        ("manifest.json", to_json([listed])),
        ("repositories", to_json({repository: {tag: sha256(made.layers[-1])}})),
    ]


def attestation(made: Made) -> tuple[dict[str, Any], tuple[bytes, ...]]:
    """What BuildKit puts beside an image in its index, and the blobs of it."""
    statement = to_json({"_type": "https://in-toto.io/Statement/v0.1"})
    config = to_json({"architecture": "unknown", "os": "unknown", "rootfs": {"type": "layers"}})
    manifest = to_json(
        {
            "schemaVersion": 2,
            "mediaType": f"{OCI}.manifest.v1+json",
            "config": descriptor(f"{OCI}.config.v1+json", config),
            "layers": [descriptor("application/vnd.in-toto+json", statement)],
        }
    )
    described = descriptor(
        f"{OCI}.manifest.v1+json",
        manifest,
        platform={"architecture": "unknown", "os": "unknown"},
        annotations={
            "vnd.docker.reference.digest": digest(made.manifest()),
            "vnd.docker.reference.type": "attestation-manifest",
        },
    )
    return described, (statement, config, manifest)


@dataclass(frozen=True, slots=True)
class Taken:
    """What a source gave, all of it verified."""

    names: tuple[str, ...]
    id: str
    manifest: bytes | None
    layers: tuple[bytes, ...]


def taken(source: ImageSource) -> Taken:
    """Everything that *source* gives, read as a store reads it."""
    if source.manifest is None:
        assert source.manifest_descriptor is None
    else:
        assert source.manifest_descriptor is not None
        source.manifest_descriptor.digest.check(source.manifest)
        assert source.manifest_descriptor.size == len(source.manifest)
    source.config_digest.check(source.config)
    assert len(source.layers) == len(ImageConfig.parse(source.config).diff_ids)
    return Taken(
        source.names,
        str(source.config_digest),
        source.manifest,
        tuple(_taken_layer(layer) for layer in source.layers),
    )


def _taken_layer(layer: LayerSource) -> bytes:
    blob: BinaryIO = layer.open()
    if layer.descriptor is not None:
        assert layer.descriptor.size == layer.size
        blob = verified(blob, layer.descriptor.digest, layer.descriptor.size)
    with verified(decompressed(blob), layer.diff_id) as stream:
        return stream.read()
