"""Paths lead through an image as if it were the root of everything; no layer is asked in vain."""

import errno
import os
from pathlib import Path

import pytest

from overlayfs.errors import InvalidImage
from overlayfs.union.attrs import Kind
from overlayfs.view.entry import Whiteout
from overlayfs.view.image import ImageView
from tests.support.layers import file, folder, link, symlink, tar
from tests.support.viewed import Layer, view_of

BASE = tar(
    folder("etc", 0o750), file("etc/passwd", b"root"), file("etc/old", b"old"),
    folder("usr"), folder("usr/bin"), file("usr/bin/sh", b"shell"), symlink("bin", "usr/bin"),
    symlink("abs", "/etc/passwd"), symlink("out", "../../../etc/passwd"),
    symlink("loop", "loop"), symlink("broken", "nowhere"), symlink("dir", "etc/"),
    symlink("etc/up", "../usr"), link("same", "etc/passwd"),
)  # fmt: skip


@pytest.fixture
def base(tmp_path: Path) -> ImageView:
    return view_of([Layer(BASE)], tmp_path)


@pytest.mark.parametrize(
    ("path", "real"),
    [
        (b"", b""),
        (b"/", b""),
        (b"/etc/./passwd", b"etc/passwd"),
        (b"bin/sh", b"usr/bin/sh"),
        (b"abs", b"etc/passwd"),
        (b"out", b"etc/passwd"),
        (b"../../etc", b"etc"),
        (b"bin/..", b"usr"),
        (b"dir/up/bin/sh", b"usr/bin/sh"),
        (b"dir/", b"etc"),
        (b"new", b"new"),
        (b"broken", b"nowhere"),
    ],
)
def test_links_and_dots_stay_inside(base: ImageView, path: bytes, real: bytes) -> None:
    assert base.resolve(path) == real


@pytest.mark.parametrize(
    ("path", "code"),
    [
        (b"nowhere", errno.ENOENT),
        (b"nowhere/below", errno.ENOENT),
        (b"broken", errno.ENOENT),
        (b"etc/passwd/below", errno.ENOTDIR),
        (b"etc/passwd/", errno.ENOTDIR),
        (b"abs/", errno.ENOTDIR),
        (b"loop", errno.ELOOP),
        (b"loop/below", errno.ELOOP),
        (b"n" * 300, errno.ENOENT),
    ],
)
def test_errors_are_those_of_the_system(base: ImageView, path: bytes, code: int) -> None:
    with pytest.raises(OSError, match=os.strerror(code)) as caught:
        base.stat(path)
    assert (caught.value.errno, caught.value.filename) == (code, path)


def test_the_last_link_is_followed_or_not(base: ImageView) -> None:
    assert base.stat(b"bin").kind is Kind.DIRECTORY
    found = base.stat(b"bin", follow=False)
    assert (found.kind, found.target) == (Kind.SYMLINK, b"usr/bin")


def test_bodies(base: ImageView) -> None:
    with base.open(b"abs") as body:
        assert body.read() == b"root"
    for path, code in ((b"etc", errno.EISDIR), (b"broken", errno.ENOENT)):
        with pytest.raises(OSError, match=os.strerror(code)):
            base.open(path)


def test_names_of_one_file(base: ImageView) -> None:
    one, other = base.stat(b"same"), base.stat(b"etc/passwd")
    assert (one.file, one.nlink) == (other.file, 2)
    assert base.stat(b"etc/old").nlink == 1


def test_layers_below_are_not_read_when_the_answer_is_certain(tmp_path: Path) -> None:
    low = Layer(BASE)
    top = Layer(tar(folder("etc"), file("etc/new", b"new"), file("etc/.wh.old"), file("gone/f")))
    opaque = Layer(tar(folder("usr"), file("usr/.wh..wh..opq"), symlink("l", "etc/new")))
    view = view_of([low, top, opaque], tmp_path)
    assert view.list(b"usr") == {}
    with pytest.raises(FileNotFoundError):
        view.stat(b"usr/bin")
    assert (low.opened, top.opened) == (0, 0)
    with view.open(b"l") as body:
        assert body.read() == b"new"
    with pytest.raises(FileNotFoundError):
        view.stat(b"etc/old")
    assert low.opened == 0
    assert view.stat(b"etc/passwd").layer == 1
    assert low.opened


def test_each_part_tells_what_it_has_and_hides(tmp_path: Path) -> None:
    top = tar(file("etc/.wh.old"), file("etc/passwd", b"other"), file("usr/.wh..wh..opq"))
    view = view_of([Layer(BASE), Layer(top)], tmp_path)
    low, high = view.parts
    assert [part.number for part in view.parts] == [1, 2]
    assert high.find(b"etc/old") == Whiteout(2)
    assert high.find(b"usr/bin") is None
    assert high.listing(b"usr").opaque
    assert high.is_implied(b"etc")
    assert not low.is_implied(b"etc")
    # An implied directory has the attributes of the one below.
    implied = high.find(b"etc")
    assert implied is not None
    assert not isinstance(implied, Whiteout)
    assert (implied.mode & 0o7777, implied.layer) == (0o750, 2)
    assert [part.number for part, _ in view.showing(b"etc")] == [2, 1]
    assert [part.number for part, _ in view.showing(b"etc/passwd")] == [2]


def test_a_file_of_a_lower_layer_that_is_linked(tmp_path: Path) -> None:
    layers = [Layer(BASE), Layer(tar(link("linked", "etc/passwd")))]
    view = view_of(layers, tmp_path)
    one, other = view.stat(b"linked"), view.stat(b"etc/passwd")
    # The old name comes up as well, since both must stay one file.
    assert (one.layer, one.file, one.nlink) == (other.layer, other.file, 2)
    assert one.layer == 2
    with view.open(b"linked") as body:
        assert body.read() == b"root"


@pytest.mark.parametrize("target", ["nowhere", "etc"])
def test_a_hard_link_to_nothing_is_refused(tmp_path: Path, target: str) -> None:
    view = view_of([Layer(BASE), Layer(tar(link("linked", target)))], tmp_path)
    with pytest.raises(InvalidImage, match="linked: a hard link to"):
        view.stat(b"linked")


def test_depth_costs_no_stack(tmp_path: Path) -> None:
    path = "/".join(["d"] * 1500)
    low = tar(file(f"{path}/low", b"low"))
    view = view_of([Layer(low), Layer(tar(file(f"{path}/high", b"high")))], tmp_path)
    with view.open(f"{path}/low".encode()) as body:
        assert body.read() == b"low"
    assert sum(1 for _ in view.walk()) == 1503
    deeper = view_of([Layer(tar(file("/".join(["d"] * 5000))))], tmp_path)
    with pytest.raises(InvalidImage, match="name too long"):
        deeper.list(b"")


def test_an_image_without_layers_is_an_empty_directory(tmp_path: Path) -> None:
    view = view_of([], tmp_path)
    assert [path for path, _ in view.walk()] == [b""]
    assert view.stat(b"/").mode & 0o7777 == 0o755
