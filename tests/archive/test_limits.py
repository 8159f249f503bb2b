"""What may come out of an image, and what a disk keeps."""

import gzip
import io
import os
from pathlib import Path

import pytest

from overlayfs.archive.compression import decompressed
from overlayfs.archive.limits import BEYOND, FREE, RATIO, Allowance, Limits
from overlayfs.errors import InvalidImage, OverlayError

MB = 1 << 20


def disk(
    *, blocks: int = 1000, free: int = 1000, inodes: int = 1000, left: int = 1000
) -> os.statvfs_result:
    """A disk of *blocks* MiB."""
    return os.statvfs_result((MB, MB, blocks, free, free, inodes, left, left, 0, 255))


def test_beyond_what_is_harmless_the_ratio_counts() -> None:
    allowance = Allowance(MB, "x.tar", limits=Limits(ratio=10, beyond=20 * MB))
    allowance.take(20 * MB)
    with pytest.raises(
        InvalidImage, match=r"x\.tar unpacks to more than 20 MiB, over 10 times"
    ) as caught:
        allowance.take(1)
    assert (
        caught.value.hint == "if it should, allow more with PYOVERLAY_MAX_RATIO=100, or any with 0"
    )


def test_what_packs_well_may_be_as_large_as_the_ratio_allows() -> None:
    allowance = Allowance(3 * MB, "x.tar", limits=Limits(ratio=10, beyond=MB))
    for _ in range(30):
        allowance.take(MB)
    with pytest.raises(InvalidImage, match="more than 30 MiB"):
        allowance.take(MB)


def test_what_comes_by_and_by_counts_as_it_comes() -> None:
    allowance = Allowance(0, "x.tar", limits=Limits(ratio=10, beyond=MB))
    for packed in range(1, 20):
        allowance.take(10 * MB, packed=packed * MB)


def test_a_ratio_of_nothing_allows_all() -> None:
    Allowance(1, "x.tar", limits=Limits(ratio=0, beyond=1)).take(1 << 60)


def test_a_stream_ends_with_its_allowance() -> None:
    packed = gzip.compress(bytes(64 * MB))
    allowance = Allowance(len(packed), "it", limits=Limits(ratio=100, beyond=8 * MB))
    stream = decompressed(io.BytesIO(packed), allowance=allowance)
    taken = iter(lambda: stream.read(MB), b"")
    assert sum(len(next(taken)) for _ in range(7)) <= 8 * MB
    with pytest.raises(InvalidImage, match="over 100 times its size"):
        list(taken)


@pytest.mark.parametrize(
    ("found", "full"),
    [
        pytest.param(disk(free=51), False, id="small-disk"),
        pytest.param(disk(free=49), True, id="small-disk-full"),
        pytest.param(disk(blocks=1_000_000, free=1100), False, id="large-disk"),
        pytest.param(disk(blocks=1_000_000, free=1000), True, id="large-disk-full"),
        pytest.param(disk(left=49), True, id="no-inodes"),
        pytest.param(disk(inodes=0, left=0), False, id="no-fixed-number-of-inodes"),
    ],
)
def test_a_disk_keeps_a_gibibyte_or_a_twentieth(found: os.statvfs_result, full: bool) -> None:
    assert Limits().says_full(found) is full


def test_the_environment_chooses(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Limits.chosen() == Limits()
    for name, value in ((RATIO, "500"), (BEYOND, "2G"), (FREE, "10M")):
        monkeypatch.setenv(name, value)
    assert Limits.chosen() == Limits(500, 2 << 30, 10 << 20, 100)
    assert not Limits.chosen().says_full(disk(free=11))
    assert Limits.chosen().says_full(disk(free=9))
    monkeypatch.setenv(FREE, "0")
    assert not Limits.chosen().says_full(disk(free=0, left=0))


@pytest.mark.parametrize("value", ["many", "-1", "1.5", "10%", "9" * 30, "\x1b[2J"])
def test_what_is_no_number_is_refused(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FREE, value)
    with pytest.raises(OverlayError, match=r"PYOVERLAY_MIN_FREE: .* is no number") as caught:
        Limits.chosen()
    assert caught.value.message.isprintable()


def test_the_disk_is_looked_at_when_much_was_written(tmp_path: Path) -> None:
    allowance = Allowance(1, "it", into=tmp_path, limits=Limits(ratio=0, free=1 << 60, share=100))
    allowance.take(63 * MB)
    with pytest.raises(OverlayError, match="it leaves too little free on the disk") as caught:
        allowance.write(MB)
    assert "PYOVERLAY_MIN_FREE=0" in caught.value.hint
