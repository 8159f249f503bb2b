"""What differs between two images."""

import os
import random
from typing import Any

import pytest

from overlayfs.errors import InvalidImage
from overlayfs.view.comparison import compare
from overlayfs.view.image import ImageView
from overlayfs.view.part import Part
from tests.support.layers import file, folder, link, symlink, tar
from tests.support.viewed import Opened, by_trees, random_layers, view_snapshot


def told(a: ImageView, b: ImageView, path: bytes = b"", *, times: bool = False) -> list[str]:
    """The differences, as `diff` writes them down, but shorter."""
    found = []
    for each in compare(a, b, path, times=times):
        letter = "A" if each.a is None else "D" if each.b is None else "C"
        found.append(" ".join((letter, "/" + os.fsdecode(each.path), *each.fields)))
    return found


BASE = tar(
    folder("etc"),
    file("etc/conf", b"conf"),
    folder("etc/sub"),
    file("etc/sub/in", b"in"),
    file("file", b"file"),
    symlink("link", "etc"),
    folder("lib"),
    file("lib/lib", b"lib"),
)


@pytest.mark.parametrize(
    ("newer", "expected"),
    [
        pytest.param([], [], id="the-same"),
        pytest.param([file("etc/conf", b"longer")], ["C /etc/conf size"], id="size"),
        pytest.param([file("etc/conf", b"CONF")], ["C /etc/conf content"], id="content"),
        pytest.param([file("etc/conf", b"conf", mtime=7)], [], id="time"),
        pytest.param(
            [file("etc/conf", b"conf", mode=0o600, uid=1, gid=2)],
            ["C /etc/conf mode uid gid"],
            id="mode-and-owner",
        ),
        pytest.param(
            [file("etc/conf", b"conf", pax={"SCHILY.xattr.user.a": "b"})],
            ["C /etc/conf xattrs"],
            id="xattrs",
        ),
        pytest.param([symlink("link", "lib")], ["C /link target"], id="target"),
        pytest.param(
            [file("etc/.wh.sub"), file("lib/new")],
            ["D /etc/sub", "D /etc/sub/in", "A /lib/new"],
            id="added-and-removed",
        ),
        pytest.param(
            [file("etc", b"now a file")],
            ["C /etc kind mode", "D /etc/conf", "D /etc/sub", "D /etc/sub/in"],
            id="a-file-for-a-directory",
        ),
        pytest.param(
            [folder("file"), file("file/in")],
            ["C /file kind mode", "A /file/in"],
            id="a-directory-for-a-file",
        ),
        pytest.param([folder("etc", 0o700)], ["C /etc mode"], id="a-directory"),
        pytest.param([folder("./", 0o700)], ["C / mode"], id="the-root"),
        pytest.param([link("again", "file")], ["A /again"], id="one-name-more"),
    ],
)
def test_a_layer_more(opened: Opened, newer: list[object], expected: list[str]) -> None:
    a, b = opened([BASE]), opened([BASE, tar(*newer)] if newer else [BASE])  # type: ignore[arg-type]  # items
    assert told(a, b) == expected
    turned = {"A": "D", "D": "A", "C": "C"}
    assert told(b, a) == [f"{turned[line[0]]}{line[1:]}" for line in expected]


def test_times_on_request(opened: Opened) -> None:
    a, b = opened([BASE]), opened([BASE, tar(file("file", b"file", mtime=7))])
    assert told(a, b, times=True) == ["C /file mtime"]


def test_what_lies_beneath_a_path(opened: Opened) -> None:
    a = opened([BASE])
    b = opened([BASE, tar(file("etc/sub/in", b"else"), file("lib/lib", b"else"))])
    assert told(a, b, b"etc") == ["C /etc/sub/in size"]
    assert told(a, b, b"lib/lib") == ["C /lib/lib size"]
    assert told(a, b, b"link") == []
    assert told(a, b, b"nothing") == []


class Watched:
    """A layer that writes down what it is asked."""

    def __init__(self, part: Part) -> None:
        self._part = part
        self.asked: set[tuple[str, bytes]] = set()

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._part, name)
        if not callable(found):
            return found

        def asking(path: bytes, *more: Any) -> Any:
            self.asked.add((name, path))
            return found(path, *more)

        return asking


def test_shared_layers_are_not_read(opened: Opened) -> None:
    """What both show of a layer that both have is not opened; nor listed, if it is all of it."""
    a = opened([BASE, tar(file("etc/a"))])
    b = opened([BASE, tar(file("etc/b"))])
    base = Watched(a.parts[0])
    assert told(ImageView([base, a.parts[1]]), b) == ["D /etc/a", "A /etc/b"]
    asked = {(what, path) for what, path in base.asked if what not in ("look", "find")}
    assert asked == {("listing", b""), ("listing", b"etc")}


def test_layers_that_only_lie_alike_are_read(opened: Opened) -> None:
    """A hard link shows what is below, so equal layers on others are not the same."""
    linked = tar(link("name", "file"))
    a = opened([tar(file("file", b"one!")), linked])
    b = opened([tar(file("file", b"two!")), linked])
    assert told(a, b) == ["C /file content", "C /name content"]


@pytest.mark.parametrize("block", range(3))
def test_random_images(opened: Opened, block: int) -> None:
    """With some layers in common, and with none."""
    some = 0
    for seed in range(block * 15, block * 15 + 15):
        chance = random.Random(seed)
        below = random_layers(seed)
        shared = below[: chance.randint(0, len(below))]
        try:
            a, b = opened(below), opened([*shared, *random_layers(1000 + seed)])
            trees = view_snapshot(a), view_snapshot(b)
        except InvalidImage:
            continue
        found = told(a, b)
        assert found == [*by_trees(*trees)], seed
        some += len(found)
    assert some > 50
