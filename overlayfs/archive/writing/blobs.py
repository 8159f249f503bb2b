"""The layers of an image as they are written: as they are, or packed in another way."""

import os
import tempfile
import threading
from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from overlayfs.archive.compression import Compression, decompressed, sniff
from overlayfs.archive.files import FileRange
from overlayfs.archive.limits import Allowance
from overlayfs.archive.writing.output import FileSink
from overlayfs.archive.writing.packing import Packing
from overlayfs.archive.writing.sinks import Hashing, Packed
from overlayfs.errors import OverlayError
from overlayfs.image.descriptor import Descriptor, MediaType, oci_twin
from overlayfs.image.digest import HashingReader, verified
from overlayfs.image.source import LayerSource
from overlayfs.printable import printable

_PIECE = 1 << 20
_HEAD = 6
_MOST_WORKERS = 8
_TYPES = {
    Compression.NONE: MediaType.OCI_LAYER,
    Compression.GZIP: MediaType.OCI_LAYER_GZIP,
    Compression.ZSTD: MediaType.OCI_LAYER_ZSTD,
}
_FOREIGN_TYPES = {
    Compression.NONE: MediaType.OCI_FOREIGN,
    Compression.GZIP: MediaType.OCI_FOREIGN_GZIP,
    Compression.ZSTD: MediaType.OCI_FOREIGN_ZSTD,
}


@dataclass(frozen=True, slots=True)
class Blob:
    """What a layer is written as: *stream* gives the bytes, and fails if they are others."""

    descriptor: Descriptor
    stream: BinaryIO


class Blobs:
    """Makes blobs of layers, several at a time where that takes work."""

    def __init__(self, packing: Packing | None, scratch: Path) -> None:
        """Without *packing* layers stay as they are.  What is packed waits in *scratch*."""
        self._packing = packing
        self._scratch = scratch
        self._stop = threading.Event()

    def of(self, layers: Iterable[tuple[LayerSource, str]]) -> Generator[Blob]:
        """The blob of each layer, in order; each comes with what messages call it.

        The caller closes their streams, and the generator if he stops before its end.  Raises
        InvalidImage for a layer whose bytes are not those that it should have, OverlayError when
        the disk is full.
        """
        workers = min(os.cpu_count() or 1, _MOST_WORKERS)
        waiting: deque[Future[Blob]] = deque()
        with ThreadPoolExecutor(workers, "pack") as threads:
            try:
                for layer, what in layers:
                    waiting.append(threads.submit(self._blob, layer, what))
                    if len(waiting) > workers:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                self._stop.set()
                threads.shutdown(cancel_futures=True)

    def _blob(self, layer: LayerSource, what: str) -> Blob:
        try:
            return self._as_it_is(layer, what) or self._packed(layer, what)
        except OSError as exc:
            raise OverlayError(f"{what}: {exc.strerror}") from exc

    def _as_it_is(self, layer: LayerSource, what: str) -> Blob | None:
        """The blob of *layer* if it needs no packing."""
        given = layer.descriptor
        if given is not None and self._packing is None:
            return Blob(given, verified(layer.open(), given.digest, given.size, what=what))
        with layer.open() as stream:
            compression = sniff(_head(stream))
        wanted = self._packing
        if wanted is not None and (wanted.level is not None or wanted.compression != compression):
            return None
        if given is None and compression not in _TYPES:
            return None  # in xz, for which there is no media type
        if given is None:
            given = self._described(layer, compression, what)
        elif oci_twin(given.media_type) != _types(given)[compression]:
            return None  # it is not what it is said to be
        return Blob(given, verified(layer.open(), given.digest, given.size, what=what))

    def _described(self, layer: LayerSource, compression: Compression, what: str) -> Descriptor:
        """The descriptor of a layer of which only the diff id was known."""
        if compression is Compression.NONE:
            return Descriptor(_TYPES[compression], layer.diff_id, layer.size)
        raw = HashingReader(layer.open())
        with verified(_plain(layer, raw, what), layer.diff_id, what=what) as tar:
            while tar.read(_PIECE):
                self._check()
        return Descriptor(_TYPES[compression], raw.digest, raw.count)

    def _packed(self, layer: LayerSource, what: str) -> Blob:
        """The blob of *layer* packed anew, in a file without a name."""
        packing = self._packing or Packing(Compression.GZIP)
        given = layer.descriptor
        stream: BinaryIO = layer.open()
        if given is not None:
            stream = verified(stream, given.digest, given.size, what=what)
        scratch = printable(str(self._scratch))
        with (
            verified(_plain(layer, stream, what), layer.diff_id, what=what) as tar,
            tempfile.TemporaryFile(dir=self._scratch, buffering=0) as file,
        ):
            blob = Hashing(FileSink(file.fileno(), f"{what}: {scratch}"))
            packed = Packed(blob, packing)
            while piece := tar.read(_PIECE):
                self._check()
                packed.write(piece)
            packed.end()
            media_type = _types(given)[packing.compression]
            descriptor = Descriptor(media_type, blob.digest, blob.count)
            return Blob(descriptor, FileRange(os.dup(file.fileno()), 0, blob.count, what))

    def _check(self) -> None:
        if self._stop.is_set():
            raise OverlayError("stopped, as another layer failed")


def _types(given: Descriptor | None) -> dict[Compression, MediaType]:
    """The media types for a layer that was called *given* before."""
    foreign = given is not None and oci_twin(given.media_type) in _FOREIGN_TYPES.values()
    return _FOREIGN_TYPES if foreign else _TYPES


def _head(stream: BinaryIO) -> bytes:
    """Enough of the beginning of *stream* to tell how it is packed."""
    head = b""
    while len(head) < _HEAD and (piece := stream.read(_HEAD - len(head))):
        head += piece
    return head


def _plain(layer: LayerSource, packed: BinaryIO, what: str) -> BinaryIO:
    return decompressed(packed, what=what, allowance=Allowance(layer.size, what))
