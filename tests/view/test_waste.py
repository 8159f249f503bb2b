"""What layers add, change and remove, and what of their bytes is wasted."""

import io
import os
import tarfile
from itertools import pairwise

import pytest

from overlayfs.errors import InvalidImage
from overlayfs.union.attrs import Kind
from overlayfs.view.entry import Entry
from overlayfs.view.image import ImageView
from overlayfs.view.waste import Account, Did, account
from tests.support.layers import file, folder, link, symlink, tar
from tests.support.viewed import Opened, random_layers

LETTERS = {Did.ADDED: "A", Did.CHANGED: "C", Did.REMOVED: "D"}


def listed(found: Account) -> list[list[str]]:
    """The changes of each layer."""
    return [
        [f"{LETTERS[change.did]} /{os.fsdecode(change.path)}" for change in layer.changes]
        for layer in found.layers
    ]


def wasted(found: Account) -> list[tuple[str, int, int, int, str]]:
    """The bodies that nobody sees."""
    return [
        (os.fsdecode(one.path), one.size, one.layer, one.lost, str(one.did)) for one in found.wasted
    ]


BASE = tar(
    folder("etc"),
    file("etc/conf", b"c" * 10),
    file("etc/kept", b"k" * 20),
    folder("cache"),
    folder("cache/deep"),
    file("cache/deep/big", b"b" * 1000),
    file("cache/one", b"1" * 100),
    link("cache/two", "cache/one"),
    file("first", b"f" * 7),
    link("second", "first"),
    symlink("link", "first"),
    file("empty"),
)
IN_BASE = 10 + 20 + 1000 + 100 + 7


@pytest.mark.parametrize(
    ("layers", "changes", "lost"),
    [
        pytest.param([], [], [], id="a-base-wastes-nothing"),
        pytest.param(
            [tar(file("etc/conf", b"c" * 30))],
            [["C /etc/conf"]],
            [("etc/conf", 10, 1, 2, "changed")],
            id="replaced",
        ),
        pytest.param(
            [tar(file("etc/conf", b"c" * 10, mode=0o600))],
            [["C /etc/conf"]],
            [("etc/conf", 10, 1, 2, "changed")],
            id="chmod-costs-the-whole-file",
        ),
        pytest.param(
            [tar(file("etc/.wh.conf")), tar(file("etc/conf", b"new"))],
            [["D /etc/conf"], ["A /etc/conf"]],
            [("etc/conf", 10, 1, 2, "removed")],
            id="removed-and-made-again",
        ),
        pytest.param(
            [tar(file("temporary", b"t" * 50)), tar(file(".wh.temporary"))],
            [["A /temporary"], ["D /temporary"]],
            [("temporary", 50, 2, 3, "removed")],
            id="removed-from-a-layer-between",
        ),
        pytest.param(
            [tar(file(".wh.second"))], [["D /second"]], [], id="a-hard-link-shows-by-its-other-name"
        ),
        pytest.param(
            [tar(file(".wh.second")), tar(file("first", b"new"))],
            [["D /second"], ["C /first"]],
            [("first", 7, 1, 3, "changed")],
            id="a-hard-link-is-lost-with-its-last-name",
        ),
        pytest.param(
            [tar(file(".wh.cache"))],
            [["D /cache", "D /cache/deep", "D /cache/deep/big", "D /cache/one", "D /cache/two"]],
            [("cache/deep/big", 1000, 1, 2, "removed"), ("cache/one", 100, 1, 2, "removed")],
            id="a-directory-goes-with-all-in-it",
        ),
        pytest.param(
            [tar(folder("cache"), file("cache/.wh..wh..opq"), file("cache/one", b"1"))],
            [["D /cache/deep", "D /cache/deep/big", "C /cache/one", "D /cache/two"]],
            [("cache/deep/big", 1000, 1, 2, "removed"), ("cache/one", 100, 1, 2, "removed")],
            id="opaque",
        ),
        pytest.param(
            [tar(folder("cache"), file("cache/.wh..wh..opq"), file("cache/deep/small", b"s"))],
            [["D /cache/deep/big", "A /cache/deep/small", "D /cache/one", "D /cache/two"]],
            [("cache/deep/big", 1000, 1, 2, "removed"), ("cache/one", 100, 1, 2, "removed")],
            id="opaque-with-a-directory-in-it",
        ),
        pytest.param(
            [tar(file("cache", b"file"))],
            [["C /cache", "D /cache/deep", "D /cache/deep/big", "D /cache/one", "D /cache/two"]],
            [("cache/deep/big", 1000, 1, 2, "removed"), ("cache/one", 100, 1, 2, "removed")],
            id="a-file-for-a-directory",
        ),
        pytest.param(
            [tar(file(".wh.first"), folder("first"), file("first/in", b"in"))],
            [["C /first", "A /first/in"]],
            [],
            id="a-directory-for-one-name-of-a-file",
        ),
        pytest.param(
            [tar(folder("etc", 0o700), folder("cache", mtime=9))],
            [["C /etc"]],
            [],
            id="directories-count-by-mode-and-owner",
        ),
        pytest.param(
            [tar(file("etc/new", b"n"))], [["A /etc/new"]], [], id="no-entry-for-a-parent"
        ),
        pytest.param(
            [tar(file(".wh.nothing"), file("etc/.wh.neither"))], [[]], [], id="whiteouts-of-nothing"
        ),
        pytest.param(
            [tar(symlink("link", "etc"), file("empty", b"e"))],
            [["C /empty", "C /link"]],
            [],
            id="links-and-empty-files-waste-nothing",
        ),
        pytest.param(
            [tar(file("moved", b"k" * 20), file("etc/.wh.kept"))],
            [["D /etc/kept", "A /moved"]],
            [("etc/kept", 20, 1, 2, "removed")],
            id="a-move-is-a-copy",
        ),
    ],
)
def test_by_hand(
    opened: Opened,
    layers: list[bytes],
    changes: list[list[str]],
    lost: list[tuple[str, int, int, int, str]],
) -> None:
    found = account(opened([BASE, *layers]).parts)
    assert listed(found)[1:] == changes
    assert wasted(found) == lost
    assert found.layers[0].size == IN_BASE
    assert found.waste == sum(size for _, size, *_ in lost)
    assert found.total == IN_BASE + sum(bytes_in(layer) for layer in layers)
    assert found.efficiency == (found.total - found.waste) / found.total


def bytes_in(layer: bytes) -> int:
    """The bytes of the regular files in a tar."""
    with tarfile.open(fileobj=io.BytesIO(layer)) as archive:
        return sum(info.size for info in archive if info.isreg())


def test_an_image_without_bytes_wastes_none(opened: Opened) -> None:
    found = account(opened([tar(folder("etc"))]).parts)
    assert (found.total, found.waste, found.efficiency) == (0, 0, 1.0)


Tree = dict[bytes, Entry]


def changed(number: int, before: Tree, after: Tree) -> list[tuple[Did, bytes]]:
    """What the layer *number* did, by the trees without and with it."""
    found = []
    for path in sorted({*before, *after}, key=lambda path: path.split(b"/")):
        was, entry = before.get(path), after.get(path)
        if entry is None:
            found.append((Did.REMOVED, path))
        elif was is None:
            found.append((Did.ADDED, path))
        elif entry.layer == number and (not entry.is_dir or was[:4] != entry[:4]):
            found.append((Did.CHANGED, path))
    return [(did, path) for did, path in found if path or did is Did.CHANGED]


def bodies(tree: Tree) -> dict[tuple[int, int], int]:
    """The sizes of the files in *tree*, each once."""
    return {
        (entry.layer, entry.file): entry.size for entry in tree.values() if entry.kind is Kind.FILE
    }


@pytest.mark.parametrize("block", range(4))
def test_random_images_by_definition(opened: Opened, block: int) -> None:
    """Layer for layer by the trees, and in all by the bodies that each layer has and that show."""
    some = 0
    for seed in range(block * 20, block * 20 + 20):
        try:
            view = opened(random_layers(seed))
            trees: list[Tree] = [{}]
            trees += [
                dict(ImageView(view.parts[:upto]).walk()) for upto in range(1, len(view.parts) + 1)
            ]
        except InvalidImage:
            continue
        found = account(view.parts)
        for number, (before, after) in enumerate(pairwise(trees), 1):
            told = [(change.did, change.path) for change in found.layers[number - 1].changes]
            assert told == changed(number, before, after), (seed, number)
        alone = [bodies(dict(ImageView([part]).walk())) for part in view.parts]
        assert [layer.size for layer in found.layers] == [sum(each.values()) for each in alone]
        showing = bodies(trees[-1])
        for layer, each in zip(found.layers, alone, strict=True):
            lost = sum(size for key, size in each.items() if key not in showing)
            assert layer.wasted == lost, (seed, layer.number)
            some += lost
    assert some > 1000
