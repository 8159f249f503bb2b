"""Packed streams come out whole, or not at all."""

import gzip
import io
import lzma
import random
import struct
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from overlayfs.archive.compression import Compression, decompressed, sniff
from overlayfs.errors import InvalidImage

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

DATA = random.Random(1).randbytes(300_000) + bytes(3_000_000) + b"some text\n" * 100_000


def tool(*command: str) -> Callable[[bytes], bytes]:
    """What a program makes of its standard input."""

    def run(data: bytes) -> bytes:
        return subprocess.run(command, input=data, stdout=subprocess.PIPE, check=True).stdout

    return run


def gzip_(data: bytes) -> bytes:
    return gzip.compress(data, 6)


PACKERS: dict[str, tuple[Compression, Callable[[bytes], bytes]]] = {
    "none": (Compression.NONE, bytes),
    "gzip": (Compression.GZIP, gzip_),
    "gzip-tool": (Compression.GZIP, tool("gzip", "-1")),
    "zstd": (Compression.ZSTD, zstd.compress),
    "xz": (Compression.XZ, lambda data: lzma.compress(data, preset=0)),
    "xz-tool": (Compression.XZ, tool("xz", "-0")),
}
PACKED = {name: pack(DATA) for name, (_, pack) in PACKERS.items()}
EACH = pytest.mark.parametrize("name", PACKED)
EACH_PACKED = pytest.mark.parametrize("name", [name for name in PACKED if name != "none"])


def unpack(data: bytes) -> bytes:
    with decompressed(io.BytesIO(data), what="layer 7") as stream:
        return stream.read()


@EACH
@pytest.mark.parametrize("n", [1000, 10_240, 1 << 20, 1 << 24, -1])
def test_the_bytes_come_out_whatever_the_size_of_the_reads(name: str, n: int) -> None:
    with decompressed(io.BytesIO(PACKED[name])) as stream:
        pieces = list(iter(lambda: stream.read(n), b""))
        assert stream.compression is PACKERS[name][0]
    assert b"".join(pieces) == DATA
    assert n < 0 or max(map(len, pieces)) <= n
    assert n != 1 << 20 or len(pieces) < 20, "large reads are served with large pieces"


@EACH
def test_nothing_is_something_too(name: str) -> None:
    assert unpack(PACKERS[name][1](b"")) == b""


@EACH_PACKED
def test_several_one_after_the_other_are_one(name: str) -> None:
    pack = PACKERS[name][1]
    many = b"".join(pack(DATA[at : at + 1000]) for at in range(0, 100_000, 1000))
    assert unpack(many + pack(b"") + pack(b"end")) == DATA[:100_000] + b"end"


@EACH_PACKED
def test_a_pipe_that_gives_single_bytes_is_enough(name: str) -> None:
    class Slow(io.BytesIO):
        def read(self, n: int | None = -1, /) -> bytes:
            return super().read(1)

    packed = PACKERS[name][1](b"data" * 500) + PACKERS[name][1](b"more")
    with decompressed(Slow(packed)) as stream:
        assert stream.read() == b"data" * 500 + b"more"


@EACH_PACKED
@settings(deadline=None)
@given(cut=st.floats(0, 1, exclude_max=True))
def test_truncated_data_are_an_error(name: str, cut: float) -> None:
    packed = PACKERS[name][1](DATA[:20_000])
    short = packed[: int(len(packed) * cut)]
    if sniff(short) is Compression.NONE:  # too little to be recognised: plain bytes
        assert unpack(short) == short
        return
    with pytest.raises(InvalidImage, match=r"layer 7: .*end too early"):
        unpack(short)


@EACH_PACKED
@settings(deadline=None)
@given(at=st.integers(0, 1 << 30), bit=st.integers(0, 7))
def test_damage_is_an_error_or_harmless(name: str, at: int, bit: int) -> None:
    packed = bytearray(PACKERS[name][1](DATA[:20_000]))
    at %= len(packed)
    packed[at] ^= 1 << bit
    if sniff(packed) is Compression.NONE or name == "zstd":
        return  # zstd: below
    try:
        unpacked = unpack(bytes(packed))
    except InvalidImage:
        return
    assert unpacked == DATA[:20_000]


def test_damage_in_zstd_is_an_error_or_seen_by_the_hash() -> None:
    """Frames need no checksum: what matters is that nothing but InvalidImage comes out."""
    packed = PACKED["zstd"][:50_000]
    for at in range(4, 3000, 7):
        damaged = bytearray(packed)
        damaged[at] ^= 0x55
        with pytest.raises(InvalidImage, match="layer 7: "):
            unpack(bytes(damaged))


@pytest.mark.parametrize("field", [-8, -4], ids=["crc", "length"])
def test_the_trailer_of_gzip_is_checked(field: int) -> None:
    packed = bytearray(PACKED["gzip"])
    packed[field] ^= 1
    with pytest.raises(InvalidImage, match="layer 7: damaged gzip data"):
        unpack(bytes(packed))


@EACH_PACKED
@pytest.mark.parametrize(
    "rest", [b"x", b"garbage", b"\0\0x", b"\x1f\x8b", b"\x28\xb5", bytes(600_000) + b"x"]
)
def test_trailing_garbage_is_an_error(name: str, rest: bytes) -> None:
    with pytest.raises(InvalidImage, match=r"layer 7: (something else follows|.*end too early)"):
        unpack(PACKED[name] + rest)


@pytest.mark.parametrize(
    ("first", "second"), [("gzip", "zstd"), ("zstd", "gzip"), ("xz", "gzip"), ("gzip", "xz")]
)
def test_another_compression_behind_the_first_is_garbage(first: str, second: str) -> None:
    with pytest.raises(InvalidImage, match="something else follows"):
        unpack(PACKED[first] + PACKED[second])


@pytest.mark.parametrize("name", ["gzip", "xz"])
@pytest.mark.parametrize("length", [4, 512, 1 << 20])
def test_nul_padding_is_passed_over(name: str, length: int) -> None:
    assert unpack(PACKED[name] + bytes(length)) == DATA


def test_nul_padding_is_garbage_behind_zstd() -> None:
    with pytest.raises(InvalidImage, match="something else follows"):
        unpack(PACKED["zstd"] + bytes(512))


def test_padding_between_streams_of_xz_is_passed_over() -> None:
    assert unpack(PACKED["xz"] + bytes(8) + PACKED["xz"]) == DATA * 2


@pytest.mark.parametrize("place", ["before", "between", "after"])
def test_skippable_frames_are_skipped(place: str) -> None:
    skipped = struct.pack("<II", 0x184D2A5B, 5) + b"notes"
    one = zstd.compress(b"one")
    packed = {
        "before": skipped + one,
        "between": one + skipped + one,
        "after": one + skipped + skipped,
    }[place]
    assert unpack(packed) == b"one" * packed.count(one)


def test_a_truncated_skippable_frame_is_an_error() -> None:
    with pytest.raises(InvalidImage, match="end too early"):
        unpack(zstd.compress(b"one") + struct.pack("<II", 0x184D2A50, 500) + b"notes")


def test_the_options_of_a_gzip_header_are_read() -> None:
    # FHCRC, FEXTRA, FNAME and FCOMMENT (RFC 1952, 2.3.1).
    header = b"\x1f\x8b\x08\x1e" + bytes(6) + struct.pack("<H", 3) + b"abc" + b"name\0note\0"
    header += struct.pack("<H", zlib.crc32(header) & 0xFFFF)
    assert unpack(header + gzip.compress(b"text", mtime=0)[10:]) == b"text"


def test_xz_that_wants_gigabytes_is_refused() -> None:
    # The dictionary is 4 GiB - 1: the last of the sizes that file format 5.3.1 knows.
    packed = bytearray(lzma.compress(b"text", filters=[{"id": lzma.FILTER_LZMA2}]))
    at = packed.index(b"\x21\x01") + 2
    packed[at] = 40
    packed[20:24] = struct.pack("<I", zlib.crc32(packed[12:20]))
    with pytest.raises(InvalidImage, match=r"[Mm]emory"):
        unpack(bytes(packed))


def test_zstd_that_wants_gigabytes_is_refused() -> None:
    # A window of 2 GiB (RFC 8878, 3.1.1.1.2): exponent 21.
    frame = b"\x28\xb5\x2f\xfd" + bytes([0x00, 21 << 3]) + b"\x01\x00\x00"
    with pytest.raises(InvalidImage, match="damaged zstd data"):
        unpack(frame)


@EACH_PACKED
def test_a_bomb_comes_in_small_pieces(name: str) -> None:
    with decompressed(io.BytesIO(PACKERS[name][1](bytes(20_000_000)))) as stream:
        assert len(stream.read(1 << 30)) <= 1 << 20
        assert len(stream.read(1 << 30)) <= 1 << 20


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (b"", Compression.NONE),
        (b"\x1f", Compression.NONE),
        (b"\x1f\x8b", Compression.NONE),
        (b"\x1f\x8b\x08", Compression.GZIP),
        (b"\x1f\x8b\x07", Compression.NONE),
        (b"\x28\xb5\x2f\xfd", Compression.ZSTD),
        (b"\x50\x2a\x4d\x18", Compression.ZSTD),
        (b"\x5f\x2a\x4d\x18", Compression.ZSTD),
        (b"\x60\x2a\x4d\x18", Compression.NONE),
        (b"\xfd7zXZ\0", Compression.XZ),
        (b"\xfd7zXZ", Compression.NONE),
        (b"BZh9", Compression.NONE),
    ],
)
def test_compressions_are_told_by_their_first_bytes(head: bytes, expected: Compression) -> None:
    assert sniff(head) is expected


def test_closing_closes_what_is_read() -> None:
    inner = io.BytesIO(PACKED["gzip"])
    decompressed(inner).close()
    assert inner.closed


@EACH
def test_threads_unpack_side_by_side(name: str) -> None:
    found: list[bool] = []
    threads = [
        threading.Thread(target=lambda: found.append(unpack(PACKED[name]) == DATA))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 4
