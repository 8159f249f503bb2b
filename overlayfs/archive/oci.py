"""OCI image layouts (image-spec, image-layout.md), as a directory or in a tar."""

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from overlayfs.archive.choice import Found, Variant, familiar
from overlayfs.archive.files import Files
from overlayfs.archive.image import Contents, from_manifest, read_blob
from overlayfs.errors import InvalidImage
from overlayfs.image.descriptor import (
    CONTAINERD_NAME,
    INDEXES,
    MANIFESTS,
    REF_NAME,
    SCHEMA1,
    Descriptor,
)
from overlayfs.image.digest import Digest
from overlayfs.image.json import MANIFEST_LIMIT
from overlayfs.image.manifest import Index, Manifest
from overlayfs.image.reference import is_tag

_MOST_NESTED = 8
_MOST_MANIFESTS = 4096
_SUFFIXES = re.compile(
    r"(?:\.(?:tar|gz|gzip|tgz|zst|zstd|tzst|xz|txz|oci|oci-archive|oci-dir))+$", re.IGNORECASE
)


def blob_path(digest: Digest) -> str:
    """Where a layout keeps the blob *digest*."""
    return f"blobs/{digest.algorithm}/{digest.hex}"


def layout_images(files: Files, path: Path) -> list[Found]:
    """The images of the layout *files* at *path*, whose stem names those with a bare tag.

    Attestations and artifacts with media types of their own are passed over.  Entries with
    one name and different platforms are one image.  Raises InvalidImage for a damaged index.
    """
    _check_version(files)
    index = Index.parse(files.read("index.json", MANIFEST_LIMIT), files.named("index.json"))
    name = path.name if path.name not in ("", "..") else path.resolve().name
    stem = _SUFFIXES.sub("", name).lower()
    budget = iter(range(_MOST_MANIFESTS))
    return [
        Found(
            familiar(_full_name(name, stem) for name in _written(entries[0][1])),
            _written(entries[0][1]),
            tuple(
                Variant(
                    at,
                    leaf.digest,
                    leaf.platform,
                    nested=entry.media_type in INDEXES,
                    here=files.has(blob_path(leaf.digest)),
                    load=partial(_load, files, leaf),
                )
                for at, entry in entries
                for leaf in _leaves(files, entry, budget)
            ),
        )
        for entries in _grouped(index)
    ]


def with_config(files: Files, wanted: Digest) -> Contents | None:
    """The image of a layout that has the configuration *wanted*; None when it has none.

    Docker 25 and later list images for platforms that they do not save: those are passed over.
    """
    index = Index.parse(files.read("index.json", MANIFEST_LIMIT), files.named("index.json"))
    budget = iter(range(_MOST_MANIFESTS))
    for entry in filter(_is_image, index.manifests):
        if not files.has(blob_path(entry.digest)):
            continue
        for leaf in _leaves(files, entry, budget):
            if not files.has(blob_path(leaf.digest)):
                continue
            data = read_blob(files, blob_path(leaf.digest), leaf, MANIFEST_LIMIT)
            if (
                Manifest.parse(data, f"{files.label}: manifest {leaf.digest}").config.digest
                == wanted
            ):
                return from_manifest(files, data, leaf.bare, blob_path)
    return None


def _check_version(files: Files) -> None:
    """Raise InvalidImage when ``oci-layout`` is of a version that is not known."""
    if not files.has("oci-layout"):
        return
    data = files.read("oci-layout", 4096)
    version = re.search(rb'"imageLayoutVersion"\s*:\s*"1\.', data)
    if version is None:
        raise InvalidImage(f"{files.named('oci-layout')}: not version 1 of an OCI image layout")


def _is_image(entry: Descriptor) -> bool:
    if entry.media_type in SCHEMA1:
        return True  # to be refused by name, should it be chosen
    return entry.media_type in MANIFESTS | INDEXES and not entry.is_attestation


def _grouped(index: Index) -> list[list[tuple[int, Descriptor]]]:
    """The entries of *index* that are images, those of one image for several platforms together.

    They have the same name, or none, and each a platform of its own.
    """
    by_name: dict[tuple[str, ...], list[tuple[int, Descriptor]]] = {}
    for at, entry in enumerate(index.manifests):
        if _is_image(entry):
            by_name.setdefault(_written(entry), []).append((at, entry))
    groups = []
    for same in by_name.values():
        platforms = {entry.platform for _, entry in same}
        together = None not in platforms and len(platforms) == len(same)
        groups += [same] if together else [[one] for one in same]
    return sorted(groups, key=lambda group: group[0][0])


def _written(entry: Descriptor) -> tuple[str, ...]:
    names = (entry.annotation(CONTAINERD_NAME), entry.annotation(REF_NAME))
    # BuildKit writes the full name and the bare tag; the tag adds nothing then.
    return tuple(name for name in names[: 1 if names[0] else 2] if name)


def _full_name(name: str, stem: str) -> str:
    """umoci, and skopeo when told so, give a tag only: the file names the image."""
    return f"{stem}:{name}" if is_tag(name) else name


def _leaves(
    files: Files, entry: Descriptor, budget: Iterator[int], depth: int = 0
) -> Iterator[Descriptor]:
    """The manifests that *entry* leads to; *entry* itself if it is one."""
    if next(budget, None) is None or depth > _MOST_NESTED:
        raise InvalidImage(f"{files.label}: too many indexes, one in the other")
    if entry.media_type not in INDEXES:
        yield entry
        return
    data = read_blob(files, blob_path(entry.digest), entry, MANIFEST_LIMIT)
    what = f"{files.label}: index {entry.digest}"
    for inner in Index.parse(data, what).manifests:
        if _is_image(inner):
            # An index for one platform may leave it to the outer one to say so.
            yield from _leaves(files, inner.within(entry.platform), budget, depth + 1)


def _load(files: Files, entry: Descriptor) -> Contents:
    data = read_blob(files, blob_path(entry.digest), entry, MANIFEST_LIMIT)
    return from_manifest(files, data, entry.bare, blob_path)
