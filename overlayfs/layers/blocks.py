"""A tar as a stream: read forward once, the bodies of files written straight from it."""

import os
import tarfile
from typing import BinaryIO

# What one entry may spend on headers (names, attributes, the map of a sparse file) before
# its data.  The kernel allows 64 KiB of attributes; a stranger's tar could ask for memory
# without end.
_HEADERS_LIMIT = 16 << 20
_PIECE = 1 << 20


class StreamFailed(Exception):
    """The stream gave out, not the tar; *error* says how."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


class Blocks:
    """The file object that ``tarfile`` reads headers from.

    It reads ahead of nothing but what one ``read`` of the stream gave, knows no way back,
    and raises ``tarfile.ReadError`` where the tar would need one.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._piece = b""
        self._view = memoryview(b"")
        self._at = 0  # within the piece
        self._base = 0  # where the piece begins
        self._headers = 0
        self.last = b""  # what the last read gave

    def tell(self) -> int:
        """How far the tar has been read."""
        return self._base + self._at

    def read(self, n: int) -> bytes:
        """The next *n* bytes of headers, fewer only at the end."""
        self._headers += n
        if n < 0 or self._headers > _HEADERS_LIMIT:
            raise tarfile.ReadError(f"more than {_HEADERS_LIMIT} bytes of headers for one entry")
        end = self._at + n
        if end <= len(self._piece):
            self.last = self._piece[self._at : end]
            self._at = end
            return self.last
        parts = []
        while n and (part := self._take(n)):
            parts.append(bytes(part))
            n -= len(part)
        self.last = b"".join(parts)
        return self.last

    def seek(self, position: int) -> None:
        """Go on at *position*, which must not lie behind."""
        left = position - self.tell()
        if left < 0:
            raise tarfile.ReadError("sizes that contradict each other")
        while left:
            part = self._take(left)
            if not part:
                raise tarfile.ReadError("unexpected end of data")
            left -= len(part)

    def align(self) -> None:
        """Go on at the next block.

        What fills up the last one may be missing at the end: `umoci insert` leaves it out.
        """
        left = -self.tell() % tarfile.BLOCKSIZE
        while left and (part := self._take(left)):
            left -= len(part)
        self._base += left

    def next_entry(self) -> None:
        """Allow the next entry its own headers."""
        self._headers = 0

    def pour(self, fd: int, size: int) -> None:
        """Write the next *size* bytes to the file *fd*, where it stands."""
        while size:
            part = self._take(size)
            if not part:
                raise tarfile.ReadError("unexpected end of data")
            done = os.write(fd, part)
            while done < len(part):
                done += os.write(fd, part[done:])
            size -= done

    def _take(self, n: int) -> memoryview:
        """Up to *n* bytes; none at the end."""
        if self._at == len(self._piece):
            self._base += self._at
            try:
                self._piece = self._stream.read(_PIECE)
            except Exception as exc:
                raise StreamFailed(exc) from exc
            self._view = memoryview(self._piece)
            self._at = 0
        start = self._at
        self._at = min(start + n, len(self._piece))
        return self._view[start : self._at]
