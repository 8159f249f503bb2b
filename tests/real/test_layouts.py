"""Every layout that real tools write shows the tree that the kernel and umoci show."""

import dataclasses
import os
import subprocess
from pathlib import Path

import pytest

from tests.support.command import PyOverlay, kernel_mounted
from tests.support.images import LAYOUTS, Workshop, copied
from tests.support.tree import Tree, assert_same, snapshot

pytestmark = pytest.mark.usefixtures("needs_root", "needs_fuse", "needs_kernel_overlay")


def as_unpacked(tree: Tree) -> Tree:
    """*tree*, from umoci, with the one thing that it loses.

    GNU tar says ``SCHILY.xattr.user.empty=``, an attribute without a value; the tar reader of
    umoci takes no value for no attribute.
    """
    acl = tree[b"acl"]
    return tree | {b"acl": dataclasses.replace(acl, xattrs={**acl.xattrs, b"user.empty": b""})}


@pytest.mark.parametrize("form", LAYOUTS)
def test_mounted_tree_is_the_one_of_the_kernel_and_of_umoci(
    form: str,
    shop: Workshop,
    layout: Path,
    umoci_trees: dict[str, Tree],
    pyoverlay: PyOverlay,
    tmp_path: Path,
) -> None:
    name = "dense" if form.endswith("podman") else "rich"
    source = copied(shop, f"oci:{layout}:{name}", form, tmp_path / "image")
    with pyoverlay.mounted(source, tmp_path / "root", "--read-only") as root:
        ours = snapshot(root)
    with kernel_mounted(pyoverlay.layer_paths(), tmp_path) as root:
        assert_same(snapshot(root), ours)
    assert_same(as_unpacked(umoci_trees[name]), ours)


def test_kernel_shows_our_upper_layer_as_we_do(
    layout: Path, pyoverlay: PyOverlay, tmp_path: Path
) -> None:
    upper = tmp_path / "upper"
    with pyoverlay.mounted(f"{layout}:rich", tmp_path / "root", "--upper", upper) as root:
        with (root / "etc/passwd").open("a") as file:
            file.write("a line more\n")
        (root / "kept/deep/file").unlink()
        (root / "opaque/alone").rename(root / "kept/moved")
        (root / "opaque").rmdir()
        (root / "opaque").mkdir()
        (root / "by-umoci").rmdir()
        (root / "acl").chmod(0o600)
        (root / "sparse-link").write_bytes(b"no longer sparse")
        os.setxattr(root / "owned", "user.new", b"1")
        (root / "new").symlink_to("etc")
        os.mknod(root / "device", 0o020600, os.makedev(5, 1))
        ours = snapshot(root)
    with kernel_mounted([*pyoverlay.layer_paths(), upper], tmp_path) as root:
        kernels = snapshot(root)
    # Of two linked lower files one was written: here both names show it, as on any other file
    # system; the kernel breaks the link (overlayfs.rst, "Non-standard behavior").
    linked = {b"sparse", b"sparse-link"}
    assert_same(
        {path: entry for path, entry in kernels.items() if path not in linked},
        {path: entry for path, entry in ours.items() if path not in linked},
    )
    assert ours[b"sparse-link"].size == len(b"no longer sparse")


def test_lower_layers_and_names_are_read_by_skopeo_and_umoci(
    layout: Path, umoci_trees: dict[str, Tree], pyoverlay: PyOverlay, tmp_path: Path
) -> None:
    with pyoverlay.mounted(f"{layout}:rich", tmp_path / "root", "--read-only"):
        pass
    (name,) = pyoverlay.json("images")[0]["names"]
    stored = f"{pyoverlay.store}:{name}"
    for command in (
        ["skopeo", "inspect", f"oci:{stored}"],
        ["skopeo", "copy", f"oci:{stored}", f"docker-archive:{tmp_path}/copy"],
        ["umoci", "unpack", "--image", stored, f"{tmp_path}/bundle"],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    assert_same(umoci_trees["rich"], snapshot(tmp_path / "bundle/rootfs"))


def test_a_session_in_busybox(layout: Path, pyoverlay: PyOverlay, tmp_path: Path) -> None:
    with pyoverlay.mounted(f"{layout}:rich", tmp_path / "root") as root:
        done = subprocess.run(
            ["chroot", root, "/bin/sh", "-ec", "id -u; echo new > /etc/new; cat /etc/new; ls /"],
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(b"0\nnew\n")
        changes = pyoverlay.json("diff", root)
    assert {(change["kind"], change["path"]) for change in changes} == {
        ("modified", "/etc"),
        ("added", "/etc/new"),
    }
