"""An image in a file or a directory, whatever tool wrote it: told by content, never by name."""

import os
import stat
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from io import FileIO
from pathlib import Path
from typing import BinaryIO

from overlayfs.archive.choice import Choice, Found, choose, choose_all
from overlayfs.archive.compression import Compression, decompressed, sniff
from overlayfs.archive.directory import directory_images
from overlayfs.archive.docker import is_v1, saved_images, v1_images
from overlayfs.archive.files import DirectoryFiles, Files, opened
from overlayfs.archive.image import ArchivedImage, Contents
from overlayfs.archive.limits import Allowance
from overlayfs.archive.location import Location, Transport
from overlayfs.archive.members import TarFiles
from overlayfs.archive.oci import layout_images, with_config
from overlayfs.errors import ImageNotFound, InvalidImage, OverlayError
from overlayfs.image.digest import Digest
from overlayfs.image.json import MANIFEST_LIMIT
from overlayfs.image.platform import Platform
from overlayfs.image.source import ImageSource
from overlayfs.printable import printable

_COPY = 1 << 20


def open_image(spec: str, *, platform: Platform | None = None, scratch: Path) -> ImageSource:
    """The image that *spec* names: a path, and which of its images if there are several.

    *spec* is as ``Location.parse`` reads it.  *platform* chooses from an index, where the
    default is this machine's, and must fit where there is no choice.  A compressed archive,
    and one that cannot be read twice, is copied into *scratch*, to a file without a name.

    Raises ImageNotFound when there is no such file, name or platform; AmbiguousImage, with
    a list, when several images fit; InvalidImage for what is damaged, hostile or no image;
    OverlayError for what cannot be read.
    """
    location = _location(spec)
    files = _open(location.path, scratch)
    try:
        images = _images(files, location)
        names, variant = choose(images, location.selector, platform, files.label)
        return ArchivedImage(files, names, variant.load())
    except BaseException:
        files.close()
        raise


@contextmanager
def opened_images(
    spec: str | int, *, platform: Platform | None = None, scratch: Path
) -> Iterator[Iterator[ImageSource]]:
    """All images at *spec*, or those of them that it names, one after the other.

    *spec* may be an open descriptor.  Of an index one image is taken, as ``open_image`` does,
    and errors are the same, but that several are no error.  What can be told beforehand is:
    when one of the images is not for *platform*, none is given.
    """
    if isinstance(spec, int):
        location = Location(Path(f"/dev/fd/{spec}"))
        opened = _open_descriptor(spec, scratch, "standard input" if spec == 0 else f"fd {spec}")
    else:
        location = _location(spec)
        opened = _open(location.path, scratch)
    with opened as files:
        chosen = choose_all(_images(files, location), location.selector, platform, files.label)
        yield (ArchivedImage(files, names, variant.load()) for names, variant in chosen)


def list_images(spec: str, *, scratch: Path) -> list[Choice]:
    """The images at *spec*, for each platform that is there; errors as ``open_image`` has.

    A name or an index in *spec* is passed over.
    """
    location = _location(spec)
    with _open(location.path, scratch) as files:
        return [
            Choice(image.names, variant.index, contents.config.platform, contents.config_digest)
            for image in _images(files, location)
            for variant in image.variants
            if variant.here
            for contents in [variant.load()]
        ]


def _location(spec: str) -> Location:
    location = Location.parse(spec)
    if location is None:
        raise ImageNotFound(f"{printable(spec)}: no such file or directory")
    return location


def _images(files: Files, location: Location) -> list[Found]:
    """The images of whichever kind of archive *files* is, or is said to be."""
    kinds = _kinds(files, location.path)
    if not kinds:
        raise InvalidImage(
            f"{files.label}: not an image: no manifest.json, index.json or repositories in it"
        )
    wanted = location.transport
    for transports, load in kinds:
        if wanted in (None, *transports):
            return load()
    really = kinds[0][0][0]
    raise InvalidImage(f"{files.label}: not {wanted}:, but what {really}: stands for")


def _kinds(
    files: Files, path: Path
) -> list[tuple[tuple[Transport, ...], Callable[[], list[Found]]]]:
    """How *files* can be read, the best way first, by the transports that mean it.

    Since Docker 25 an archive is two things at once; its ``manifest.json`` has the names.
    """
    kinds: list[tuple[tuple[Transport, ...], Callable[[], list[Found]]]] = []
    is_layout = files.has("index.json")
    first = b""
    if files.has("manifest.json"):
        first = files.read("manifest.json", MANIFEST_LIMIT).lstrip()[:1]
        if first == b"[":
            known = partial(with_config, files) if is_layout else _unknown
            kinds.append(((Transport.DOCKER_ARCHIVE,), partial(saved_images, files, known)))
    elif not is_layout and is_v1(files):
        kinds.append(((Transport.DOCKER_ARCHIVE,), partial(v1_images, files)))
    if is_layout:
        oci = (Transport.OCI, Transport.OCI_ARCHIVE)
        kinds.append((oci, partial(layout_images, files, path)))
    if first == b"{":
        kinds.append(((Transport.DIR,), partial(directory_images, files)))
    return kinds


def _unknown(_: Digest) -> Contents | None:
    return None


def _open(path: Path, scratch: Path) -> Files:
    label = printable(str(path))
    with opened(path, label) as fd:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            return DirectoryFiles(path, label)
        return _open_descriptor(fd, scratch, label)


def _open_descriptor(fd: int, scratch: Path, label: str) -> Files:
    """The archive that *fd* gives; the descriptor stays the caller's."""
    plain = stat.S_ISREG(os.fstat(fd).st_mode) and not _is_packed(fd, label)
    tar = os.dup(fd) if plain else _copied(fd, scratch, label)
    try:
        return TarFiles(tar, label)
    except BaseException:
        os.close(tar)
        raise


def _is_packed(fd: int, label: str) -> bool:
    head = os.pread(fd, 6, 0)
    if not head:
        raise InvalidImage(f"{label}: the file is empty")
    return sniff(head) is not Compression.NONE


def _copied(fd: int, scratch: Path, label: str) -> int:
    """The tar that *fd* gives, unpacked into a file that has no name and so cannot be left."""
    try:
        copy = tempfile.TemporaryFile(dir=scratch)  # noqa: SIM115  # closed by the next with
    except OSError as exc:
        raise OverlayError(f"{printable(str(scratch))}: {exc.strerror}") from exc
    raw = FileIO(os.dup(fd), "rb")
    allowance = Allowance(os.fstat(fd).st_size, label, into=scratch)
    with copy, decompressed(raw, what=label, allowance=allowance) as data:
        head = b""
        while len(head) < tarfile.BLOCKSIZE and (piece := _read(data, label)):
            head += piece
        _check_header(head[: tarfile.BLOCKSIZE], label)
        try:
            copy.write(head)
            while piece := _read(data, label):
                copy.write(piece)
            copy.flush()
        except OSError as exc:
            raise OverlayError(
                f"{label}: cannot be unpacked in {printable(str(scratch))}: {exc.strerror}"
            ) from exc
        return os.dup(copy.fileno())


def _read(data: BinaryIO, label: str) -> bytes:
    try:
        return data.read(_COPY)
    except OSError as exc:
        raise OverlayError(f"{label}: {exc.strerror}") from exc


def _check_header(block: bytes, label: str) -> None:
    """Raise InvalidImage unless a tar begins with *block*: before a copy fills the disk."""
    try:
        tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.TarError as exc:
        raise InvalidImage(f"{label}: not an image: no tar ({exc})") from exc
