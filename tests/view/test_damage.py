"""Skimmed headers mean what they mean to who unpacks them, damaged ones too."""

import io
import random
import tarfile
from pathlib import Path

import pytest

from overlayfs.errors import InvalidImage, OverlayError
from overlayfs.layers.writer import unpack
from overlayfs.union.names import Format
from tests.support.images import run
from tests.support.layers import device, file, folder, link, symlink, tar
from tests.support.tree import Tree, differences, snapshot
from tests.support.viewed import Layer, LayerInFile, view_of, view_snapshot

pytestmark = pytest.mark.usefixtures("needs_root")

LONG = "n" * 150
PAX = tar(
    folder("d", pax={"SCHILY.xattr.user.a": "1", "mtime": "1.5"}),
    file("d/f", b"x" * 700, pax={"path": "d/f" + "n" * 90, "uid": "70000000"}),
    file("d/g", b"x" * 512, mtime=-3.25, uid=3_000_000),
    symlink("d/s", "f" * 120), link("h", "d/s"), file("d/.wh.w"), link("h2", "d/g"),
    device("p", tarfile.FIFOTYPE, 0, 0), device("b", tarfile.BLKTYPE, 8, 1),
    file("sparse", b"2\n0\n3\n600\n4\n".ljust(512, b"\0") + b"abcdefg",
         pax={"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "900"}),
    file("sparse01", b"abcdefg", pax={"GNU.sparse.map": "0,3,600,4", "GNU.sparse.size": "900"}),
    folder("./", 0o711, uid=1),
)  # fmt: skip
GNU = tar(
    file(LONG, b"1"), link("l", LONG), symlink("s", LONG), file("big", uid=1 << 22),
    folder("dir/"), file("old", mtime=-10), form=tarfile.GNU_FORMAT,
)  # fmt: skip
USTAR = tar(
    file("p" * 99 + "/" + "q" * 90, b"1"), folder("a/"), file("./a//b", b"2"),
    file("empty"), link("c", "a/b"), form=tarfile.USTAR_FORMAT,
)  # fmt: skip


def both(data: bytes, folder_: Path) -> list[Tree | InvalidImage]:
    """What a view makes of the layer *data*, in a file and as a stream."""
    found: list[Tree | InvalidImage] = []
    for layer in (LayerInFile(data, folder_), Layer(data)):
        with view_of([layer], folder_) as view:
            try:
                found.append(view_snapshot(view))
            except InvalidImage as exc:
                found.append(exc)
    return found


def written(data: bytes, root: Path) -> Tree | OverlayError | None:
    """What is made of it on a disk; None where a lower layer is missing."""
    try:
        if unpack(io.BytesIO(data), root, Format.KERNEL).foreign:
            return None
    except OverlayError as exc:
        return exc
    return {path: entry for path, entry in snapshot(root).items() if not is_whiteout(entry)}


def is_whiteout(entry: object) -> bool:
    return (getattr(entry, "kind", ""), getattr(entry, "rdev", 1)) == ("char", 0)


@pytest.mark.parametrize("data", [PAX, GNU, USTAR, b""], ids=["pax", "gnu", "ustar", "empty"])
def test_every_form(data: bytes, tmp_path: Path) -> None:
    expected = written(data, tmp_path / "root")
    assert isinstance(expected, dict)
    for found in both(data, tmp_path):
        assert isinstance(found, dict)
        assert differences(expected, found) == []


@pytest.mark.parametrize("form", ["gnu", "oldgnu", "pax", "ustar", "v7"])
@pytest.mark.parametrize("sparse", ["0.0", "0.1", "1.0"])
def test_what_gnu_tar_writes(form: str, sparse: str, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "a").write_bytes(b"a" * 5000)
    (tree / "b").hardlink_to(tree / "a")
    (tree / "l").symlink_to("a")
    with (tree / "holes").open("wb") as body:
        body.truncate(1 << 20)
        for at in range(0, 1 << 20, 1 << 17):
            body.seek(at + 4096)
            body.write(b"data")
    if form not in ("ustar", "v7"):
        (tree / LONG).write_bytes(b"long")
    sparse_options = ["--sparse", f"--sparse-version={sparse}"] if form in ("pax", "gnu") else []
    run("tar", f"--format={form}", *sparse_options, "-C", tree, "-cf", tmp_path / "tar", ".")
    expected = snapshot(tree)
    for found in both((tmp_path / "tar").read_bytes(), tmp_path):
        assert isinstance(found, dict)
        assert differences(expected, found, but=frozenset(["mtime_ns"])) == []


@pytest.mark.parametrize("seed", range(6))
def test_damage_is_refused_or_means_the_same(seed: int, tmp_path: Path) -> None:
    chance = random.Random(seed)
    compared = 0
    for number in range(60):
        data = bytearray(chance.choice((PAX, GNU, USTAR)))
        for _ in range(chance.randrange(1, 4)):
            at = chance.randrange(len(data))
            data[at] = chance.choice((0, 0x20, 0x30, 0x37, 0x39, 0x80, chance.randrange(256)))
            if chance.random() < 0.8:  # keep the checksum of the header right
                start = at // 512 * 512
                head = bytes(data[start : start + 512])
                total = sum(head[:148]) + 256 + sum(head[156:])
                data[start + 148 : start + 156] = b"%06o\0 " % total
        if chance.random() < 0.1:
            del data[chance.randrange(len(data)) :]
        expected = written(bytes(data), tmp_path / f"{number}")
        for found in both(bytes(data), tmp_path):
            if isinstance(expected, dict):
                assert isinstance(found, dict), (number, found)
                assert differences(expected, found) == [], number
                compared += 1
            elif isinstance(expected, InvalidImage):
                assert isinstance(found, InvalidImage), (number, expected.message)
    assert compared > 10


@pytest.mark.parametrize("length", [1, 100, 511, 513, 700, 1024, 1511, 1537, 2000])
def test_cut_short(length: int, tmp_path: Path) -> None:
    data = tar(file("f", b"x" * 1000), file("g"), end=False)
    for found in both(data[:length], tmp_path):
        assert isinstance(found, InvalidImage)


def test_padding_may_be_missing_at_the_end(tmp_path: Path) -> None:
    data = tar(file("f", b"x" * 1000), end=False)[: 512 + 1000]
    for found in both(data, tmp_path):
        assert isinstance(found, dict)
