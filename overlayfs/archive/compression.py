"""Compressed streams: recognised by their first bytes, and decompressed while they are read."""

import lzma
import sys
from enum import StrEnum
from typing import BinaryIO, Protocol, cast

from isal import igzip_lib

from overlayfs.archive.limits import Allowance
from overlayfs.errors import InvalidImage
from overlayfs.image.stream import Stream

if sys.version_info >= (3, 14):
    from compression.zstd import ZstdDecompressor, ZstdError
else:
    from backports.zstd import ZstdDecompressor, ZstdError

# All three decoders release the GIL while they work, so large pieces let threads overlap.
_IN = 1 << 18
_LEAST = 1 << 9
_OUT = 1 << 20
# isal's stubs call its exception class an instance.
_GzipError = cast("type[Exception]", igzip_lib.error)
# xz -9 needs 65 MiB; a file may ask for 4 GiB.
_XZ_MEMORY = 256 << 20


class Compression(StrEnum):
    """How a stream of bytes is packed."""

    NONE = "none"
    GZIP = "gzip"
    ZSTD = "zstd"
    XZ = "xz"


def sniff(head: bytes) -> Compression:
    """How a stream that begins with *head* (6 bytes are enough) is packed."""
    if head.startswith(b"\x1f\x8b\x08"):
        return Compression.GZIP
    # RFC 8878, 3.1.1 and 3.1.2: a frame, or a skippable one in front of it.
    if head.startswith(b"\x28\xb5\x2f\xfd") or _is_skippable(head):
        return Compression.ZSTD
    if head.startswith(b"\xfd7zXZ\0"):
        return Compression.XZ
    return Compression.NONE


def _is_skippable(head: bytes) -> bool:
    return head[1:4] == b"\x2a\x4d\x18" and head[0] & 0xF0 == 0x50


def decompressed(
    stream: BinaryIO, *, what: str = "layer", allowance: Allowance | None = None
) -> "Decompressed":
    """The bytes that *stream* packs, whatever packs them; closing it closes *stream*.

    Several gzip members, zstd frames or xz streams one after the other count as one.  A read
    raises InvalidImage, beginning with *what*, when the stream is damaged or ends early, and
    when something else follows it; only NUL padding after gzip and xz is passed over.  No read
    gives more than 1 MiB, and all together no more than *allowance* allows.
    """
    return Decompressed(stream, what, allowance)


class _Decoder(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes | memoryview, max_length: int) -> bytes: ...


class Decompressed(Stream):
    """What ``decompressed`` gives; *compression* is known once something was read."""

    def __init__(self, stream: BinaryIO, what: str, allowance: Allowance | None = None) -> None:
        super().__init__()
        self._allowance = allowance
        self._read = 0
        self._stream = stream
        self._what = what
        self._input = b""
        self._used = 0
        self._portion = _IN
        self._decoder: _Decoder | None = None
        self.compression: Compression | None = None

    def _next(self, n: int) -> bytes:
        if self.compression is None:
            self.compression = sniff(self._peek(6))
        if self.compression is Compression.NONE:
            head, self._input = self._input, b""
            piece = head or self._stream.read(max(n, _IN))
            if self._allowance is not None:
                self._read += 0 if head else len(piece)
                self._allowance.take(len(piece), packed=self._read)
            return piece
        while self._decoder is not None or self._begins(self.compression):
            piece = self._decode(self._decoder or _decoder(self.compression))
            if piece:
                if self._allowance is not None:
                    self._allowance.take(len(piece), packed=self._read)
                return piece
        return b""

    def _decode(self, decoder: _Decoder) -> bytes:
        self._decoder = decoder
        given: bytes | memoryview = b""
        if decoder.needs_input:
            if not self._peek(1):
                raise InvalidImage(f"{self._what}: the {self.compression} data end too early")
            given = memoryview(self._input)[self._used : self._used + self._portion]
            self._used += len(given)
        try:
            piece = decoder.decompress(given, _OUT)
        except (_GzipError, ZstdError, lzma.LZMAError, EOFError) as exc:
            raise InvalidImage(f"{self._what}: damaged {self.compression} data: {exc}") from exc
        # A decoder copies what it does not use.  Some layers are thousands of small members
        # (eStargz), some hostile ones millions: those are given to it in small portions.
        if decoder.eof:
            unused = len(decoder.unused_data)
            self._used -= unused
            self._decoder = None
            self._portion = max(_LEAST, self._portion // 2) if unused else self._portion
        elif decoder.needs_input:
            self._portion = min(_IN, self._portion * 2)
        return piece

    def _begins(self, compression: Compression) -> bool:
        """Whether another member, frame or stream begins here; False at the end."""
        padded = False
        while compression is not Compression.ZSTD and self._peek(1) == b"\0":
            padded = True
            rest = self._input[self._used :].lstrip(b"\0")
            self._input, self._used = rest, 0
        if compression is Compression.ZSTD:
            self._skip_frames()
        head = self._peek(6)
        if not head:
            return False
        # xz may pad between streams too (file format, 2.2); after gzip's NULs comes nothing.
        if sniff(head) is not compression or (padded and compression is Compression.GZIP):
            raise self._garbage()
        return True

    def _skip_frames(self) -> None:
        """Pass over skippable frames (RFC 8878, 3.1.2), of which there may be millions."""
        while len(head := self._peek(8)) == 8 and _is_skippable(head):
            left = 8 + int.from_bytes(head[4:8], "little")
            while left:
                if not self._peek(1):
                    raise InvalidImage(f"{self._what}: the zstd data end too early")
                step = min(left, len(self._input) - self._used)
                self._used += step
                left -= step

    def _garbage(self) -> InvalidImage:
        return InvalidImage(f"{self._what}: something else follows the {self.compression} data")

    def _peek(self, least: int) -> bytes:
        """The next *least* bytes of input, fewer at its end."""
        while len(self._input) - self._used < least and (piece := self._stream.read(_IN)):
            self._input, self._used = self._input[self._used :] + piece, 0
            self._read += len(piece)
        return self._input[self._used : self._used + least]

    def close(self) -> None:
        if not self.closed:
            self._stream.close()
        super().close()


def _decoder(compression: Compression) -> _Decoder:
    match compression:
        case Compression.GZIP:
            return igzip_lib.IgzipDecompressor(igzip_lib.DECOMP_GZIP)
        case Compression.ZSTD:
            return ZstdDecompressor()
        case _:
            return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)
