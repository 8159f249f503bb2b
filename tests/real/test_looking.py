"""Images of real tools, looked into where they are, show what the tools unpack."""

import dataclasses
import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from overlayfs.cli.sources import viewed
from tests.support.command import PyOverlay
from tests.support.images import LAYOUTS, Workshop, copied, run
from tests.support.tree import Tree, assert_same, snapshot
from tests.support.viewed import view_snapshot

pytestmark = pytest.mark.usefixtures("needs_root")


def as_unpacked(tree: Tree) -> Tree:
    """*tree*, from umoci, with what it loses: an attribute without a value."""
    acl = tree[b"acl"]
    return tree | {b"acl": dataclasses.replace(acl, xattrs={**acl.xattrs, b"user.empty": b""})}


@pytest.mark.parametrize("form", LAYOUTS)
def test_every_layout_shows_the_tree_that_umoci_unpacks(
    form: str, shop: Workshop, layout: Path, umoci_trees: dict[str, Tree], tmp_path: Path
) -> None:
    name = "dense" if form.endswith("podman") else "rich"
    source = copied(shop, f"oci:{layout}:{name}", form, tmp_path / "image")
    with viewed(tmp_path / "store", source) as view:
        found = view_snapshot(view)
    assert_same(as_unpacked(umoci_trees[name]), found)
    assert not (tmp_path / "store").exists()


def test_what_is_extracted_is_what_umoci_unpacks(
    layout: Path, umoci_trees: dict[str, Tree], pyoverlay: PyOverlay, tmp_path: Path
) -> None:
    pyoverlay.ok("extract", f"{layout}:rich", tmp_path / "out")
    assert_same(as_unpacked(umoci_trees["rich"]), snapshot(tmp_path / "out"))


def test_cp_writes_the_tar_that_gnu_tar_unpacks_to_it(
    layout: Path, umoci_trees: dict[str, Tree], pyoverlay: PyOverlay, tmp_path: Path
) -> None:
    data = subprocess.run(
        [sys.executable, "-m", "overlayfs", "cp", "-r", f"{layout}:rich:/kept", "-"],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=subprocess.PIPE,
        check=True,
    ).stdout
    with tarfile.open(fileobj=io.BytesIO(data)) as made:
        assert {member.name for member in made} == {
            os.fsdecode(path)
            for path in umoci_trees["rich"]
            if path == b"kept" or path.startswith(b"kept/")
        }
    (tmp_path / "tar").write_bytes(data)
    run("tar", "--xattrs", "--xattrs-include=*", "-C", tmp_path, "-xpf", tmp_path / "tar")
    found = snapshot(tmp_path / "kept")
    expected = umoci_trees["rich"]
    for path, entry in found.items():
        at = b"kept" if path == b"." else b"kept/" + path
        wanted = dataclasses.replace(expected[at], same_as=entry.same_as)
        assert dataclasses.replace(entry, nlink=wanted.nlink) == wanted, at


def test_a_debian_is_what_find_and_a_mount_say(
    debian: Path, pyoverlay: PyOverlay, tmp_path: Path, needs_fuse: None
) -> None:
    image = f"{debian}:debian"
    with viewed(tmp_path / "none", image) as view:
        packed = view_snapshot(view)
    with pyoverlay.mounted(image, tmp_path / "root", "--read-only") as root:
        mounted = snapshot(root)
        (name,) = pyoverlay.json("images")[0]["names"]
        for words in (
            ["-perm", "-4000"],
            ["-size", "+1M"],
            ["-name", "*.so.*", "-type", "l"],
            ["-newer", root / "etc/debian_version", "-type", "f"],
        ):
            ours = [str(word).replace(str(root), "") for word in words]
            expected = run("find", root, *words, "-printf", r"/%P\n").splitlines()
            found = pyoverlay.ok("find", name, *ours).splitlines()
            assert sorted(found) == sorted(expected), words
        shown = run("ls", "-lnA", "--time-style=long-iso", root / "etc").splitlines()[1:]
    assert_same(mounted, packed)
    listed = pyoverlay.ok("ls", "-ln", f"{name}:/etc").splitlines()
    # But for directories, of which only a disk knows links and size.
    ours, theirs = (
        [line.split() for line in sorted(lines) if not line.startswith("d")]
        for lines in (listed, shown)
    )
    assert ours == theirs
