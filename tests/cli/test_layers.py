"""``pyoverlay layers``, on an image in a file."""

from pathlib import Path

import pytest

from tests.support.archives import Made, digest, from_1_10, from_25, write_tar
from tests.support.command import PyOverlay
from tests.support.layers import file, folder, tar

BASE = tar(folder("etc"), file("etc/conf", b"c" * 4000), file("etc/old", b"o" * 1000))
NEWER = tar(file("etc/conf", b"n" * 5000), file("etc/.wh.old"), file("new", b""))
IMAGE = Made((BASE, NEWER), {"history": [{"created_by": "COPY \x1b[31m/"}, {"created_by": "RUN"}]})


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """The image in a tar, with the digests of its blobs."""
    return write_tar(tmp_path / "image.tar", from_25(IMAGE, "app:1"))


def test_a_table_and_what_is_wasted(pyoverlay: PyOverlay, image: Path) -> None:
    said = pyoverlay.ok("layers", image)
    assert [line.split() for line in said.splitlines()] == [
        ["LAYER", "DIFF", "ID", "SIZE", "WASTED", "ADDED", "CHANGED", "REMOVED", "CREATED", "BY"],
        ["1", digest(BASE)[7:19], "5", "kB", "5", "kB", "3", "0", "0", "COPY", r"\x1b[31m/"],
        ["2", digest(NEWER)[7:19], "5", "kB", "0", "B", "1", "1", "1", "RUN"],
        [],
        ["10", "kB", "in", "all,", "5", "kB", "wasted:", "efficiency", "50", "%"],
        [],
        ["WASTED", "PATH", "LAYERS"],
        ["4", "kB", "/etc/conf", "1,", "changed", "in", "2"],
        ["1", "kB", "/etc/old", "1,", "removed", "in", "2"],
    ]


def test_the_paths_of_one_layer_or_of_all(pyoverlay: PyOverlay, image: Path) -> None:
    newer = ["C /etc/conf  5 kB", "D /etc/old", "A /new"]
    assert pyoverlay.ok("layers", image, "2").splitlines()[2:] == newer
    both = pyoverlay.ok("layers", "--files", image).splitlines()
    assert both[2:5] == ["A /etc", "A /etc/conf  4 kB", "A /etc/old  1 kB"]
    assert both[8:11] == newer


def test_json(pyoverlay: PyOverlay, image: Path) -> None:
    found = pyoverlay.json("layers", image, "--files")
    assert found == {
        "size": 10_000,
        "wasted": 5000,
        "efficiency": 0.5,
        "layers": [
            {
                "layer": 1,
                "digest": digest(BASE),
                "blob_size": len(BASE),
                "diff_id": digest(BASE),
                "created": "",
                "created_by": "COPY \x1b[31m/",
                "size": 5000,
                "wasted": 5000,
                "added": 3,
                "changed": 0,
                "removed": 0,
                "files": [
                    {"kind": "added", "path": "/etc", "size": 0},
                    {"kind": "added", "path": "/etc/conf", "size": 4000},
                    {"kind": "added", "path": "/etc/old", "size": 1000},
                ],
            },
            {
                "layer": 2,
                "digest": digest(NEWER),
                "blob_size": len(NEWER),
                "diff_id": digest(NEWER),
                "created": "",
                "created_by": "RUN",
                "size": 5000,
                "wasted": 0,
                "added": 1,
                "changed": 1,
                "removed": 1,
                "files": [
                    {"kind": "changed", "path": "/etc/conf", "size": 5000},
                    {"kind": "removed", "path": "/etc/old", "size": 0},
                    {"kind": "added", "path": "/new", "size": 0},
                ],
            },
        ],
        "wasted_paths": [
            {
                "path": "/etc/conf",
                "size": 4000,
                "bodies": [{"layer": 1, "size": 4000, "lost_in": 2, "by": "changed"}],
            },
            {
                "path": "/etc/old",
                "size": 1000,
                "bodies": [{"layer": 1, "size": 1000, "lost_in": 2, "by": "removed"}],
            },
        ],
    }
    without = pyoverlay.json("layers", image, "--top", "1")
    assert [each["path"] for each in without["wasted_paths"]] == ["/etc/conf"]
    assert all("files" not in layer for layer in without["layers"])


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        pytest.param(("--max-waste", "5kB"), "", id="just-so-much"),
        pytest.param(
            ("--max-waste", "4.8KiB"), "5000 bytes are wasted, more than 4915", id="binary"
        ),
        pytest.param(("--max-waste", "4999"), "5000 bytes are wasted, more than 4999", id="bytes"),
        pytest.param(("--min-efficiency", "0.5"), "", id="just-so-efficient"),
        pytest.param(
            ("--min-efficiency", "51%"), "the efficiency is 50 %, less than 51 %", id="percent"
        ),
        pytest.param(
            ("--min-efficiency", "0.9", "--max-waste", "1GB"),
            "the efficiency is 50 %, less than 90 %",
            id="both",
        ),
    ],
)
def test_limits_for_scripts(
    pyoverlay: PyOverlay, image: Path, options: tuple[str, ...], complaint: str
) -> None:
    done = pyoverlay("layers", *options, image)
    assert done.returncode == (1 if complaint else 0)
    assert done.stderr == (f"pyoverlay: {image}: {complaint}\n" if complaint else "")
    assert "efficiency 50 %" in done.stdout


@pytest.mark.parametrize(
    "options",
    [("--max-waste", "much"), ("--max-waste", "5XB"), ("--min-efficiency", "1.1")],
)
def test_limits_that_are_none(pyoverlay: PyOverlay, image: Path, options: tuple[str, ...]) -> None:
    done = pyoverlay("layers", *options, image)
    assert done.returncode == 1
    assert "write it as" in done.stderr


@pytest.mark.parametrize("number", ["0", "3"])
def test_a_layer_that_is_not_there(pyoverlay: PyOverlay, image: Path, number: str) -> None:
    done = pyoverlay("layers", image, number)
    assert done.returncode == 1
    assert done.stderr == f"pyoverlay: {image}: no layer {number}, as it has 2\n"


def test_an_image_without_layers(pyoverlay: PyOverlay, tmp_path: Path) -> None:
    image = write_tar(tmp_path / "image.tar", from_1_10([(Made(()), [])]))
    assert pyoverlay.json("layers", image)["layers"] == []
    assert "efficiency 100 %" in pyoverlay.ok("layers", image)
