"""``pyoverlay diff``: of a mount, and of two images."""

from pathlib import Path

import pytest

from tests.support.archives import Made, from_1_10, write_tar
from tests.support.command import PyOverlay
from tests.support.layers import file, folder, symlink, tar

BASE = tar(
    folder("etc"),
    file("etc/conf", b"c" * 10),
    file("etc/old", b"o" * 2000),
    symlink("etc/link", "conf"),
    folder("usr"),
    file("usr/tool", b"tool", mode=0o755),
)
NEWER = tar(
    file("etc/conf", b"c" * 30, mode=0o600),
    file("etc/.wh.old"),
    symlink("etc/link", "no\x1bwhere"),
    file("usr/new", b"n" * 5000, mtime=1_700_000_000),
)


@pytest.fixture
def images(tmp_path: Path) -> tuple[Path, Path]:
    """An image, and one with a layer more."""
    found = [
        write_tar(tmp_path / f"{name}.tar", from_1_10([(Made(layers), [f"{name}:1"])]))
        for name, layers in (("old", (BASE,)), ("new", (BASE, NEWER)))
    ]
    return found[0], found[1]


def test_what_differs(pyoverlay: PyOverlay, images: tuple[Path, Path]) -> None:
    assert pyoverlay.ok("diff", *images).splitlines() == [
        "C /etc/conf  mode 0644 -> 0600, size 10 B -> 30 B",
        r"C /etc/link  target conf -> no\x1bwhere",
        "D /etc/old",
        "A /usr/new",
    ]
    assert not pyoverlay.store.exists()


def test_a_path(pyoverlay: PyOverlay, images: tuple[Path, Path]) -> None:
    assert pyoverlay.ok("diff", *images, "/usr").splitlines() == ["A /usr/new"]
    assert pyoverlay.ok("diff", *images, "/etc/old").splitlines() == ["D /etc/old"]
    done = pyoverlay("diff", *images, "/nothing")
    assert (done.returncode, done.stderr) == (1, "pyoverlay: /nothing: in neither of the images\n")


def test_sums(pyoverlay: PyOverlay, images: tuple[Path, Path]) -> None:
    lines = pyoverlay.ok("diff", "--stat", *images).splitlines()
    assert [line.split() for line in lines] == [
        ["PATH", "ADDED", "MODIFIED", "DELETED", "SIZE"],
        ["/etc", "0", "2", "1", "-1.98", "kB"],
        ["/usr", "1", "0", "0", "+5", "kB"],
        ["in", "all", "1", "2", "1", "+3.02", "kB"],
    ]
    found = pyoverlay.json("diff", "--stat", *images, "etc")
    assert found == {
        "directories": [
            {"path": "/etc/conf", "added": 0, "modified": 1, "deleted": 0, "grown": 20},
            {"path": "/etc/link", "added": 0, "modified": 1, "deleted": 0, "grown": 0},
            {"path": "/etc/old", "added": 0, "modified": 0, "deleted": 1, "grown": -2000},
        ],
        "total": {"path": "/etc", "added": 0, "modified": 2, "deleted": 1, "grown": -1980},
    }


def test_json(pyoverlay: PyOverlay, images: tuple[Path, Path]) -> None:
    found = {each["path"]: each for each in pyoverlay.json("diff", *images)}
    assert [(each["kind"], path) for path, each in found.items()] == [
        ("modified", "/etc/conf"),
        ("modified", "/etc/link"),
        ("deleted", "/etc/old"),
        ("added", "/usr/new"),
    ]
    assert found["/etc/conf"]["changed"] == ["mode", "size"]
    assert found["/etc/link"]["b"]["target"] == "no\x1bwhere"
    assert found["/etc/old"]["b"] is None
    assert found["/usr/new"] == {
        "kind": "added",
        "path": "/usr/new",
        "changed": [],
        "a": None,
        "b": {
            "layer": 2,
            "kind": "file",
            "mode": "0644",
            "uid": 0,
            "gid": 0,
            "size": 5000,
            "target": None,
            "mtime": "2023-11-14T22:13:20.000000000Z",
        },
    }


def test_exit_code_on_request(pyoverlay: PyOverlay, images: tuple[Path, Path]) -> None:
    old, new = images
    assert pyoverlay("diff", old, new).returncode == 0
    for more in ((), ("--stat",), ("--json",)):
        assert pyoverlay("diff", "--exit-code", *more, old, new).returncode == 1
        assert pyoverlay("diff", "--exit-code", *more, old, old).returncode == 0


def test_an_image_of_the_store_and_a_mount(
    pyoverlay: PyOverlay, images: tuple[Path, Path], tmp_path: Path, needs_fuse: None
) -> None:
    (tmp_path / "mnt").mkdir()
    with pyoverlay.mounted(images[0], tmp_path / "mnt") as mnt:
        assert pyoverlay.ok("diff", "old:1", images[1]) == pyoverlay.ok("diff", *images)
        assert pyoverlay("diff", "--exit-code", mnt).returncode == 0
        (mnt / "etc/conf").write_text("other")
        done = pyoverlay("diff", "--exit-code", mnt)
        assert done.returncode == 1
        assert done.stdout.splitlines() == ["C /etc", "C /etc/conf"]
        found = pyoverlay.json("diff", mnt)
        assert found[1] == {"kind": "modified", "path": "/etc/conf"}


@pytest.mark.parametrize("words", [("a", "b", "c", "d"), (), ("--stat", "mnt"), ("--times", "mnt")])
def test_words_that_make_no_sense(pyoverlay: PyOverlay, words: tuple[str, ...]) -> None:
    done = pyoverlay("diff", *words)
    assert done.returncode == 1
    assert "Usage: pyoverlay diff" in done.stderr
