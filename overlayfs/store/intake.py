"""One layer on its way in: read, hashed, kept, decompressed, hashed again, unpacked.

Three threads at most: one reads and decompresses, one writes files, one packs what came
unpacked.  Hashing, decompressing and system calls let go of the interpreter's lock, so they
use as many cores.  Nothing is believed before every digest has been checked, and nothing
is outside the draft until then.
"""

import hashlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from overlayfs.archive.compression import Compression, decompressed
from overlayfs.archive.gzip import GzipEncoder
from overlayfs.archive.limits import Allowance
from overlayfs.errors import InvalidImage
from overlayfs.image.descriptor import Descriptor, MediaType
from overlayfs.image.digest import Digest, verified
from overlayfs.image.source import LayerSource
from overlayfs.image.stream import Stream
from overlayfs.layers.failure import explain
from overlayfs.layers.writer import Unpacked, unpack
from overlayfs.store.pipes import Pipe, Stopped
from overlayfs.union.names import Format

_PIECE = 1 << 20
# image-spec has names for these; what is packed otherwise, or not at all, is kept as gzip.
_KEPT = {
    Compression.GZIP: MediaType.OCI_LAYER_GZIP,
    Compression.ZSTD: MediaType.OCI_LAYER_ZSTD,
}


@dataclass(frozen=True, slots=True)
class Taken:
    """A verified layer in its draft: the *blob* at ``folder/blob``, the tree below it."""

    folder: Path
    blob: Descriptor
    unpacked: Unpacked | None

    @property
    def blob_path(self) -> Path:
        """The blob's bytes."""
        return self.folder / "blob"


class Intake:
    """Takes layers into drafts; ``stop`` ends all of them."""

    def __init__(
        self, fmt: Format, advance: Callable[[int], None], allowance: Allowance | None = None
    ) -> None:
        """*advance* is told of bytes that were read, by any thread.

        *allowance* is for all layers together; layers that were taken in before need none.
        """
        self._format = fmt
        self._allowance = allowance
        self._advance = advance
        self._stop = threading.Event()

    def stop(self) -> None:
        """Let every layer that is under way fail with ``Stopped``, soon."""
        self._stop.set()

    def take(self, source: LayerSource, folder: Path, *, tree: bool) -> Taken:
        """The layer *source* in the new directory *folder*, unpacked too if *tree*.

        Raises InvalidImage for a layer that is not what it should be, OverlayError when the
        disk is full.
        """
        what = f"layer {source.diff_id}"
        try:
            folder.mkdir()
            return self._take(source, folder, what, tree=tree)
        except OSError as exc:
            raise explain(exc, what) from exc

    def _take(self, source: LayerSource, folder: Path, what: str, *, tree: bool) -> Taken:
        with ExitStack() as stack:
            raw = stack.enter_context(_Counted(source.open(), self._advance, self._stop))
            # Entered last: the threads have ended when the blob is closed.
            threads = stack.enter_context(ThreadPoolExecutor(2, "layer"))
            files = Pipe(self._stop) if tree else None
            work = _Reading(source, raw, folder, what, files, threads, self._stop, self._allowance)
            reading = threads.submit(work.run)
            try:
                unpacked = self._unpack(files, folder, what) if files else None
                return Taken(folder, reading.result(), unpacked)
            except BaseException:
                self._stop.set()
                raise

    def _unpack(self, pipe: Pipe, folder: Path, what: str) -> Unpacked:
        try:
            unpacked = unpack(pipe, folder / "root", self._format, name=what)
        except BaseException:
            self._stop.set()
            _swallow(pipe)
            raise
        # Behind its end the tar may go on with padding, which the digest counts.
        pipe.drain()
        return unpacked


class _Reading:
    """The thread that reads one layer."""

    def __init__(
        self,
        source: LayerSource,
        raw: BinaryIO,
        folder: Path,
        what: str,
        files: Pipe | None,
        threads: ThreadPoolExecutor,
        stop: threading.Event,
        allowance: Allowance | None,
    ) -> None:
        self._source = source
        self._allowance = allowance
        self._raw = raw
        self._folder = folder
        self._what = what
        self._files = files
        self._threads = threads
        self._stop = stop

    def run(self) -> Descriptor:
        """Read everything, keep the blob, and pass the tar on."""
        try:
            with (self._folder / "blob").open("xb", buffering=0) as file:
                blob = self._spread(file)
        except BaseException as exc:
            if self._files:
                self._files.end(exc)
            raise
        if self._files:
            self._files.end()
        return blob

    def _spread(self, file: BinaryIO) -> Descriptor:
        wanted = self._source.descriptor
        diff_id = self._source.diff_id
        # What came unpacked is hashed once: its digest is the diff id.
        twice = wanted is not None and wanted.digest != diff_id
        raw = (
            verified(self._raw, wanted.digest, wanted.size, what=self._what)
            if twice and wanted
            else self._raw
        )
        tee = _Tee(raw, file, hashed=wanted is None)
        plain = decompressed(tee, what=self._what, allowance=self._allowance)
        tar = verified(plain, diff_id, what=self._what)
        piece = tar.read(_PIECE)
        media_type = _KEPT.get(plain.compression or Compression.NONE)
        packing: _Packing | None = None
        if media_type is None:
            tee.stop()
            file.seek(0)
            file.truncate()
            packing = _Packing(file, self._threads, self._stop)
        try:
            while piece:
                if self._files:
                    self._files.put(piece)
                if packing:
                    packing.pipe.put(piece)
                piece = tar.read(_PIECE)
            if wanted and tee.count != wanted.size:
                raise InvalidImage(f"{self._what}: expected {wanted.size} bytes, got {tee.count}")
        except BaseException as exc:
            if packing:
                packing.fail(exc)
            raise
        if packing:
            return packing.end()
        assert media_type is not None
        return Descriptor(media_type, wanted.digest if wanted else tee.digest, tee.count)


class _Packing:
    """The thread that makes a blob of a layer that came without compression."""

    def __init__(self, file: BinaryIO, threads: ThreadPoolExecutor, stop: threading.Event) -> None:
        self.pipe = Pipe(stop)
        self._file = file
        self._stop = stop
        self._done = threads.submit(self._run)

    def end(self) -> Descriptor:
        """The finished blob."""
        self.pipe.end()
        return self._done.result()

    def fail(self, error: BaseException) -> None:
        """End because of *error*, unless the reason is this thread's own error: raises it."""
        self.pipe.end(error)
        own = self._done.exception()
        if own is not None and isinstance(error, Stopped):
            raise own

    def _run(self) -> Descriptor:
        try:
            return self._pack()
        except BaseException:
            self._stop.set()
            _swallow(self.pipe)
            raise

    def _pack(self) -> Descriptor:
        encoder = GzipEncoder()
        digest = hashlib.sha256()
        size = 0
        while True:
            piece = self.pipe.read(_PIECE)
            packed = encoder.encode(piece) if piece else encoder.end()
            digest.update(packed)
            size += write_all(self._file, packed)
            if not piece:
                name = Digest("sha256", digest.hexdigest())
                return Descriptor(MediaType.OCI_LAYER_GZIP, name, size)


def _swallow(pipe: Pipe) -> None:
    """Let the writer of *pipe* go; whatever it has to say, the reader failed before."""
    try:
        pipe.drain()
    except BaseException:  # it is raised again in the writer's own future
        return


def write_all(file: BinaryIO, data: bytes) -> int:
    """Write all of *data* to the unbuffered *file*; its length."""
    left = memoryview(data)
    while left:
        left = left[file.write(left) :]
    return len(data)


class _Counted(Stream):
    """A raw blob, read in large pieces, that can be stopped."""

    def __init__(
        self, stream: BinaryIO, advance: Callable[[int], None], stop: threading.Event
    ) -> None:
        super().__init__()
        self._stream = stream
        self._advance = advance
        self._stop = stop

    def _next(self, n: int) -> bytes:
        if self._stop.is_set():
            raise Stopped
        piece = self._stream.read(max(n, _PIECE))
        self._advance(len(piece))
        return piece

    def close(self) -> None:
        self._stream.close()
        super().close()


class _Tee(Stream):
    """What is read here also goes to a file, as long as that is wanted."""

    def __init__(self, stream: BinaryIO, file: BinaryIO, *, hashed: bool) -> None:
        super().__init__()
        self._stream = stream
        self._file = file
        self._hash = hashlib.sha256() if hashed else None
        self._copying = True
        self.count = 0

    @property
    def digest(self) -> Digest:
        """The digest of what was read, if it was to be hashed."""
        assert self._hash is not None
        return Digest("sha256", self._hash.hexdigest())

    def stop(self) -> None:
        """Neither the file nor the digest is wanted."""
        self._copying = False

    def _next(self, n: int) -> bytes:
        piece = self._stream.read(max(n, _PIECE))
        self.count += len(piece)
        if self._copying:
            write_all(self._file, piece)
            if self._hash:
                self._hash.update(piece)
        return piece
