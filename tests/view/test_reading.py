"""How much is read of a layer, and what is verified."""

import gzip
import os
import time
from pathlib import Path

import pytest

from overlayfs.errors import InvalidImage
from tests.support.layers import file, folder, tar
from tests.support.viewed import Layer, LayerInFile, view_of

FILES = 400
BODY = os.urandom(50_000)
LAYER = tar(
    folder("d"),
    *(file(f"d/{number:04}", BODY) for number in range(FILES)),
    *(folder(f"e/{number:04}") for number in range(FILES)),
)


def read_so_far() -> tuple[int, int]:
    """Bytes that this process has read, and by how many calls: proc(5), /proc/pid/io."""
    lines = Path("/proc/self/io").read_text().split("\n")
    found = dict(line.split(": ") for line in lines if line)
    return int(found["rchar"]), int(found["syscr"])


def test_of_a_plain_layer_only_headers_are_read_and_the_body_that_is_wanted(
    tmp_path: Path,
) -> None:
    view = view_of([LayerInFile(LAYER, tmp_path)], tmp_path)
    before = read_so_far()
    with view.open(b"d/0007") as body:
        assert body.read() == BODY
    size, calls = (after - start for after, start in zip(read_so_far(), before, strict=True))
    # A page for each header that stands alone; a page of directories has eight headers.
    assert size < (FILES + FILES / 8 + 20) * 4096 + len(BODY) < len(LAYER) / 8
    assert calls < FILES + FILES / 7 + 30


def test_skimming_takes_little_for_each_entry(tmp_path: Path) -> None:
    entries = 20_000
    layer = tar(*(file(f"{number % 100}/{number}") for number in range(entries)))
    view = view_of([LayerInFile(layer, tmp_path)], tmp_path)
    began = time.process_time()
    assert view.stat(b"7/7").size == 0
    # 8 µs each where nothing else runs; `tarfile` takes 50.
    assert time.process_time() - began < entries * 40e-6


def test_attributes_of_a_plain_layer_are_read_when_they_are_asked_for(tmp_path: Path) -> None:
    view = view_of([LayerInFile(LAYER, tmp_path)], tmp_path)
    view.resolve(b"d/0001")
    before = read_so_far()
    view.stat(b"d/0001")
    size, calls = (after - start for after, start in zip(read_so_far(), before, strict=True))
    assert size < 20_000
    assert calls < 10


def test_a_packed_layer_is_read_once_for_any_number_of_attributes(tmp_path: Path) -> None:
    layer = Layer(LAYER, gzip.compress(LAYER, 1))
    view = view_of([layer], tmp_path)
    assert sum(1 for _ in view.walk()) == 2 * FILES + 3
    read = layer.opened
    assert sum(1 for _ in view.walk()) == 2 * FILES + 3
    assert layer.opened == read <= 2


def test_bodies_of_a_packed_layer_are_unpacked_once(tmp_path: Path) -> None:
    layer = Layer(LAYER, gzip.compress(LAYER, 1))
    view = view_of([layer], tmp_path)
    for number in range(20):
        with view.open(b"d/%04d" % number) as body:
            assert body.read() == BODY
    # For what is there, for one body on the way, for all others together.
    assert layer.opened <= 4
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("at", [100, -3000], ids=["header", "end"])
def test_a_packed_layer_that_is_not_what_the_image_says_tells_nothing(
    at: int, tmp_path: Path
) -> None:
    other = bytearray(LAYER)
    other[512 + 700 if at > 0 else at] ^= 1
    view = view_of([Layer(LAYER, gzip.compress(bytes(other), 1))], tmp_path)
    with pytest.raises(InvalidImage, match=r"image: layer 1 .*(expected sha256|not a readable)"):
        view.list(b"")


def test_of_a_plain_layer_the_whole_can_be_verified(tmp_path: Path) -> None:
    good, other = LayerInFile(LAYER, tmp_path), LayerInFile(LAYER[:-1] + b"\1", tmp_path)
    view_of([good], tmp_path).verify()
    other.diff_id = good.diff_id
    view = view_of([good, other], tmp_path)
    # Nothing of the damage is in what is looked at.
    assert view.stat(b"d").is_dir
    with pytest.raises(InvalidImage, match=r"layer 2 .*: expected sha256"):
        view.verify()


def test_bodies_outlive_the_view(tmp_path: Path) -> None:
    with view_of([LayerInFile(LAYER, tmp_path)], tmp_path) as view:
        body = view.open(b"d/0003")
    with body:
        assert body.read() == BODY


def test_no_descriptor_stays_open(tmp_path: Path) -> None:
    before = sum(1 for _ in Path("/proc/self/fd").iterdir())
    for layer in (LayerInFile(LAYER, tmp_path), Layer(LAYER, gzip.compress(LAYER, 1))):
        with view_of([layer], tmp_path) as view:
            for number in range(5):
                with view.open(b"d/%04d" % number) as body:
                    body.read(10)
    assert sum(1 for _ in Path("/proc/self/fd").iterdir()) == before
