"""A root file system in a tar, as an image of one layer."""

import os
import stat
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from overlayfs.archive.compression import decompressed
from overlayfs.archive.files import FileRange, opened
from overlayfs.archive.limits import Allowance
from overlayfs.archive.writing.folder import write_folder
from overlayfs.archive.writing.output import FileSink, refused
from overlayfs.archive.writing.sinks import Hashing
from overlayfs.archive.writing.tar import BLOCK, TarWriter
from overlayfs.errors import InvalidImage, OverlayError
from overlayfs.image.descriptor import Descriptor
from overlayfs.image.digest import Digest, HashingReader
from overlayfs.image.source import Closing, LayerSource
from overlayfs.printable import printable

_PIECE = 1 << 20


@dataclass(frozen=True, slots=True)
class RootTar:
    """A LayerSource: a tar in an open file, of which only the diff id is known."""

    fd: int
    size: int
    diff_id: Digest
    label: str
    descriptor: Descriptor | None = None

    def open(self) -> FileRange:
        """The tar as it is, perhaps compressed."""
        return FileRange(os.dup(self.fd), 0, self.size, self.label)


class RootImage(Closing):
    """An ImageSource of one layer under a configuration that was made for it."""

    manifest: bytes | None = None
    manifest_descriptor: Descriptor | None = None

    def __init__(self, layer: LayerSource, config: bytes, names: tuple[str, ...]) -> None:
        self.layers = (layer,)
        self.config = config
        self.config_digest = Digest.of(config)
        self.names = names

    def close(self) -> None:
        """Nothing is held; the layer is its maker's."""


@contextmanager
def root_tar(
    source: Path | int, scratch: Path, *, latest: int | None = None
) -> Iterator[tuple[RootTar, list[bytes]]]:
    """The tar *source*, plain or in gzip, zstd or xz, and what was left out of it.

    *source* is a file, a descriptor (of stdin) or a directory, which is packed into a tar then:
    without sockets, which no tar can hold, without other file systems that are mounted there,
    and with no time after *latest*, in seconds.  What cannot be read twice is copied to a
    nameless file in *scratch*.  Raises InvalidImage for what is no tar, OverlayError for what
    cannot be read or kept.
    """
    label = "stdin" if isinstance(source, int) else printable(str(source))
    left_out: list[bytes] = []
    with nullcontext(source) if isinstance(source, int) else opened(source, label) as fd:
        mode = os.fstat(fd).st_mode
        if stat.S_ISREG(mode) and not isinstance(source, int):
            yield _found(fd, label), left_out
            return
        with _temporary(scratch) as copy:
            sink = FileSink(copy, f"{label}: copied to {printable(str(scratch))}")
            if stat.S_ISDIR(mode):
                diff = Hashing(sink)
                writer = TarWriter(diff)
                left_out = write_folder(fd, writer, label, latest=latest)
                writer.end()
                yield RootTar(copy, diff.count, diff.digest, label), left_out
                return
            _copy(fd, sink, label)
            yield _found(copy, label), left_out


def _found(fd: int, label: str) -> RootTar:
    """The tar in the regular file *fd*, read once to know its diff id."""
    size = os.fstat(fd).st_size
    packed = FileRange(os.dup(fd), 0, size, label)
    plain = decompressed(packed, what=label, allowance=Allowance(size, label))
    with HashingReader(plain) as tar:
        head = b""
        while len(head) < BLOCK and (piece := tar.read(BLOCK - len(head))):
            head += piece
        _check(head, label)
        while tar.read(_PIECE):
            pass
        return RootTar(fd, size, tar.digest, label)


def _check(head: bytes, label: str) -> None:
    """Raise InvalidImage unless a tar begins so: before all of it is read."""
    if not head:
        raise InvalidImage(f"{label}: the file is empty")
    if not head.strip(b"\0"):
        return  # a tar of nothing
    try:
        tarfile.TarInfo.frombuf(head, "utf-8", "surrogateescape")
    except tarfile.TarError as exc:
        raise InvalidImage(f"{label}: no tar ({exc})") from exc


def _copy(fd: int, sink: FileSink, label: str) -> None:
    while True:
        try:
            piece = os.read(fd, _PIECE)
        except OSError as exc:
            raise OverlayError(f"{label}: {exc.strerror}") from exc
        if not piece:
            return
        sink.write(piece)


@contextmanager
def _temporary(scratch: Path) -> Iterator[int]:
    try:
        file = tempfile.TemporaryFile(dir=scratch, buffering=0)  # noqa: SIM115  # closed below
    except OSError as exc:
        raise refused(printable(str(scratch)), exc) from exc
    with file:
        yield file.fileno()
