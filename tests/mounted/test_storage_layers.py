"""Layers as containers/storage keeps them: ``ID/diff`` with ``link`` beside it, markers inside."""

import os
from pathlib import Path

import pytest

from tests.support.tree import names
from tests.support.union import Stack, write

pytestmark = pytest.mark.usefixtures("needs_root", "needs_fuse")

OVERRIDE = "user.containers.override_stat"


def storage(base: Path, *options: str, link: bool = True) -> Stack:
    """Two layers and what a container needs."""
    layers = tuple(base / name / "diff" for name in ("top", "bottom"))
    for layer in layers:
        layer.mkdir(parents=True)
        if link:
            write(layer.parent / "link", "SHORT")
    for name in ("upper", "work", "mnt"):
        (base / name).mkdir()
    top, bottom = layers
    for name in ("gone", "dir/old", "opaque/old", "again/old", "both/old"):
        write(bottom / name, name)
    write(top / ".wh.gone")
    write(top / "dir/.wh.old")
    write(top / "opaque/.wh..wh..opq")
    write(top / "opaque/new")
    write(top / ".wh.again")
    write(top / "again/new")
    return Stack(base, layers, options)


@pytest.mark.parametrize("option", ["", "userxattr", "xattr_permissions=1", "xattr_permissions=2"])
def test_markers_hide_in_every_format(tmp_path: Path, option: str) -> None:
    stack = storage(tmp_path, *filter(None, [option]))
    for _ in range(2):
        with stack.mounted() as mnt:
            assert names(mnt) == ["again", "both", "dir", "opaque"]
            assert [names(mnt / name) for name in names(mnt)] == [["new"], ["old"], [], ["new"]]
            assert not (mnt / "gone").exists()
            assert not (mnt / "dir/.wh.old").exists()
            assert not (mnt / "opaque/old").exists()


def test_markers_are_names_in_other_directories(tmp_path: Path) -> None:
    with storage(tmp_path, link=False).mounted() as mnt:
        assert names(mnt) == [".wh.again", ".wh.gone", "again", "both", "dir", "gone", "opaque"]
        assert names(mnt / "opaque") == [".wh..wh..opq", "new", "old"]


def test_owners_beside_the_files_are_shown_where_the_root_has_one(tmp_path: Path) -> None:
    """Podman's ``force_mask`` names no type; the layer above has real owners."""
    stack = storage(tmp_path)
    top, bottom = stack.lowers
    os.setxattr(bottom, OVERRIDE, b"0:0:0755")
    os.setxattr(bottom / "both", OVERRIDE, b"7:8:0750")
    os.setxattr(bottom / "both/old", OVERRIDE, b"5:6:04711")
    os.chown(top / "opaque/new", 3, 4)
    with stack.mounted() as mnt:
        shown = [(mnt / name).stat() for name in ("both", "both/old", "opaque/new")]
        assert [(each.st_uid, each.st_gid) for each in shown] == [(7, 8), (5, 6), (3, 4)]
        assert [each.st_mode & 0o7777 for each in shown] == [0o750, 0o4711, 0o644]
