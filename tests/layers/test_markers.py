"""Whiteouts and opaque markers: they apply to the layer, wherever in the tar they stand."""

import itertools
import tarfile
from io import BytesIO
from pathlib import Path

import pytest

from overlayfs.layers.writer import unpack
from overlayfs.union.names import Format
from tests.layers.conftest import Unpack
from tests.support.layers import Item, device, file, folder, kinds, link, symlink, tar


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        pytest.param([file(".wh.x")], {b"x": "whiteout"}, id="at-the-root"),
        pytest.param(
            [file("d/.wh.x"), folder("d")], {b"d": "dir", b"d/x": "whiteout"}, id="in-a-directory"
        ),
        pytest.param([file(".wh.x"), file("x")], {b"x": "file"}, id="own-file-stays"),
        pytest.param(
            [file(".wh.x"), file("x/y")], {b"x": "opaque", b"x/y": "file"}, id="own-dir-is-opaque"
        ),
        pytest.param([file(".wh.x"), symlink("x", "y")], {b"x": "symlink"}, id="own-link-stays"),
        pytest.param(
            [file("a/.wh.b"), file("a/b/c/d")],
            {b"a": "dir", b"a/b": "opaque", b"a/b/c": "dir", b"a/b/c/d": "file"},
            id="entries-beneath-a-whiteout",
        ),
        pytest.param([file("d/.wh..wh..opq")], {b"d": "opaque"}, id="opaque"),
        pytest.param(
            [file("d/.wh..wh..opq"), file("d/x"), folder("d")],
            {b"d": "opaque", b"d/x": "file"},
            id="opaque-with-own",
        ),
        pytest.param(
            [file("d/.wh..wh..opq"), file("d/.wh.x"), file("d/e/.wh.y")],
            {b"d": "opaque"},
            id="needless-beneath-opaque",
        ),
        pytest.param(
            [file("d/.wh..wh..opq"), file("d/e/f"), file("d/e/.wh.y")],
            {b"d": "opaque", b"d/e": "dir", b"d/e/f": "file"},
            id="needless-in-own-directory-beneath-opaque",
        ),
        pytest.param(
            [file(".wh.d"), file("d/.wh.x"), file("d/e/.wh.y"), file("d/.wh..wh..opq")],
            {b"d": "whiteout"},
            id="needless-beneath-a-whiteout",
        ),
        pytest.param([file(".wh..wh..opq"), file(".wh.x")], {b"": "opaque"}, id="opaque-root"),
        pytest.param(
            [folder(".wh..wh.plnk"), file(".wh..wh.plnk/12.34"), file(".wh..wh.aufs"), file("x")],
            {b"x": "file"},
            id="names-of-aufs-are-skipped",
        ),
        pytest.param(
            [file("f"), link(".wh.x", "f"), link("d/.wh..wh..opq", ".wh.x")],
            {b"f": "file", b"x": "whiteout", b"d": "opaque"},
            id="as-hard-links",
        ),
        pytest.param(
            [symlink(".wh.x", "f"), folder(".wh.y"), device(".wh.z", tarfile.CHRTYPE, 0, 0)],
            {b"x": "whiteout", b"y": "whiteout", b"z": "whiteout"},
            id="of-any-type",
        ),
        pytest.param(
            [device("d/x", tarfile.CHRTYPE, 0, 0)],
            {b"d": "dir", b"d/x": "whiteout"},
            id="the-kernels-own",
        ),
        pytest.param([file("x"), file("x/.wh.y")], {b"x": "file"}, id="beneath-own-file"),
        pytest.param(
            [folder("u"), symlink("s", "u"), file("s/.wh.x")],
            {b"u": "dir", b"s": "symlink", b"u/x": "whiteout"},
            id="through-own-link",
        ),
        pytest.param([file("wh.x"), file("a.wh.b")], {b"wh.x": "file", b"a.wh.b": "file"}, id="no"),
        pytest.param([file("test/a"), file(".wh.tes")], {b"test": "dir", b"test/a": "file",
                     b"tes": "whiteout"}, id="whole-names-only"),
    ],
)  # fmt: skip
def test_markers(
    items: list[Item], expected: dict[bytes, str], unpacked: Unpack, root: Path, fmt: Format
) -> None:
    unpacked(tar(*items))
    assert kinds(root, fmt) == {b"": "dir", **expected}


def test_the_order_in_the_tar_does_not_matter(tmp_path: Path) -> None:
    items = [file(".wh.a"), file("a/.wh.b"), file("a/c"), file("e/.wh..wh..opq"), file("e/.wh.f")]
    results = set()
    for number, order in enumerate(itertools.permutations(items)):
        root = tmp_path / str(number)
        unpack(BytesIO(tar(*order)), root, Format.USER)
        results.add(tuple(sorted(kinds(root, Format.USER).items())))
    assert results == {
        ((b"", "dir"), (b"a", "opaque"), (b"a/c", "file"), (b"e", "opaque")),
    }
