"""Who brought what, in images by real tools and as those tools have it."""

import io
import json
import os
import tarfile
from pathlib import Path

import pytest

from overlayfs.archive.compression import decompressed
from tests.support.command import PyOverlay
from tests.support.images import Workshop, run, umoci_tree
from tests.support.tree import snapshot
from tests.support.viewed import by_trees

pytestmark = pytest.mark.usefixtures("needs_root", "needs_fuse")


def test_each_file_of_a_mount_names_the_topmost_layer_that_has_it(
    layout: Path, pyoverlay: PyOverlay, tmp_path: Path
) -> None:
    """Where that is, the layers' directories tell."""
    (tmp_path / "mnt").mkdir()
    seen = set()
    with pyoverlay.mounted(f"{layout}:rich", tmp_path / "mnt", "--read-only") as mnt:
        layers = pyoverlay.layer_paths()
        for path, entry in snapshot(mnt).items():
            if entry.kind not in ("file", "dir"):
                continue
            name = os.fsdecode(path)
            having = [at for at, layer in enumerate(layers, 1) if os.path.lexists(layer / name)]
            found = int(os.getxattr(mnt / name, "user.pyoverlay.layer"))
            assert found == having[-1], name
            seen.add(found)
    assert len(seen) >= 4


def test_a_layer_changes_what_podman_says(
    shop: Workshop, layout: Path, pyoverlay: PyOverlay, tmp_path: Path
) -> None:
    """podman tells of a removed directory alone, and of every directory in which something is."""
    archive = tmp_path / "changed.tar"
    run("skopeo", "copy", "-q", shop.stored("localhost/changed"), f"oci-archive:{archive}")
    theirs = json.loads(shop.podman("diff", "--format=json", "localhost/changed"))
    base, top = pyoverlay.json("layers", "--files", archive)["layers"]
    ours = {
        kind: {each["path"] for each in top["files"] if each["kind"] == kind}
        for kind in ("added", "changed", "removed")
    }
    # What goes with a directory that is no more, or is a file now, is told with it.
    gone = {path for path in ours["removed"] if os.path.dirname(path) not in ours["removed"]}  # noqa: PTH120 - in the image
    replaced = {
        path for path in gone if any(path.startswith(f"{each}/") for each in ours["changed"])
    }
    assert ours["added"] == set(theirs["added"])
    assert gone - replaced == set(theirs["deleted"])
    assert ours["changed"] <= set(theirs["changed"])
    before = {each["path"] for each in base["files"]}
    assert {path for path in theirs["changed"] if path not in ours["changed"]} < before | {"/"}


def test_two_images_differ_as_what_umoci_unpacks(
    shop: Workshop, layout: Path, pyoverlay: PyOverlay, tmp_path: Path
) -> None:
    trees = []
    for name in ("base", "changed"):
        image = f"{tmp_path}/layout:{name}"
        run("skopeo", "copy", "-q", shop.stored(f"localhost/{name}"), f"oci:{image}")
        trees.append(snapshot(umoci_tree(tmp_path / "layout", name, tmp_path / name)))
    images = [f"{tmp_path}/layout:{name}" for name in ("base", "changed")]
    letters = {"added": "A", "modified": "C", "deleted": "D"}
    told = [
        " ".join((letters[each["kind"]], each["path"], *each["changed"]))
        for each in pyoverlay.json("diff", *images)
    ]
    assert told == [*by_trees(*trees)]
    assert len(told) > 15


Shown = dict[str, tuple[int, str, int]]


def put(shown: Shown, number: int, layer: bytes) -> int:
    """Put a layer on the files that *shown* has, as the image-spec says; the bytes in it.

    Each file has its layer, its first name in that and its size.
    """
    size = 0
    # `umoci insert` ends its tars too soon for tarfile.
    with tarfile.open(fileobj=io.BytesIO(layer + bytes(2048))) as archive:
        members = [(os.path.normpath(info.name), info) for info in archive]
    for name, _ in members:
        folder, _, last = name.rpartition("/")
        if last == ".wh..wh..opq":
            take(shown, folder, itself=False)
        elif last.startswith(".wh."):
            take(shown, f"{folder}/{last[4:]}".lstrip("/"))
    made: Shown = {}
    for name, info in members:
        if info.isdir():
            if name in shown:
                take(shown, name)
        elif not name.rpartition("/")[2].startswith(".wh."):
            take(shown, name)
            if info.isreg():
                made[name] = (number, name, info.size)
                size += info.size
            elif info.islnk():
                made[name] = made[os.path.normpath(info.linkname)]
    shown.update(made)
    return size


def take(shown: Shown, path: str, *, itself: bool = True) -> None:
    """Take away what is at *path* and below."""
    for known in [known for known in shown if known.startswith(f"{path}/")]:
        del shown[known]
    if itself:
        shown.pop(path, None)


@pytest.mark.parametrize("name", ["rich", "dense"])
def test_waste_by_the_lists_of_the_tars(layout: Path, pyoverlay: PyOverlay, name: str) -> None:
    index = json.loads((layout / "index.json").read_text())
    (entry,) = (
        each
        for each in index["manifests"]
        if each["annotations"]["org.opencontainers.image.ref.name"] == name
    )

    def blob(digest: str) -> Path:
        return layout / "blobs" / digest.replace(":", "/")

    shown: Shown = {}
    sizes = []
    layers = json.loads(blob(entry["digest"]).read_text())["layers"]
    for number, layer in enumerate(layers, 1):
        with decompressed(blob(layer["digest"]).open("rb")) as stream:
            sizes.append(put(shown, number, stream.read()))
    visible = sum({each[:2]: each[2] for each in shown.values()}.values())
    found = pyoverlay.json("layers", f"{layout}:{name}")
    assert [layer["size"] for layer in found["layers"]] == sizes
    assert [layer["digest"] for layer in found["layers"]] == [each["digest"] for each in layers]
    assert found["size"] - found["wasted"] == visible
    assert found["wasted"] > 50
    assert found["efficiency"] == visible / sum(sizes)


def test_history_and_layers_go_together_as_podman_has_them(
    shop: Workshop, layout: Path, pyoverlay: PyOverlay, tmp_path: Path
) -> None:
    archive = tmp_path / "changed.tar"
    run("skopeo", "copy", "-q", shop.stored("localhost/changed"), f"docker-archive:{archive}")
    theirs = json.loads(shop.podman("history", "--format=json", "localhost/changed"))
    ours = pyoverlay.json("layers", archive)["layers"]
    made = [each["CreatedBy"] for each in reversed(theirs)]
    assert [layer["created_by"] for layer in ours] == made
    shown = pyoverlay.json("which-layer", archive, "/becomes-file")
    assert [each["action"] for each in shown["layers"]] == ["added", "replaced"]
    assert [each["created_by"] for each in shown["layers"]] == made
