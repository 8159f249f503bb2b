"""Where the bytes of a tar are: in a file, read here and there, or in a stream, read once."""

import os
from typing import BinaryIO, Protocol

# A read of a page costs what one of a header costs, and often has the next headers as well.
_WINDOW = 4096
_PIECE = 1 << 20


class Tape(Protocol):
    """A tar."""

    @property
    def size(self) -> int | None:
        """How long it is; None as long as that is not known."""

    @property
    def rewinds(self) -> bool:
        """Whether any place can be read at any time."""

    def read(self, at: int, n: int) -> bytes:
        """*n* bytes from *at*, fewer only at the end."""

    def release(self, before: int) -> None:
        """Nothing will be read any more *before* that place, unless it ``rewinds``."""


class FileTape:
    """*size* bytes from *start* in the file *fd*, which this owns from now on."""

    rewinds = True

    def __init__(self, fd: int, start: int, size: int) -> None:
        self.fd = fd
        self.start = start
        self.size = size
        self._window = b""
        self._base = 0

    def read(self, at: int, n: int) -> bytes:
        begin = at - self._base
        if begin >= 0 and begin + n <= len(self._window):
            return self._window[begin : begin + n]
        wanted = min(max(n, _WINDOW), self.size - at)
        if wanted <= 0:
            return b""
        found = os.pread(self.fd, wanted, self.start + at)
        while len(found) < min(n, wanted) and (
            more := os.pread(self.fd, wanted - len(found), self.start + at + len(found))
        ):
            found += more
        self._window, self._base = found, at
        return found[:n]

    def release(self, before: int) -> None:
        """It rewinds."""

    def close(self) -> None:
        """Close the file."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class StreamTape:
    """A stream, which knows no way back but to what is not released."""

    rewinds = False

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._held = b""
        self._base = 0
        self._keep = 0
        self.size: int | None = None

    def read(self, at: int, n: int) -> bytes:
        while self.size is None and self._base + len(self._held) < at + n:
            self._advance()
        begin = at - self._base
        return self._held[begin : begin + n]

    def release(self, before: int) -> None:
        self._keep = before

    def drain(self) -> None:
        """Read to the end, which is where a stream that is hashed finds out."""
        while self.size is None:
            self._keep = self._base + len(self._held)
            self._advance()

    def _advance(self) -> None:
        piece = self._stream.read(_PIECE)
        if not piece:
            self.size = self._base + len(self._held)
            return
        gone = min(max(self._keep - self._base, 0), len(self._held))
        self._held = self._held[gone:] + piece
        self._base += gone
