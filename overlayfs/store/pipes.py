"""Bytes from one thread to another."""

import threading
from queue import Queue

from overlayfs.image.stream import Stream

# Pieces are about 1 MiB: enough in flight that neither side waits for the other's hiccups.
_IN_FLIGHT = 8


class Stopped(Exception):
    """Somebody else failed; there is nothing to tell about this thread."""


class Pipe(Stream):
    """What one thread puts in, another reads; ``end`` may hand over an error instead."""

    def __init__(self, stop: threading.Event) -> None:
        """*stop* set by anyone ends the writing side."""
        super().__init__()
        self._queue: Queue[bytes | BaseException] = Queue(_IN_FLIGHT)
        self._stop = stop
        self._ended = False

    def put(self, piece: bytes) -> None:
        """Hand over *piece*, waiting while too many are on the way."""
        if self._stop.is_set():
            raise Stopped
        if piece:
            self._queue.put(piece)

    def end(self, error: BaseException | None = None) -> None:
        """Nothing more comes; the reader gets *error* instead of the end."""
        self._queue.put(error or b"")

    def _next(self, n: int) -> bytes:
        if self._ended:
            return b""
        piece = self._queue.get()
        if isinstance(piece, bytes):
            self._ended = not piece
            return piece
        self._ended = True
        raise piece

    def drain(self) -> None:
        """Read to the end, so that the writer is not kept waiting; raises its error."""
        while self._next(1):
            pass
