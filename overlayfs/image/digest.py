"""Digests, and streams that are hashed while they pass (image-spec, descriptor.md)."""

import hashlib
import re
from functools import total_ordering
from typing import BinaryIO, Final, Self

from overlayfs.errors import InvalidImage
from overlayfs.image.stream import Stream
from overlayfs.printable import printable

_FORM = re.compile(r"(sha256):([0-9a-f]{64})|(sha512):([0-9a-f]{128})")
# hashlib releases the GIL for large pieces only, and small ones cost more than they hash.
_PIECE = 1 << 18


@total_ordering
class Digest:
    """The name of some bytes: an algorithm and what it made of them, in hex.

    Frozen, and no dataclass: those msgspec reads and writes by field, never as one text.
    """

    __slots__ = ("_text",)
    _text: Final[str]

    def __init__(self, algorithm: str, hex: str) -> None:  # noqa: A002  # the spec's word
        self._text = f"{algorithm}:{hex}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """The digest that *text* (``sha256:…`` or ``sha512:…``) writes.

        Raises InvalidImage for anything else, upper-case hex included.
        """
        match = _FORM.fullmatch(text)
        if match is None:
            raise InvalidImage(f"not a digest: {printable(text[:160])!r}")
        return cls(match[1] or match[3], match[2] or match[4])

    @classmethod
    def of(cls, data: bytes) -> Self:
        """The sha256 digest of *data*."""
        return cls("sha256", hashlib.sha256(data).hexdigest())

    def check(self, data: bytes, what: str = "blob") -> None:
        """Raise InvalidImage unless *data* are the bytes this digest names."""
        got = hashlib.new(self.algorithm, data).hexdigest()
        if got != self.hex:
            raise InvalidImage(f"{what}: expected {self}, got {self.algorithm}:{got}")

    @property
    def algorithm(self) -> str:
        """``sha256`` or ``sha512``."""
        return self._text[:6]

    @property
    def hex(self) -> str:
        """The lower-case hex digits."""
        return self._text[7:]

    @property
    def short(self) -> str:
        """The first twelve digits: what people read."""
        return self.hex[:12]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Digest) and self._text == other._text

    def __lt__(self, other: "Digest") -> bool:
        return self._text < other._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __str__(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return f"Digest({self._text})"


class HashingReader(Stream):
    """*stream*, counted and hashed while it is read; closing it closes *stream*.

    With *expected* or *size*, the read that reaches the end raises InvalidImage when either
    disagrees, and so does the read that brings more than *size* bytes.  A reader that stops
    before the end has verified nothing.
    """

    def __init__(
        self,
        stream: BinaryIO,
        *,
        expected: Digest | None = None,
        size: int | None = None,
        what: str = "blob",
    ) -> None:
        super().__init__()
        self._stream = stream
        self._expected = expected
        self._size = size
        self._what = what
        self._hash = hashlib.new(expected.algorithm if expected else "sha256")
        self.count = 0

    @property
    def digest(self) -> Digest:
        """The digest of what was read so far; of everything, once a read gave ``b""``."""
        return Digest(self._hash.name, self._hash.hexdigest())

    def _next(self, n: int) -> bytes:
        piece = self._stream.read(max(n, _PIECE))
        self._hash.update(piece)
        self.count += len(piece)
        if self._size is not None and self.count > self._size:
            raise InvalidImage(f"{self._what}: expected {self._size} bytes, got more")
        # The last piece is checked before it is handed out, when the size tells which it is.
        if not piece or self.count == self._size:
            self._check()
        return piece

    def _check(self) -> None:
        if self._size is not None and self.count != self._size:
            raise InvalidImage(f"{self._what}: expected {self._size} bytes, got {self.count}")
        if self._expected is not None and self.digest != self._expected:
            raise InvalidImage(f"{self._what}: expected {self._expected}, got {self.digest}")

    def close(self) -> None:
        if not self.closed:
            self._stream.close()
        super().close()


def verified(
    stream: BinaryIO, digest: Digest, size: int | None = None, *, what: str = "blob"
) -> HashingReader:
    """*stream*, which fails with InvalidImage unless it is *size* bytes with that *digest*.

    *what* begins the message.  Only a stream that was read to its end has been verified.
    """
    return HashingReader(stream, expected=digest, size=size, what=what)
