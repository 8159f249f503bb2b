"""``pyoverlay which-layer``, on an image in a file and on the same in the store."""

import os
from pathlib import Path

import pytest

from tests.support.archives import Made, digest, from_1_10, write_tar
from tests.support.command import PyOverlay
from tests.support.layers import file, folder, symlink, tar

pytestmark = pytest.mark.usefixtures("needs_root", "needs_fuse")

BASE = tar(
    folder("usr"),
    folder("usr/bin"),
    file("usr/bin/ls", b"ls", mode=0o755),
    symlink("bin", "usr/bin"),
)
NEWER = tar(file("usr/bin/ls", b"newer", mode=0o4755))
WITHOUT = tar(file("usr/.wh.bin"))
IMAGE = Made(
    (BASE, NEWER, WITHOUT),
    {
        "history": [
            {"created_by": "COPY / /"},
            {"created_by": "ENV a=b", "empty_layer": True},
            {"created_by": "RUN \x1b[31mapt " + "x" * 80, "created": "2024-02-03T04:05:06Z"},
            {"created_by": "RUN rm"},
        ]
    },
)


@pytest.fixture(params=["archive", "store"])
def image(request: pytest.FixtureRequest, pyoverlay: PyOverlay, tmp_path: Path) -> str:
    """What the command is given."""
    archive = write_tar(tmp_path / "image.tar", from_1_10([(IMAGE, ["app:1"])]))
    if request.param == "archive":
        return str(archive)
    (tmp_path / "mnt").mkdir()
    with pyoverlay.mounted(archive, tmp_path / "mnt"):
        return "app:1"


def test_a_line_for_each_layer(pyoverlay: PyOverlay, image: str) -> None:
    done = pyoverlay("which-layer", image, "/bin/ls")
    assert done.returncode == 0
    assert done.stderr == "pyoverlay: /bin/ls is /usr/bin/ls\n"
    head, *lines = done.stdout.splitlines()
    assert head.split() == ["LAYER", "DIFF", "ID", "WHAT", "MODE", "SIZE", "CREATED", "BY"]
    cells = [[cell.strip() for cell in line.split("  ") if cell] for line in lines]
    shown = r"RUN \x1b[31mapt " + "x" * 46 + "…"
    assert cells == [
        ["1", digest(BASE)[7:19], "added", "-rwxr-xr-x", "2 B", "COPY / /"],
        ["2", digest(NEWER)[7:19], "replaced", "-rwsr-xr-x", "5 B", shown],
        ["3", digest(WITHOUT)[7:19], "removed (whiteout of /usr/bin)", "-", "-", "RUN rm"],
    ]


def test_the_layer_that_shows_has_a_star(pyoverlay: PyOverlay, image: str) -> None:
    said = pyoverlay.ok("which-layer", f"{image}:/usr")
    assert [line[:4] for line in said.splitlines()[1:]] == ["   1", "   2", "*  3"]
    assert "unchanged (implied)" in said


def test_json(pyoverlay: PyOverlay, image: str) -> None:
    assert pyoverlay.json("which-layer", image, "bin/ls") == {
        "path": "/usr/bin/ls",
        "shown": None,
        "layers": [
            {
                "layer": 1,
                "diff_id": digest(BASE),
                "created": "",
                "created_by": "COPY / /",
                "action": "added",
                "changed": [],
                "hidden_by": None,
                "hidden_at": None,
                "implied": False,
                "kind": "file",
                "mode": "0755",
                "uid": 0,
                "gid": 0,
                "size": 2,
            },
            {
                "layer": 2,
                "diff_id": digest(NEWER),
                "created": "2024-02-03T04:05:06Z",
                "created_by": "RUN \x1b[31mapt " + "x" * 80,
                "action": "replaced",
                "changed": ["mode", "size"],
                "hidden_by": None,
                "hidden_at": None,
                "implied": False,
                "kind": "file",
                "mode": "4755",
                "uid": 0,
                "gid": 0,
                "size": 5,
            },
            {
                "layer": 3,
                "diff_id": digest(WITHOUT),
                "created": "",
                "created_by": "RUN rm",
                "action": "removed",
                "changed": [],
                "hidden_by": "whiteout",
                "hidden_at": "/usr/bin",
                "implied": False,
                "kind": None,
                "mode": None,
                "uid": None,
                "gid": None,
                "size": None,
            },
        ],
    }


def test_what_no_layer_had_is_no_success(pyoverlay: PyOverlay, image: str) -> None:
    done = pyoverlay("which-layer", image, "/etc/pass\x1bwd")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == f"pyoverlay: {image}: no layer has ever had /etc/pass\\x1bwd\n"


def test_a_whole_digest_and_line(pyoverlay: PyOverlay, image: str) -> None:
    said = pyoverlay.ok("which-layer", "--no-trunc", image, "/usr/bin/ls")
    assert digest(NEWER) in said
    assert "x" * 80 in said


def test_an_image_in_a_file_is_not_taken_into_the_store(
    pyoverlay: PyOverlay, tmp_path: Path
) -> None:
    archive = write_tar(tmp_path / "image.tar", from_1_10([(IMAGE, ["app:1"])]))
    pyoverlay.ok("which-layer", archive, "/usr")
    assert not pyoverlay.store.exists()


@pytest.mark.parametrize("words", [("image.tar", "/a", "/b"), ()])
def test_one_image_and_one_path(pyoverlay: PyOverlay, words: tuple[str, ...]) -> None:
    done = pyoverlay("which-layer", *words)
    assert done.returncode == 1
    assert "Usage: pyoverlay which-layer" in done.stderr


def test_a_mount_says_the_same(pyoverlay: PyOverlay, image: str, tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    with pyoverlay.mounted(image, tmp_path / "root", "--read-only") as mnt:
        layer = os.getxattr(mnt / "usr", "user.pyoverlay.layer")
    assert int(layer) == pyoverlay.json("which-layer", image, "/usr")["shown"]
