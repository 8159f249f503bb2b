"""Layers as containers/storage keeps them: ``ID/diff`` with ``link`` beside it, markers inside."""

import os
import shutil
from pathlib import Path

import pytest

from overlayfs.linux.files import RENAME_EXCHANGE
from tests.support.callers import outcome, rename
from tests.support.tree import names
from tests.support.union import Stack, opaque, whiteout, write

pytestmark = pytest.mark.usefixtures("needs_root", "needs_fuse")

OVERRIDE = "user.containers.override_stat"


def storage(base: Path, *options: str, link: bool = True) -> Stack:
    """Two layers and what a container needs."""
    stack = Stack.of_storage(base, options=options)
    top, bottom = stack.lowers
    if not link:
        for layer in stack.lowers:
            (layer.parent / "link").unlink()
    for name in ("gone", "dir/old", "opaque/old", "again/old", "both/old"):
        write(bottom / name, name)
    write(top / ".wh.gone")
    write(top / "dir/.wh.old")
    write(top / "opaque/.wh..wh..opq")
    write(top / "opaque/new")
    write(top / ".wh.again")
    write(top / "again/new")
    return stack


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


# -- a container's own directory -----------------------------------------------------------


@pytest.fixture
def taken_over(tmp_path: Path) -> Stack:
    """A container that fuse-overlayfs, or a crash, left with markers of all sorts."""
    stack = storage(tmp_path)
    upper = stack.upper
    upper.rmdir()
    write(tmp_path / "container/link", "SHORT")
    (tmp_path / "container/diff").mkdir()
    upper.symlink_to("container/diff")
    write(upper / ".wh.again")
    write(upper / "both/.wh.old")
    write(upper / "dir/new")
    write(upper / ".wh.dir")
    opaque(upper / "opaque")
    write(upper / "opaque/.wh..wh..opq")
    whiteout(upper / "opaque/.wh..opq")
    write(upper / "opaque/.wh.new")
    write(upper / ".wh..wh.plnk/1.2")
    write(upper / ".wh.hidden/below")
    write(upper / "hidden", "shown")
    for path in (*sorted(upper.rglob("*"), reverse=True), upper.resolve()):
        os.utime(path, ns=(1, 2))
    return stack


def everything(mnt: Path) -> list[str]:
    return sorted(str(path.relative_to(mnt)) for path in mnt.rglob("*"))


def test_markers_in_a_container_are_taken_over(
    taken_over: Stack, needs_kernel_overlay: None
) -> None:
    """They become whiteouts that the kernel knows as well, and no time says so."""
    stack = taken_over
    expected = ["both", "dir", "dir/new", "hidden", "opaque"]
    with stack.mounted("ro") as mnt:
        assert everything(mnt) == expected
        assert not [path for path in expected if path.startswith(".wh.")]
    for _ in range(2):
        with stack.mounted() as mnt:
            assert everything(mnt) == expected
            for name in (".wh.again", ".wh..wh.plnk", "opaque/.wh..wh..opq", "opaque/.wh.new"):
                assert not (mnt / name).exists()
            assert {path.stat().st_mtime_ns for path in (mnt, *mnt.rglob("*"))} == {2}
    marks = {path.relative_to(stack.upper) for path in stack.upper.rglob(".wh.*")}
    assert marks == {Path(".wh..wh.plnk"), Path(".wh.hidden")}  # they have something in them
    for mark in marks:
        shutil.rmtree(stack.upper / mark)
    # On the layer without markers, of which one had hidden a file.
    with Stack(stack.base, (stack.lowers[1],)).by_kernel() as merged:
        assert everything(merged) == sorted([*expected, "gone"])


def test_a_directory_with_markers_can_be_removed(taken_over: Stack) -> None:
    upper = taken_over.upper
    write(upper / "opaque/.wh.somebodys/file")
    with taken_over.mounted() as mnt:
        (mnt / "opaque").rmdir()
        (mnt / "both").rmdir()
        assert everything(mnt) == ["dir", "dir/new", "hidden"]
    assert names(taken_over.work / "work") == []


def test_markers_cannot_be_made_in_a_container(taken_over: Stack) -> None:
    acts = {
        "create": lambda path: path.touch(),
        "mkdir": lambda path: path.mkdir(),
        "mkfifo": os.mkfifo,
        "symlink": lambda path: path.symlink_to("x"),
        "link": lambda path: path.hardlink_to(path.parent / "file"),
        "rename": lambda path: (path.parent / "file").rename(path),
        "exchange": lambda path: rename(path.parent / "file", path, RENAME_EXCHANGE),
    }
    with taken_over.mounted() as mnt:
        write(mnt / "dir/file", "text")
        for name in (".wh.x", ".wh..wh..opq", ".wh..wh.x", ".wh."):
            for what, act in acts.items():
                expected = "ENOENT" if what == "exchange" else "EINVAL"
                assert outcome(lambda act=act, name=name: act(mnt / "dir" / name)) == expected, what
            assert outcome((mnt / "dir" / name).unlink) == "ENOENT"
        assert names(mnt / "dir") == ["file", "new"]
        for name in (".wh", ".whx", "a.wh.b", ".WH.x"):
            write(mnt / "dir" / name)
            (mnt / "dir" / name).unlink()
    # A user's own directory as the upper one: `podman run -v HOST:/x:O`
    (taken_over.base / "container/link").unlink()
    with taken_over.mounted() as mnt:
        write(mnt / "dir/.wh.new", "text")
        assert names(mnt / "dir") == [".wh.new", "file", "new"]
