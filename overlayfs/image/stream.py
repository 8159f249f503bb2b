"""Streams that are only read, piece by piece."""

import io
from abc import abstractmethod
from typing import Any, BinaryIO, Self


class Stream(io.RawIOBase, BinaryIO):
    """A read-only binary stream; a subclass says what comes next.

    ``read(n)`` gives between 1 and *n* bytes, and ``b""`` only at the end: like a pipe, it
    may give fewer than asked for.  No reads happen ahead of the first ``read``.
    """

    def __init__(self) -> None:
        super().__init__()
        self._piece = b""
        self._taken = 0

    @abstractmethod
    def _next(self, n: int) -> bytes:
        """The next bytes, about *n* of them; more is fine, ``b""`` means the end."""

    def readable(self) -> bool:
        return True

    def read(self, n: int | None = -1, /) -> bytes:
        if n is None or n < 0:
            return b"".join(iter(lambda: self.read(1 << 20), b""))
        if n == 0:
            return b""
        if self._taken == len(self._piece):
            self._piece, self._taken = self._next(n), 0
            if len(self._piece) <= n:  # handed on as it is, nothing is copied
                piece, self._piece = self._piece, b""
                return piece
        start, self._taken = self._taken, min(self._taken + n, len(self._piece))
        return self._piece[start : self._taken]

    def readall(self) -> bytes:
        return self.read(-1)

    def readinto(self, buffer: Any, /) -> int:  # collections.abc.Buffer is of Python 3.12
        view = memoryview(buffer).cast("B")
        piece = self.read(len(view))
        view[: len(piece)] = piece
        return len(piece)

    def __enter__(self) -> Self:
        return self
