"""What each layer did to a path."""

import os
from itertools import pairwise
from pathlib import Path

import pytest

from overlayfs.archive.detect import open_image
from overlayfs.errors import InvalidImage
from overlayfs.store.store import Store
from overlayfs.view.image import ImageView
from overlayfs.view.opening import of_source
from overlayfs.view.provenance import Action, Event, as_layers_have_it, history
from tests.support.archives import Made, from_1_10, write_tar
from tests.support.layers import file, folder, link, symlink, tar
from tests.support.viewed import Opened, random_layers


def told(event: Event) -> str:
    """An event in short: the layer, what it did, in what it differs, and why what was is hidden."""
    words = [str(event.number), str(event.action), *event.fields]
    if event.implied:
        words.append("implied")
    if event.hidden is not None:
        words.append(f"{event.hidden.cause}:/{os.fsdecode(event.hidden.path)}")
    return " ".join(words)


BASE = tar(
    folder("etc"),
    file("etc/passwd", b"root"),
    file("etc/same", b"same"),
    file("etc/mode", b"mode", mode=0o600),
    file("etc/touched", b"touched"),
    folder("cache"),
    folder("cache/deep"),
    file("cache/deep/file", b"old"),
    folder("lib"),
    file("lib/a", b"a"),
    file("first", b"hard"),
    link("second", "first"),
    symlink("link", "etc"),
    folder("turns"),
    file("turns/in", b"in"),
    folder("plain"),
    file("plain/kept", b"kept"),
)


@pytest.mark.parametrize(
    ("layers", "path", "expected"),
    [
        pytest.param([], "etc/passwd", ["1 added"], id="base-alone"),
        pytest.param([], "nothing", [], id="never"),
        pytest.param([tar(file(".wh.nothing"))], "nothing", [], id="a-whiteout-of-nothing"),
        pytest.param(
            [tar(file("etc/passwd", b"me"))],
            "etc/passwd",
            ["1 added", "2 replaced size"],
            id="another-size",
        ),
        pytest.param(
            [tar(file("etc/passwd", b"toor"))],
            "etc/passwd",
            ["1 added", "2 replaced content"],
            id="another-content",
        ),
        pytest.param(
            [tar(file("etc/same", b"same"))],
            "etc/same",
            ["1 added", "2 unchanged"],
            id="the-same-again",
        ),
        pytest.param(
            [tar(file("etc/mode", b"mode", mode=0o644, uid=3))],
            "etc/mode",
            ["1 added", "2 changed mode uid"],
            id="chmod-and-chown",
        ),
        pytest.param(
            [tar(file("etc/touched", b"touched", mtime=5))],
            "etc/touched",
            ["1 added", "2 changed mtime"],
            id="touch",
        ),
        pytest.param(
            [tar(file("etc/same", b"same", pax={"SCHILY.xattr.user.note": "x"}))],
            "etc/same",
            ["1 added", "2 changed xattrs"],
            id="an-attribute",
        ),
        pytest.param(
            [tar(file("etc/.wh.passwd")), tar(file("etc/passwd", b"again"))],
            "etc/passwd",
            ["1 added", "2 removed whiteout:/etc/passwd", "3 added"],
            id="removed-and-made-again",
        ),
        pytest.param(
            [tar(file(".wh.cache"))],
            "cache/deep/file",
            ["1 added", "2 removed whiteout:/cache"],
            id="whiteout-of-a-parent",
        ),
        pytest.param(
            [tar(folder("cache"), file("cache/.wh..wh..opq"))],
            "cache/deep/file",
            ["1 added", "2 removed opaque:/cache"],
            id="opaque-parent",
        ),
        pytest.param(
            [tar(folder("cache"), file("cache/.wh..wh..opq"), file("cache/deep/file", b"new"))],
            "cache/deep/file",
            ["1 added", "2 replaced content opaque:/cache"],
            id="opaque-parent-with-the-path-in-it",
        ),
        pytest.param(
            [tar(folder("cache"), file("cache/.wh..wh..opq"))],
            "cache",
            ["1 added", "2 replaced opaque:/cache"],
            id="opaque-itself",
        ),
        pytest.param(
            [tar(file(".wh.cache"), folder("cache"))],
            "cache",
            ["1 added", "2 replaced opaque:/cache"],
            id="a-whiteout-beside-a-directory-is-an-opaque-one",
        ),
        pytest.param(
            [tar(file("cache", b"a file"))],
            "cache/deep/file",
            ["1 added", "2 removed file:/cache"],
            id="a-file-for-a-parent",
        ),
        pytest.param(
            [tar(symlink("cache", "etc"))],
            "cache",
            ["1 added", "2 replaced kind mode"],
            id="a-link-for-a-directory",
        ),
        pytest.param(
            [tar(file("turns", b"f")), tar(folder("turns"), file("turns/in", b"in"))],
            "turns/in",
            ["1 added", "2 removed file:/turns", "3 added"],
            id="a-file-for-a-parent-for-a-while",
        ),
        pytest.param(
            [tar(folder("etc"), file("etc/new"))],
            "etc",
            ["1 added", "2 unchanged"],
            id="a-directory-with-something-new",
        ),
        pytest.param(
            [tar(file("etc/new"))],
            "etc",
            ["1 added", "2 unchanged implied"],
            id="a-directory-without-an-entry",
        ),
        pytest.param(
            [tar(folder("etc", 0o700, mtime=5))],
            "etc",
            ["1 added", "2 changed mode"],
            id="chmod-of-a-directory",
        ),
        pytest.param(
            [tar(file("first", b"new"))], "second", ["1 added"], id="another-name-of-a-file"
        ),
        pytest.param(
            [tar(symlink("link", "lib"))],
            "link",
            ["1 added", "2 replaced target"],
            id="a-link-to-elsewhere",
        ),
        pytest.param(
            [tar(file("plain/other")), tar(file(".wh.plain")), tar(file("plain/kept", b"2"))],
            "plain/kept",
            ["1 added", "3 removed whiteout:/plain", "4 added"],
            id="layers-that-say-nothing",
        ),
        pytest.param(
            [tar(file(".wh..wh..opq"), file("new"))],
            "etc/passwd",
            ["1 added", "2 removed opaque:/"],
            id="opaque-root",
        ),
    ],
)
def test_all_ways_of_hiding(
    opened: Opened, layers: list[bytes], path: str, expected: list[str]
) -> None:
    view = opened([BASE, *layers])
    assert [told(event) for event in history(view, path.encode())] == expected


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        pytest.param(b"/bin/ls", b"usr/bin/ls", id="link-on-the-way"),
        pytest.param(b"bin", b"bin", id="link-itself"),
        pytest.param(b"/bin/", b"usr/bin", id="link-with-a-slash"),
        pytest.param(b"//usr/./bin//ls", b"usr/bin/ls", id="as-written"),
        pytest.param(b"/bin/../lib", b"usr/lib", id="up-from-a-link"),
        pytest.param(b"/bin/gone/deep", b"usr/bin/gone/deep", id="nothing-there-now"),
        pytest.param(b"/gone/../../../etc", b"etc", id="up-from-nothing-ends-at-the-root"),
        pytest.param(b"/usr/bin/ls/../../x", b"usr/x", id="up-from-a-file"),
        pytest.param(b"/loop/x", b"loop/x", id="a-loop"),
        pytest.param(b"/", b"", id="root"),
    ],
)
def test_links_on_the_way_are_followed(opened: Opened, path: bytes, expected: bytes) -> None:
    view = opened(
        [
            tar(
                folder("usr/bin"),
                file("usr/bin/ls"),
                symlink("bin", "usr/bin"),
                symlink("loop", "loop"),
            )
        ]
    )
    assert as_layers_have_it(view, path) == expected


@pytest.mark.parametrize("block", range(4))
def test_random_images_layer_by_layer(opened: Opened, block: int) -> None:
    """What a layer did is what is otherwise in the tree of the image with it than without it."""
    looked = 0
    for seed in range(block * 20, block * 20 + 20):
        try:
            view = opened(random_layers(seed))
            trees = [
                dict(ImageView(view.parts[:upto]).walk()) if upto else {}
                for upto in range(len(view.parts) + 1)
            ]
        except InvalidImage:
            continue
        for path in {path for tree in trees for path in tree}:
            events = {event.number: event for event in history(view, path)}
            for number, (before, after) in enumerate(pairwise(trees), 1):
                what = seed, number, path
                event = events.get(number)
                was, entry = before.get(path), after.get(path)
                assert (event.entry if event else was) == entry, what
                if event is None:
                    assert was == entry, what
                    continue
                looked += 1
                assert (event.action is Action.ADDED) == (was is None), what
                assert (event.action is Action.REMOVED) == (entry is None), what
                if event.action is Action.UNCHANGED:
                    assert was is not None
                    assert entry is not None
                    assert was[:6] == entry[:6], what
    assert looked > 100


def test_of_an_archive_only_the_headers_are_read(store: Store, tmp_path: Path) -> None:
    """A body is read where two layers have the same path with the same size."""
    big = os.urandom(1 << 20)
    layers = tuple(
        tar(*(file(f"{number}/{at}", big) for at in range(20)), file("path", b"x" * number))
        for number in range(1, 4)
    )
    archive = write_tar(tmp_path / "image.tar", from_1_10([(Made(layers), [])]))
    with (
        open_image(str(archive), scratch=store.scratch) as source,
        of_source(source, what="image", scratch=store.scratch) as view,
    ):
        before = bytes_read()
        assert len(history(view, b"path")) == 3
        assert bytes_read() - before < 1 << 20


def bytes_read() -> int:
    """By this process, from files or the cache."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(dict(line.split(": ") for line in lines)["rchar"])
