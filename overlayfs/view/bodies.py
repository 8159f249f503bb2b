"""Bodies of files that do not lie in one piece where they can be read."""

import os
from collections.abc import Sequence
from io import FileIO
from typing import BinaryIO, cast

from overlayfs.errors import InvalidImage
from overlayfs.image.stream import Stream


class Later(Stream):
    """*size* bytes of *stream* that come after *skipped* others; closing it closes *stream*."""

    def __init__(self, stream: BinaryIO, skipped: int, size: int) -> None:
        super().__init__()
        self._stream = stream
        self._skip = skipped
        self._left = size

    def _next(self, n: int) -> bytes:
        while self._skip:
            self._skip -= len(self._some(min(self._skip, 1 << 20)))
        if not self._left:
            return b""
        piece = self._some(min(max(n, 1 << 18), self._left))
        self._left -= len(piece)
        return piece

    def _some(self, n: int) -> bytes:
        piece = self._stream.read(n)
        if not piece:
            raise InvalidImage("the layer became shorter while it was read")
        return piece

    def close(self) -> None:
        if not self.closed:
            self._stream.close()
        super().close()


class Unfolded(Stream):
    """A file of *size* bytes with holes, whose *pieces* (place and length) *stream* has."""

    def __init__(self, stream: BinaryIO, pieces: Sequence[tuple[int, int]], size: int) -> None:
        super().__init__()
        self._stream = stream
        self._pieces = [*reversed(pieces)]
        self._size = size
        self._at = 0

    def _next(self, n: int) -> bytes:
        while self._pieces and not self._pieces[-1][1]:
            self._pieces.pop()
        start, length = self._pieces[-1] if self._pieces else (self._size, 0)
        n = max(n, 1 << 16)
        if self._at < start:
            found = bytes(min(n, start - self._at))
        elif not length:
            return b""
        else:
            found = self._stream.read(min(n, length))
            if not found:
                raise InvalidImage("the layer became shorter while it was read")
            self._pieces[-1] = (start + len(found), length - len(found))
        self._at += len(found)
        return found

    def skip_hole(self) -> int:
        """Go on behind the hole that begins here; how long it is, 0 where there is none.

        Only for who reads at least 64 KiB at once, so that nothing is held back.
        """
        while self._pieces and not self._pieces[-1][1]:
            self._pieces.pop()
        end = self._pieces[-1][0] if self._pieces else self._size
        skipped, self._at = max(end - self._at, 0), max(end, self._at)
        return skipped

    def close(self) -> None:
        if not self.closed:
            self._stream.close()
        super().close()


def of_file(fd: int) -> BinaryIO:
    """The open regular file *fd*, which it owns; OSError when it is something else."""
    try:
        return cast("BinaryIO", FileIO(fd, "rb"))
    except BaseException:
        os.close(fd)
        raise
