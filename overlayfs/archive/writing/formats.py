"""The formats that images are saved in, as docker, podman, skopeo and umoci read them."""

import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

from overlayfs.archive.location import Transport
from overlayfs.archive.oci import blob_path
from overlayfs.archive.writing.images import Options, Outgoing, Written, write_images
from overlayfs.archive.writing.output import assembled, is_free, refused
from overlayfs.archive.writing.sinks import Sink
from overlayfs.archive.writing.targets import FolderTarget, Target, TarTarget
from overlayfs.errors import InvalidImage, OverlayError
from overlayfs.image.descriptor import CONTAINERD_NAME, REF_NAME, Descriptor
from overlayfs.image.json import encode
from overlayfs.image.manifest import Index
from overlayfs.image.reference import Reference, is_tag
from overlayfs.printable import printable

ARCHIVES = (Transport.DOCKER_ARCHIVE, Transport.OCI_ARCHIVE)

# image-layout.md, "oci-layout file".
_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
# containers/image, directory/directory_transport.go.
_DIRECTORY = b"Directory Transport Version: 1.1\n"


def write_archive(
    out: Sink, images: Sequence[Outgoing], transport: Transport, options: Options
) -> list[Written]:
    """Write *images* to *out* as a tar: ``docker-archive`` or ``oci-archive``.

    Both are OCI layouts; the first has Docker's lists beside, as Docker 25 and later write it,
    so that each program finds in it what it knows.  Errors as ``write_images`` has.
    """
    tar = TarTarget(out)
    written = write_images(images, tar, blob_path, options)
    _put(tar, "index.json", Index(tuple(_entries(written))).to_json())
    if transport is Transport.DOCKER_ARCHIVE:
        _put(tar, "manifest.json", encode([_saved(one) for one in written]))
    _put(tar, "oci-layout", _LAYOUT)
    if transport is Transport.DOCKER_ARCHIVE:
        _put(tar, "repositories", encode(_repositories(written)))
    tar.end()
    return written


def write_layout(folder: Path, images: Sequence[Outgoing], options: Options) -> list[Written]:
    """Write *images* into the OCI layout *folder*, which is made if it is not there.

    What is in it stays, but for names that are given to another image now.  It is as it was
    when something fails.  Errors as ``write_images`` has, and OverlayError for a folder that
    is something else.
    """
    if is_free(folder):
        with assembled(folder, "index.json") as draft:
            target = FolderTarget(draft)
            written = write_images(images, target, blob_path, options)
            _put(target, "oci-layout", _LAYOUT)
            _put(target, "index.json", Index(tuple(_entries(written))).to_json())
        return written
    label = printable(str(folder))
    if not (folder / "index.json").is_file():
        raise OverlayError(f"{label}: not empty, and no OCI layout", hint="name a new directory")
    with _alone(folder, label):
        target = FolderTarget(folder)
        try:
            written = write_images(images, target, blob_path, options)
            if not (folder / "oci-layout").exists():
                _put(target, "oci-layout", _LAYOUT)
            _put(target, "index.json", _updated(folder, label, list(_entries(written))))
        except BaseException:
            target.undo()
            raise
    return written


def write_directory(folder: Path, images: Sequence[Outgoing], options: Options) -> list[Written]:
    """Write the one of *images* to the new directory *folder*, as skopeo's ``dir:`` has it.

    Errors as ``write_images`` has, and OverlayError for more than one image, for which the
    form has no room, and for a folder that is not empty.
    """
    label = printable(str(folder))
    if len(images) != 1:
        raise OverlayError(
            f"{label}: a dir: directory holds one image, not {len(images)}",
            hint="docker-archive, oci-archive and oci hold several",
        )
    if not is_free(folder):
        raise OverlayError(f"{label}: not an empty directory", hint="name a new one")
    with assembled(folder, "manifest.json") as draft:
        target = FolderTarget(draft)
        exact = replace(options, exact=True)
        written = write_images(images, target, lambda digest: digest.hex, exact)
        # Its manifest goes by another name.
        (draft / written[0].manifest.digest.hex).rename(draft / "manifest.json")
        _put(target, "version", _DIRECTORY)
    return written


def _put(target: Target, path: str, data: bytes) -> None:
    target.put(path, len(data), BytesIO(data))


# -- lists -----------------------------------------------------------------------------


def _entries(images: Sequence[Written]) -> Iterator[Descriptor]:
    """The entries of an index: one for each name, and for an image without a name.

    Names are in full, here and in Docker's lists, since podman takes a short one for its own
    ``localhost/…``; all tools know the full ones.
    """
    for image in images:
        for name in image.names:
            full = reference.canonical if (reference := _reference(name)) else name
            names = {REF_NAME: full}
            if reference is not None:
                names[CONTAINERD_NAME] = full
            yield image.manifest.annotated(dict(sorted(names.items())))
        if not image.names:
            yield image.manifest


def _saved(image: Written) -> dict[str, Any]:
    """An item of Docker's ``manifest.json``."""
    references = filter(None, map(_reference, image.names))
    tags = [reference.canonical for reference in references if reference.tag]
    return {
        "Config": blob_path(image.config.digest),
        "RepoTags": tags or None,
        "Layers": [blob_path(layer.digest) for layer in image.layers],
    }


def _repositories(images: Sequence[Written]) -> dict[str, dict[str, str]]:
    """What Docker before 1.10 reads: names, and the topmost layer of each image."""
    found: dict[str, dict[str, str]] = {}
    for image in images:
        for name in image.names:
            reference = _reference(name)
            if reference is None or reference.tag is None or not image.layers:
                continue
            found.setdefault(reference.repository, {})[reference.tag] = image.layers[-1].digest.hex
    return {repository: dict(sorted(tags.items())) for repository, tags in sorted(found.items())}


def _reference(name: str) -> Reference | None:
    """What *name* means; None for what no tool of today takes for a name."""
    try:
        return Reference.parse(name)
    except OverlayError:
        return None


# -- layouts that are there ------------------------------------------------------------


def _updated(folder: Path, label: str, entries: list[Descriptor]) -> bytes:
    """The index of the layout *folder* with *entries*, all that is not theirs left as it is."""
    try:
        data = (folder / "index.json").read_bytes()
    except OSError as exc:
        raise refused(f"{label}/index.json", exc) from exc
    known = Index.parse(data, f"{label}/index.json").manifests
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as exc:
        raise InvalidImage(f"{label}/index.json: {exc}") from exc
    names = {_meaning(name) for entry in entries if (name := entry.annotation(REF_NAME))}
    digests = {entry.digest for entry in entries}
    named = {entry.digest for entry in entries if entry.annotation(REF_NAME)}
    kept = []
    there = set()
    for entry, raw in zip(known, document.get("manifests") or (), strict=True):
        name = entry.annotation(REF_NAME)
        if (name is not None and _meaning(name) in names) or (
            name is None and entry.digest in named
        ):
            continue
        if entry.digest in digests:
            there.add(entry.digest)
        kept.append(raw)
    for entry in entries:
        if entry.annotation(REF_NAME) or entry.digest not in there:
            kept.append(json.loads(encode(entry)))
    document["manifests"] = kept
    return json.dumps(document, separators=(",", ":")).encode()


def _meaning(name: str) -> str:
    """*name* in full: busybox:latest is docker.io/library/busybox:latest; a mere tag stays."""
    reference = None if is_tag(name) else _reference(name)
    return reference.canonical if reference else name


@contextmanager
def _alone(folder: Path, label: str) -> Iterator[None]:
    """Let no other process of ours change *folder* meanwhile."""
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as exc:
        raise refused(label, exc) from exc
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
