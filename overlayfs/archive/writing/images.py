"""Images written into one target: blobs first, then what names them."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from overlayfs.archive.image import same_number
from overlayfs.archive.writing.blobs import Blobs
from overlayfs.archive.writing.packing import Packing
from overlayfs.archive.writing.targets import Target
from overlayfs.errors import OverlayError
from overlayfs.image.config import ImageConfig
from overlayfs.image.descriptor import Descriptor, MediaType
from overlayfs.image.digest import Digest
from overlayfs.image.manifest import Manifest
from overlayfs.image.source import ImageSource, LayerSource
from overlayfs.image.stream import Stream

Locate = Callable[[Digest], str]
# What tells one layer from another; of those that say no digest the diff id must do.
_Key = tuple[Digest, Digest | None]


@dataclass(frozen=True, slots=True)
class Outgoing:
    """An image to be written, under these names; *label* is what messages call it."""

    source: ImageSource
    names: tuple[str, ...]
    label: str


@dataclass(frozen=True, slots=True)
class Written:
    """An image that was written: its parts, *layers* base first."""

    names: tuple[str, ...]
    manifest: Descriptor
    config: Descriptor
    layers: tuple[Descriptor, ...]


@dataclass(frozen=True, slots=True)
class Options:
    """How to write: layers as they are unless there is a *packing*; *scratch* for them then.

    *exact* keeps manifests that are Docker's too; OCI's are kept anyway, byte by byte.
    *advance* is told of the bytes of layers that were written.
    """

    packing: Packing | None
    scratch: Path
    exact: bool = False
    advance: Callable[[int], None] = lambda n: None


def merged(images: Iterable[Outgoing]) -> list[Outgoing]:
    """*images*, each once with all its names.

    Raises OverlayError when two different ones have the same name.
    """
    found: dict[tuple[Digest, bytes | None], Outgoing] = {}
    owners: dict[str, Outgoing] = {}
    for image in images:
        key = (image.source.config_digest, image.source.manifest)
        before = found.get(key)
        names = (before.names if before else ()) + image.names
        found[key] = Outgoing(image.source, tuple(dict.fromkeys(names)), image.label)
        for name in image.names:
            other = owners.setdefault(name, image)
            if (other.source.config_digest, other.source.manifest) != key:
                raise OverlayError(
                    f"{name}: both {other.label} and {image.label} are called so",
                    hint="name one of them otherwise first, with `pyoverlay tag`",
                )
    return list(found.values())


def write_images(
    images: Sequence[Outgoing], target: Target, locate: Locate, options: Options
) -> list[Written]:
    """Write manifests, configurations and layers to where *locate* says.

    Raises InvalidImage, beginning with the image's label, for bytes that are not those they
    should be, and OverlayError for what cannot be written.
    """
    layers = _write_layers(images, target, locate, options)
    written = []
    for image in images:
        own = tuple(layers[_key(layer)] for layer in image.source.layers)
        written.append(_write_image(image, own, target, locate, options))
    return written


def _write_layers(
    images: Sequence[Outgoing], target: Target, locate: Locate, options: Options
) -> dict[_Key, Descriptor]:
    wanted: dict[_Key, tuple[LayerSource, str]] = {}
    for image in images:
        _check(image)
        for layer in image.source.layers:
            digest = layer.descriptor.digest if layer.descriptor else layer.diff_id
            wanted.setdefault(_key(layer), (layer, f"{image.label}: layer {digest}"))
    found: dict[_Key, Descriptor] = {}
    # Closed when writing fails: then nobody goes on packing.
    with closing(Blobs(options.packing, options.scratch).of(wanted.values())) as blobs:
        for key, blob in zip(wanted, blobs, strict=True):
            descriptor = found[key] = blob.descriptor
            with blob.stream as stream:
                if target.has(locate(descriptor.digest), descriptor.digest):
                    options.advance(descriptor.size)
                else:
                    counted = _Counted(stream, options.advance)
                    target.put(locate(descriptor.digest), descriptor.size, counted)
    return found


def _check(image: Outgoing) -> None:
    """Raise InvalidImage unless the layers are those that the configuration names."""
    source = image.source
    source.config_digest.check(source.config, f"{image.label}: configuration")
    config = ImageConfig.parse(source.config, f"{image.label}: configuration")
    same_number(image.label, len(source.layers), len(config.diff_ids))


def _write_image(
    image: Outgoing,
    layers: tuple[Descriptor, ...],
    target: Target,
    locate: Locate,
    options: Options,
) -> Written:
    source = image.source
    data, media_type = _manifest(source, layers, exact=options.exact)
    parsed = Manifest.parse(data, f"{image.label}: manifest")
    known = source.manifest_descriptor if source.manifest == data else None
    manifest = Descriptor(media_type, known.digest if known else Digest.of(data), len(data))
    for descriptor, content in ((parsed.config, source.config), (manifest, data)):
        path = locate(descriptor.digest)
        if not target.has(path, descriptor.digest):
            target.put(path, len(content), BytesIO(content))
    return Written(image.names, manifest, parsed.config, parsed.layers)


def _manifest(
    source: ImageSource, layers: tuple[Descriptor, ...], *, exact: bool
) -> tuple[bytes, str]:
    """The manifest for *layers* and its media type: the one that is there, if it fits."""
    given = Manifest.parse(source.manifest) if source.manifest is not None else None
    if given is not None and source.manifest is not None:
        same = [layer.digest for layer in given.layers] == [layer.digest for layer in layers]
        if same and (exact or given.media_type == MediaType.OCI_MANIFEST):
            return source.manifest, given.media_type
    config = Descriptor(MediaType.OCI_CONFIG, source.config_digest, len(source.config))
    described = []
    for number, layer in enumerate(layers):
        if given is not None and given.layers[number].digest == layer.digest:
            layer = given.layers[number]
        described.append(layer.in_oci_words)
    made = Manifest(config, tuple(described), annotations=given.annotations if given else None)
    return made.to_json(), made.media_type


class _Counted(Stream):
    """*stream*, with somebody told of what was read."""

    def __init__(self, stream: BinaryIO, advance: Callable[[int], None]) -> None:
        super().__init__()
        self._stream = stream
        self._advance = advance

    def _next(self, n: int) -> bytes:
        piece = self._stream.read(n)
        self._advance(len(piece))
        return piece


def _key(layer: LayerSource) -> _Key:
    return layer.diff_id, layer.descriptor.digest if layer.descriptor else None
