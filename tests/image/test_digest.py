"""Digests are parsed strictly, and streams are believed only when they agree with them."""

import hashlib
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from overlayfs.errors import InvalidImage
from overlayfs.image.digest import Digest, HashingReader, verified

HEX = "0123456789abcdef" * 4


@pytest.mark.parametrize("text", [f"sha256:{HEX}", f"sha512:{HEX}{HEX}"])
def test_a_digest_reads_back_as_it_is_written(text: str) -> None:
    assert str(Digest.parse(text)) == text
    assert Digest.parse(text) == Digest(*text.split(":"))


@pytest.mark.parametrize(
    "text",
    [
        "",
        HEX,
        "sha256:",
        f"sha256:{HEX[:-1]}",
        f"sha256:{HEX}0",
        f"sha256:{HEX.upper()}",
        f"sha256:{HEX[:-1]}g",
        f"sha256:{HEX}\n",
        f" sha256:{HEX}",
        f"sha512:{HEX}",
        f"sha1:{HEX[:40]}",
        f"SHA256:{HEX}",
        f"md5:{HEX[:32]}",
        f"sha256:../{HEX[3:]}",
        "sha256:" + "\u0660" * 64,
    ],
)
def test_anything_else_is_no_digest(text: str) -> None:
    with pytest.raises(InvalidImage, match="not a digest"):
        Digest.parse(text)


def test_an_illegal_digest_is_not_printed_raw() -> None:
    with pytest.raises(InvalidImage) as caught:
        Digest.parse("sha256:\x1b[2J")
    assert "\x1b" not in str(caught.value)


def test_digests_are_values() -> None:
    one, same, other = Digest.of(b"1"), Digest.of(b"1"), Digest.of(b"2")
    assert len({one, same, other}) == 2
    assert sorted([one, other], key=str) == sorted([one, other])
    assert one.hex == hashlib.sha256(b"1").hexdigest()
    assert one.short == one.hex[:12]
    assert one.algorithm == "sha256"
    assert one != str(one)


@settings(deadline=None)
@given(st.binary(max_size=5000), st.integers(1, 6000))
def test_a_verified_stream_gives_the_bytes_whatever_the_size_of_the_reads(
    data: bytes, n: int
) -> None:
    with verified(io.BytesIO(data), Digest.of(data), len(data)) as stream:
        pieces = list(iter(lambda: stream.read(n), b""))
    assert b"".join(pieces) == data
    assert all(len(piece) <= n for piece in pieces)


def test_sha512_is_verified_too() -> None:
    data = b"x" * 1000
    right = Digest("sha512", hashlib.sha512(data).hexdigest())
    assert verified(io.BytesIO(data), right).read() == data
    with pytest.raises(InvalidImage, match="expected sha512:"):
        verified(io.BytesIO(data + b"x"), right).read()


@settings(deadline=None)
@given(st.binary(max_size=600_000), st.integers(min_value=0), st.integers(0, 7))
def test_one_flipped_bit_is_seen(data: bytes, at: int, bit: int) -> None:
    damaged = bytearray(data or b"\0")
    damaged[at % len(damaged)] ^= 1 << bit
    with pytest.raises(InvalidImage, match=r"layer 7: expected sha256:\w+, got sha256:\w+"):
        verified(io.BytesIO(damaged), Digest.of(data or b"\0"), what="layer 7").read()


@pytest.mark.parametrize(
    ("size", "message"),
    [
        pytest.param(99, "expected 99 bytes, got more", id="more-than-expected"),
        pytest.param(0, "expected 0 bytes, got more", id="expected-nothing"),
        pytest.param(101, "expected 101 bytes, got 100", id="fewer-than-expected"),
    ],
)
def test_a_wrong_size_is_an_error_though_the_digest_is_right(size: int, message: str) -> None:
    data = b"x" * 100
    with pytest.raises(InvalidImage, match=message):
        verified(io.BytesIO(data), Digest.of(data), size).read()


def test_an_endless_stream_is_given_up_at_its_size() -> None:
    class Endless(io.RawIOBase):
        def read(self, n: int = -1, /) -> bytes:
            assert n > 0, "all of it was asked for"
            return bytes(n)

    with pytest.raises(InvalidImage, match="got more"):
        verified(Endless(), Digest.of(b""), 10_000_000).read()


def test_the_last_bytes_are_not_handed_out_when_they_are_wrong() -> None:
    data = b"x" * 1_000_000
    stream = verified(io.BytesIO(data), Digest.of(b"other"), len(data))
    believed = [stream.read(1 << 18) for _ in range(3)]
    assert all(len(piece) == 1 << 18 for piece in believed)
    with pytest.raises(InvalidImage, match="expected sha256"):
        stream.read(1 << 18)


def test_a_hashing_reader_tells_the_digest_and_the_size() -> None:
    data = b"some bytes" * 100_000
    with HashingReader(io.BytesIO(data)) as stream:
        while stream.read(4096):
            pass
        assert stream.digest == Digest.of(data)
        assert stream.count == len(data)


def test_closing_a_stream_closes_what_it_reads() -> None:
    inner = io.BytesIO(b"x")
    verified(inner, Digest.of(b"x")).close()
    assert inner.closed


def test_a_stream_serves_a_buffered_reader() -> None:
    data = bytes(range(256)) * 1000
    buffered = io.BufferedReader(verified(io.BytesIO(data), Digest.of(data)), 1 << 16)
    assert buffered.read(1000) + buffered.read() == data
