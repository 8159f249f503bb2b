"""Files of an image that are made on this machine: all of them, and nothing anywhere else."""

import os
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from overlayfs.errors import OverlayError
from overlayfs.layers.removal import remove
from overlayfs.view.extraction import Extracted, Kept, extract
from overlayfs.view.image import ImageView
from tests.support.layers import as_user, device, file, folder, link, symlink, tar
from tests.support.tree import differences, snapshot
from tests.support.viewed import Layer, random_layers, view_of, view_snapshot

EVERYTHING = Kept(owner=True)


@contextmanager
def opened(folder_: Path) -> Iterator[int]:
    fd = os.open(folder_, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield fd
    finally:
        os.close(fd)


def made(
    view: ImageView, into: Path, *, top: bytes = b"", name: bytes = b".", kept: Kept = EVERYTHING
) -> Extracted:
    into.mkdir(exist_ok=True)
    with opened(into) as fd:
        return extract(view, top, fd, name, kept)


IMAGE = [
    tar(
        folder("./", 0o751, uid=5), folder("d", 0o2550, uid=1, gid=2, mtime=7.5),
        file("d/f", b"1" * 3000, mode=0o6755, uid=3, gid=4, mtime=-3.25,
             pax={"SCHILY.xattr.user.a": "1", "SCHILY.xattr.trusted.overlay.opaque": "y",
                  "SCHILY.xattr.security.capability": "\1\0\0\2\0\4" + "\0" * 14}),
        link("d/g", "d/f"), symlink("s", "/etc/passwd", uid=7),
        device("pipe", tarfile.FIFOTYPE, 0, 0), device("disk", tarfile.BLKTYPE, 8, 1, mode=0o640),
        file("holes", bytes(1 << 20) + b"end"),
    ),
    tar(file("d/new", b"new"), folder("deep/er")),
]  # fmt: skip


def view_of_all(scratch: Path) -> ImageView:
    return view_of([Layer(data) for data in IMAGE], scratch)


@pytest.mark.usefixtures("needs_root")
def test_root_gets_the_tree_that_is_looked_up(tmp_path: Path) -> None:
    with view_of_all(tmp_path) as view:
        done = made(view, tmp_path / "out")
        expected = view_snapshot(view)
    assert differences(expected, snapshot(tmp_path / "out")) == []
    assert (tmp_path / "out/holes").stat().st_blocks < 16
    assert done.left_out == {"attributes that overlayfs would obey": 1}
    assert "trusted.overlay.opaque" not in os.listxattr(tmp_path / "out/d/f")


@pytest.mark.usefixtures("needs_root")
@pytest.mark.parametrize("seed", range(0, 60, 3))
def test_random_images(seed: int, tmp_path: Path) -> None:
    with view_of([Layer(data) for data in random_layers(seed)], tmp_path) as view:
        try:
            expected = view_snapshot(view)
        except OverlayError:
            return
        made(view, tmp_path / "out")
    # Names that upper layers hide are links of the layer, and not of what is made of it.
    found = snapshot(tmp_path / "out")
    assert differences(expected, found, but=frozenset(["nlink"])) == []


def test_a_user_gets_what_he_may(tmp_path: Path, needs_root: None) -> None:
    def work() -> None:
        with view_of_all(Path()) as view:
            done = made(view, Path("out"), kept=Kept(owner=False))
        found = snapshot(Path("out"))
        assert set(done.left_out) == {
            "devices, which only root can make",
            "attributes that only root can give",
            "attributes that overlayfs would obey",
        }
        assert b"disk" not in found
        assert {entry.uid for entry in found.values()} == {54321}
        assert (found[b"d/f"].mode, found[b"d/f"].xattrs) == (0o755, {b"user.a": b"1"})
        assert found[b"d/g"].same_as == b"d/f"
        assert found[b"d/f"].mtime_ns == -3_250_000_000

    as_user(work, tmp_path)


def test_a_part_goes_by_its_own_name(tmp_path: Path, needs_root: None) -> None:
    with view_of_all(tmp_path) as view:
        made(view, tmp_path / "out", top=b"d", name=b"copy")
        made(view, tmp_path / "out", top=b"d/f", name=b"file")
        made(view, tmp_path / "out", top=b"s", name=b"link")
    found = snapshot(tmp_path / "out")
    assert [*found] == [b".", b"copy", b"copy/f", b"copy/g", b"copy/new", b"file", b"link"]
    assert found[b"copy/g"].same_as == b"copy/f"


def test_no_link_of_the_image_leads_outside(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    # As a tar would have it: a link first, then something by way of it.  What is not refused
    # lies inside the image.
    hostile = [
        tar(symlink("out", str(outside)), symlink("up", "../../outside")),
        tar(file("out/f", b"evil"), file("up/g", b"evil"), folder("real")),
        tar(symlink("real", str(outside)), file("real/h", b"evil")),
        tar(symlink("x", str(outside / "new")), file("x", b"evil"), link("l", "x")),
    ]
    for number in range(1, len(hostile) + 1):
        with view_of([Layer(data) for data in hostile[:number]], tmp_path) as view:
            made(view, tmp_path / f"out{number}", kept=Kept(owner=False))
    assert list(outside.iterdir()) == []


def test_links_that_are_there_are_replaced_not_followed(tmp_path: Path) -> None:
    outside, out = tmp_path / "outside", tmp_path / "out"
    (outside / "d").mkdir(parents=True)
    (outside / "file").write_text("canary")
    out.mkdir()
    (out / "d").symlink_to(outside / "d")
    (out / "holes").symlink_to(outside / "file")
    (out / "s").hardlink_to(outside / "file")
    (out / "deep").mkdir()
    (out / "deep/er").symlink_to(outside)
    with view_of_all(tmp_path) as view:
        made(view, out, kept=Kept(owner=False))
    assert (outside / "file").read_text() == "canary"
    assert sorted(path.name for path in outside.rglob("*")) == ["d", "file"]
    assert not (out / "d").is_symlink()
    assert not (out / "deep/er").is_symlink()


def test_a_directory_in_the_place_of_a_file_stays(tmp_path: Path) -> None:
    (tmp_path / "out/holes/kept").mkdir(parents=True)
    with (
        view_of_all(tmp_path) as view,
        pytest.raises(OverlayError, match=r"/holes: cannot be made: Is a directory"),
    ):
        made(view, tmp_path / "out", kept=Kept(owner=False))
    assert (tmp_path / "out/holes/kept").is_dir()


def test_a_deep_tree_needs_no_descriptors(tmp_path: Path) -> None:
    path = "/".join(["d"] * 1200)
    with view_of([Layer(tar(file(f"{path}/f", b"deep")))], tmp_path) as view:
        done = made(view, tmp_path / "out", kept=Kept(owner=False))
    assert done.files == 1202
    # Deeper than pytest can remove.
    with opened(tmp_path) as fd:
        remove(fd, b"out")
