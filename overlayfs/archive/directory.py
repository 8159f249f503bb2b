"""What ``skopeo copy … dir:`` writes: a manifest, and blobs by the hex of their digest."""

from functools import partial

from overlayfs.archive.choice import Found, Variant
from overlayfs.archive.files import Files
from overlayfs.archive.image import Contents, from_manifest, read_blob
from overlayfs.errors import InvalidImage
from overlayfs.image.descriptor import Descriptor
from overlayfs.image.digest import Digest
from overlayfs.image.json import MANIFEST_LIMIT
from overlayfs.image.manifest import Index, Manifest, parse

_VERSION = b"Directory Transport Version: 1."


def directory_images(files: Files) -> list[Found]:
    """The one image that the directory holds, for each platform it holds it for.

    Raises InvalidImage when the manifest or the version is not as it should be.
    """
    if files.has("version") and not files.read("version", 4096).startswith(_VERSION):
        raise InvalidImage(f"{files.named('version')}: not version 1 of a dir: directory")
    data = files.read("manifest.json", MANIFEST_LIMIT)
    parsed = parse(data, files.named("manifest.json"))
    if isinstance(parsed, Manifest):
        digest = Digest.of(data)
        descriptor = Descriptor(parsed.media_type, digest, len(data))
        load = partial(from_manifest, files, data, descriptor, _blob_path)
        return [Found((), (), (Variant(0, digest, None, nested=False, load=load),))]
    return [Found((), (), tuple(_variants(files, parsed)))]


def _variants(files: Files, index: Index) -> list[Variant]:
    """``skopeo copy --all`` keeps the list's manifests as ``<hex>.manifest.json``."""
    return [
        Variant(0, entry.digest, entry.platform, nested=True, load=partial(_load, files, entry))
        for entry in index.manifests
        if not entry.is_attestation and files.has(_manifest_path(entry))
    ]


def _load(files: Files, entry: Descriptor) -> Contents:
    data = read_blob(files, _manifest_path(entry), entry, MANIFEST_LIMIT)
    return from_manifest(files, data, entry.bare, _blob_path)


def _manifest_path(entry: Descriptor) -> str:
    return f"{entry.digest.hex}.manifest.json"


def _blob_path(digest: Digest) -> str:
    return digest.hex
