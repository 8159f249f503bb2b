"""What a layer leaves unsaid comes from the layers below, and the kernel agrees."""

import io
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from overlayfs.errors import InvalidImage
from overlayfs.layers.complete import Below, complete, completion
from overlayfs.layers.lower import Layer
from overlayfs.layers.writer import unpack
from overlayfs.union.attrs import Kind
from overlayfs.union.names import Format
from tests.support.layers import Item, file, folder, kinds, link, shown, symlink, tar
from tests.support.tree import snapshot


def stack(folder_: Path, fmt: Format, *layers: Sequence[Item]) -> list[Path]:
    """The directories of *layers*, base first, each completed on those before."""
    roots: list[Path] = []
    for number, items in enumerate(layers):
        place = folder_ / str(number)
        place.mkdir()
        unpacked = unpack(io.BytesIO(tar(*items)), place / "root", fmt)
        with below(roots, fmt) as under:
            needed = completion(unpacked, under)
            if needed:
                complete(place / "root", fmt, needed, under, name=f"layer {number}")
        roots.append(place / "root")
    return roots


@contextmanager
def below(roots: Sequence[Path], fmt: Format) -> Iterator[Below]:
    layers = [Layer(path, fmt, number) for number, path in enumerate(reversed(roots))]
    try:
        yield Below(layers)
    finally:
        for layer in layers:
            layer.close()


def test_implied_directories_keep_what_they_are_below(tmp_path: Path, fmt: Format) -> None:
    attribute = {"SCHILY.xattr.user.kept": "1"}
    roots = stack(
        tmp_path,
        fmt,
        [folder("./", 0o700, uid=9), folder("a", 0o1777, uid=1, gid=2, pax=attribute),
         folder("a/b", 0o2711, pax={"mtime": "-5.25"}), folder("hid", 0o700)],
        [folder("a", 0o1770, uid=3), file(".wh.hid")],
        [file("a/b/f"), file("hid/f")],
    )  # fmt: skip
    tree = shown(roots[2], fmt)
    assert (tree[b""].mode, tree[b""].uid) == (0o700, 9)
    assert (tree[b"a"].mode, tree[b"a"].uid, tree[b"a"].xattrs) == (0o1770, 3, {})
    assert (tree[b"a/b"].mode, tree[b"a/b"].mtime_ns) == (0o2711, -5_250_000_000)
    assert (tree[b"hid"].mode, tree[b"hid"].mtime_ns) == (0o755, 0)


@pytest.mark.parametrize(
    ("hiding", "expected"),
    [
        pytest.param([], 0o700, id="shown"),
        pytest.param([file("a/.wh.b")], 0o755, id="whiteout"),
        pytest.param([file(".wh.a")], 0o755, id="whiteout-above"),
        pytest.param([folder("a"), file("a/.wh..wh..opq")], 0o755, id="opaque-above"),
        pytest.param([file(".wh..wh..opq")], 0o755, id="opaque-root"),
        pytest.param([file("a/b")], 0o755, id="file-over-it"),
        pytest.param([symlink("a", "x")], 0o755, id="link-above"),
        pytest.param([folder("a/b", 0o711)], 0o711, id="nearer"),
    ],
)
def test_only_what_shows_is_lent(
    hiding: list[Item], expected: int, tmp_path: Path, fmt: Format
) -> None:
    base = [folder("a", 0o750), folder("a/b", 0o700)]
    roots = stack(tmp_path, fmt, base, hiding, [file("a/b/f")])
    assert shown(roots[2], fmt)[b"a/b"].mode == expected


def test_a_layer_that_says_everything_needs_nothing(tmp_path: Path, fmt: Format) -> None:
    roots = stack(tmp_path, fmt, [folder("./", 0o700), folder("a", 0o700)])
    said = [folder("./"), folder("a"), file("a/f"), file("a/.wh.g")]
    unpacked = unpack(io.BytesIO(tar(*said)), tmp_path / "x", fmt)
    with below(roots, fmt) as under:
        assert not completion(unpacked, under)


def test_links_bring_their_file_up(tmp_path: Path, fmt: Format) -> None:
    roots = stack(
        tmp_path,
        fmt,
        [folder("d", 0o700, uid=4),
         file("d/f", b"x" * 9000, mode=0o4751, uid=5, pax={"SCHILY.xattr.user.a": "1"}),
         symlink("s", "target", uid=6)],
        [folder("n", 0o711, mtime=5), link("n/a", "d/f"), link("n/b", "n/a"), link("t", "s")],
    )  # fmt: skip
    below_, here = shown(roots[0], fmt), shown(roots[1], fmt)
    assert set(here) == {b"", b"n", b"n/a", b"n/b", b"d", b"d/f", b"s", b"t"}
    lower = below_[b"d/f"]
    for name in (b"n/a", b"n/b", b"d/f"):
        one = here[name]
        assert one.nlink == 3
        assert (one.body, one.mode, one.uid, one.mtime_ns, one.xattrs) == (
            lower.body,
            lower.mode,
            lower.uid,
            lower.mtime_ns,
            lower.xattrs,
        )
    assert here[b"d"] == below_[b"d"]
    assert here[b"n"].mtime_ns == 5_000_000_000
    assert (here[b"t"].body, here[b"t"].uid, here[b"t"].nlink) == (b"target", 6, 2)


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        pytest.param([file(".wh.f")], {b"f": "whiteout"}, id="whiteout"),
        pytest.param([file(".wh..wh..opq")], {b"": "opaque"}, id="opaque"),
        pytest.param([file("f")], {b"f": "file"}, id="own"),
    ],
)
def test_what_the_layer_hides_does_not_come_back(
    items: list[Item], expected: dict[bytes, str], tmp_path: Path, fmt: Format
) -> None:
    link_first = [link("a", "f"), *items]
    roots = stack(tmp_path, fmt, [file("f", b"lower")], link_first)
    assert kinds(roots[1], fmt) == {b"": "dir", b"a": "file", **expected}
    assert shown(roots[1], fmt)[b"a"].body == b"lower"


@pytest.mark.parametrize(
    ("items", "says"),
    [
        pytest.param([link("a", "nowhere/f")], "layer 1: a: .* nowhere/f, which is", id="no"),
        pytest.param([link("a", "d")], "layer 1: a: a hard link to the directory d", id="dir"),
    ],
)  # fmt: skip
def test_links_to_nothing_are_refused(
    items: list[Item], says: str, tmp_path: Path, fmt: Format
) -> None:
    with pytest.raises(InvalidImage, match=says):
        stack(tmp_path, fmt, [folder("d")], items)


def test_holes_stay_holes_when_a_file_comes_up(tmp_path: Path) -> None:
    size = 8 << 20
    hole = {"GNU.sparse.map": f"0,0,{size},0", "GNU.sparse.size": str(size)}
    roots = stack(tmp_path, Format.USER, [file("f", pax=hole)], [link("a", "f")])
    assert (roots[1] / "a").stat().st_size == size
    assert (roots[1] / "a").stat().st_blocks == 0


def test_whiteouts_of_nothing_are_removed(tmp_path: Path, fmt: Format) -> None:
    base = [folder("a", mtime=7), file("a/.wh.x"), file("new/.wh.y")]
    roots = stack(tmp_path, fmt, base, [file("a/.wh.z"), file("b/.wh.z")])
    assert kinds(roots[0], fmt) == {b"": "dir", b"a": "dir", b"new": "dir"}
    assert shown(roots[0], fmt)[b"a"].mtime_ns == 7_000_000_000
    assert kinds(roots[1], fmt) == {b"": "dir", b"a": "dir", b"a/z": "whiteout", b"b": "dir"}


def test_the_kernel_shows_what_the_tars_say(tmp_path: Path, needs_kernel_overlay: None) -> None:
    roots = stack(
        tmp_path,
        Format.KERNEL,
        [folder("./", 0o711), folder("d", 0o700, uid=3), file("d/a"), file("d/b"), file("e/f"),
         folder("o"), file("o/old"), folder("gone"), file("gone/x"), file("l")],
        [file("d/.wh.a"), file("d/c"), file("o/.wh..wh..opq"), file("o/new"), file(".wh.gone"),
         file("only/.wh.y"), link("m", "l")],
        [file("gone/again"), file("d/.wh.b")],
    )  # fmt: skip
    merged = tmp_path / "merged"
    merged.mkdir()
    lower = ":".join(str(path) for path in reversed(roots))
    subprocess.run(["mount", "-toverlay", "overlay", f"-oro,lowerdir={lower}", merged], check=True)
    try:
        tree = snapshot(merged)
    finally:
        subprocess.run(["umount", merged], check=True)
    assert set(tree) == {
        b".", b"d", b"d/c", b"e", b"e/f", b"o", b"o/new", b"gone", b"gone/again", b"only",
        b"l", b"m",
    }  # fmt: skip
    assert (tree[b"d"].mode, tree[b"d"].uid, tree[b"."].mode) == (0o700, 3, 0o711)
    assert tree[b"l"].same_as == tree[b"m"].same_as
    assert (tree[b"l"].nlink, Kind(tree[b"l"].kind)) == (2, Kind.FILE)


def test_a_link_to_a_lower_file_stands_where_the_layer_hides_a_name(
    tmp_path: Path, fmt: Format
) -> None:
    roots = stack(
        tmp_path,
        fmt,
        [file("low", b"low"), file("name", b"hidden")],
        [link("name", "low"), file(".wh.name")],
    )
    assert shown(roots[1], fmt)[b"name"].body == b"low"


def test_a_name_of_a_lower_file_that_the_layer_takes_is_not_brought_up(
    tmp_path: Path, fmt: Format
) -> None:
    roots = stack(
        tmp_path,
        fmt,
        [file("y", b"y"), file("z", b"z")],
        [link("a", "z"), link("z", "y")],
    )
    found = shown(roots[1], fmt)
    assert {path: one.body for path, one in found.items() if path} == {
        b"a": b"z", b"z": b"y", b"y": b"y"
    }  # fmt: skip
