"""How bytes are to be packed: which compression, how hard."""

import sys
import zlib
from dataclasses import dataclass
from typing import Protocol, Self

from overlayfs.archive.compression import Compression
from overlayfs.archive.gzip import GzipEncoder
from overlayfs.errors import OverlayError

if sys.version_info >= (3, 14):
    from compression.zstd import CompressionParameter, ZstdCompressor
else:
    from backports.zstd import CompressionParameter, ZstdCompressor

_LEVELS = {Compression.GZIP: range(1, 10), Compression.ZSTD: range(1, 23)}
_GZIP = 31  # zlib.h, deflateInit2: 15 bits of window, and 16 for a gzip header


class Encoder(Protocol):
    """Bytes in, packed bytes out."""

    def encode(self, piece: bytes) -> bytes:
        """What *piece* adds to the output, perhaps nothing yet."""

    def end(self) -> bytes:
        """The rest."""


@dataclass(frozen=True, slots=True)
class Packing:
    """A compression and its level; None is a fast one that is tight enough."""

    compression: Compression
    level: int | None = None

    @classmethod
    def of(cls, compression: Compression, level: int | None) -> Self:
        """That packing; OverlayError for a level that *compression* does not have."""
        levels = _LEVELS.get(compression, range(0))
        if level is not None and level not in levels:
            has = f"levels {levels[0]} to {levels[-1]}" if levels else "no levels"
            raise OverlayError(f"level {level}: {compression} has {has}")
        return cls(compression, level)

    def encoder(self) -> Encoder:
        """A fresh encoder; its output depends on nothing but its input."""
        match self.compression:
            case Compression.NONE:
                return _Plain()
            case Compression.GZIP:
                return GzipEncoder() if self.level is None else _Zlib(self.level)
            case Compression.ZSTD:
                return _Zstd(self.level or 3)
            case Compression.XZ:
                raise ValueError("layers in xz have no media type")


class _Plain:
    def encode(self, piece: bytes) -> bytes:
        return piece

    def end(self) -> bytes:
        return b""


class _Zlib:
    def __init__(self, level: int) -> None:
        self._encoder = zlib.compressobj(level, zlib.DEFLATED, _GZIP)

    def encode(self, piece: bytes) -> bytes:
        return self._encoder.compress(piece)

    def end(self) -> bytes:
        return self._encoder.flush()


class _Zstd:
    def __init__(self, level: int) -> None:
        # As zstd(1) does it: a damaged layer is noticed by any tool that unpacks it.
        options: dict[int, int] = {
            CompressionParameter.compression_level: level,
            CompressionParameter.checksum_flag: 1,
        }
        self._encoder = ZstdCompressor(options=options)

    def encode(self, piece: bytes) -> bytes:
        return self._encoder.compress(piece)

    def end(self) -> bytes:
        return self._encoder.flush()
