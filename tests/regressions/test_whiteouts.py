"""Whiteouts and opaque directories that other union file systems got wrong."""

import itertools
import os
import shutil
from pathlib import Path

import pytest

from tests.support.tree import assert_same, names, snapshot
from tests.support.union import Stack, is_whiteout, opaque, run, whiteout, write


def everything(folder: Path) -> list[str]:
    """All paths below *folder*."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.parametrize("how", ["whiteout", "opaque"])
@pytest.mark.parametrize("first", ["list", "stat"])
def test_a_directory_made_anew_shows_nothing_of_the_old_one_at_any_depth(
    tmp_path: Path, needs_root: None, needs_fuse: None, how: str, first: str
) -> None:
    """Files of a removed directory came back below a subdirectory of its successor.

    fuse-overlayfs #136 (removed in one layer, made in the next), #138 (opaque).
    """
    stack = Stack.make(tmp_path / "stack", lowers=3)
    top, middle, base = stack.lowers
    write(base / "dir1/dir2/foo")
    if how == "whiteout":
        whiteout(middle / "dir1")
        (top / "dir1/dir2").mkdir(parents=True)
    else:
        (opaque(middle / "dir1") / "dir2").mkdir()
    for read_only in (True, False):
        with stack.mounted(read_only=read_only) as mnt:
            if first == "list":
                assert everything(mnt) == ["dir1", "dir1/dir2"]
            assert not (mnt / "dir1/dir2/foo").exists()
            assert names(mnt / "dir1/dir2") == []


def test_a_whiteout_hides_one_path_and_not_a_name_everywhere(stack: Stack) -> None:
    """A whiteout in the root hid the files of that name in all directories.

    fuse-overlayfs #151.
    """
    write(stack.lower / "test")
    write(stack.lower / "dir/test")
    with stack.mounted() as mnt:
        (mnt / "test").unlink()
        write(mnt / "other/test")
        expected = ["dir", "dir/test", "other", "other/test"]
        assert everything(mnt) == expected
    with stack.mounted() as mnt:
        assert (mnt / "dir/test").exists()
        assert (mnt / "other/test").exists()
        assert everything(mnt) == expected


def test_a_link_where_a_file_was_moved_away(stack: Stack) -> None:
    """A symbolic link in the place of a file that was moved was gone at the next mount.

    fuse-overlayfs #279.
    """
    write(stack.lower / "a.txt")
    with stack.mounted() as mnt:
        (mnt / "a.txt").rename(mnt / "a2.txt")
        (mnt / "a3.txt").touch()
        (mnt / "a.txt").symlink_to("a3.txt")
    assert everything(stack.upper) == ["a.txt", "a2.txt", "a3.txt"]
    with stack.mounted() as mnt:
        assert names(mnt) == ["a.txt", "a2.txt", "a3.txt"]
        assert (mnt / "a.txt").readlink() == Path("a3.txt")


def test_the_kernel_reads_what_was_moved_out_of_an_opaque_directory(
    stack: Stack, needs_kernel_overlay: None
) -> None:
    """A whiteout in an opaque directory, which the kernel lists and cannot find.

    fuse-overlayfs #306, #309.
    """
    (stack.lower / "a/b").mkdir(parents=True)
    with stack.mounted() as mnt:
        shutil.rmtree(mnt / "a")
        (mnt / "a/b").mkdir(parents=True)
        (mnt / "a/b").rename(mnt / "b")
        live = snapshot(mnt)
    assert everything(stack.upper) == ["a", "b"]
    with stack.by_kernel() as merged:
        assert_same(live, snapshot(merged))
        run("ls", "-lR", merged)


def test_names_that_only_the_upper_layer_had_leave_no_whiteout(stack: Stack) -> None:
    """Each `sed -i` left a whiteout of its temporary file, so no two builds were equal.

    fuse-overlayfs #327.
    """
    write(stack.lower / "of-lower", "old\n")
    with stack.mounted() as mnt:
        write(mnt / "new", "old\n")
        write(mnt / "dir/new", "old\n")
        for name in ("new", "dir/new", "of-lower"):
            run("sed", "-i", "s/old/new/", mnt / name)
        (mnt / "dir").rename(mnt / "moved")
        assert (mnt / "of-lower").read_text() == "new\n"
    assert everything(stack.upper) == ["moved", "moved/new", "new", "of-lower"]


ORDERS = list(
    itertools.permutations(["setuptools", "setuptools/__pycache__", "setuptools/__pycache__/lower"])
)


@pytest.mark.parametrize("order", ORDERS, ids=lambda order: "-".join(str(len(o)) for o in order))
def test_opacity_reaches_below_whatever_is_looked_up_first(
    stack: Stack, order: tuple[str, ...]
) -> None:
    """Below an opaque directory, old files showed after some orders of lookups.

    fuse-overlayfs #425.
    """
    top, base = stack.lowers
    write(base / "site/setuptools/__pycache__/lower")
    write(opaque(top / "site/setuptools") / "__pycache__/upper")
    with stack.mounted(read_only=True) as mnt:
        for path in order:
            assert (mnt / "site" / path).exists() == (not path.endswith("lower"))
        assert names(mnt / "site/setuptools/__pycache__") == ["upper"]


def test_a_directory_removed_and_made_again_is_empty_for_stat_too(stack: Stack) -> None:
    """What a listing did not show could still be found by name.

    fuse-overlayfs #324, #478 (and then `rmdir` said that the directory was not empty).
    """
    write(stack.lower / "parent/tree/a/b/info")
    write(stack.lower / "parent/tree/a/b/page")
    with stack.mounted() as mnt:
        tree = mnt / "parent/tree"
        for _ in range(2):
            shutil.rmtree(tree)
            (tree / "a/b").mkdir(parents=True)
            assert not (tree / "a/b/info").exists()
            assert everything(tree) == ["a", "a/b"]
        for path in ("a/b", "a"):
            (tree / path).rmdir()
        tree.rmdir()
        assert names(mnt / "parent") == []


def test_a_copy_in_the_place_of_a_moved_directory(stack: Stack) -> None:
    """`cp` could not make a file that it was told not to exist.

    fuse-overlayfs #444.
    """
    write(stack.lower / "base/test1/file", "text")
    with stack.mounted() as mnt:
        run("mv", mnt / "base/test1", mnt / "base/tmp")
        run("cp", "-r", mnt / "base/tmp", mnt / "base/test1")
        assert (mnt / "base/test1/file").read_text() == "text"
    with stack.mounted() as mnt:
        assert everything(mnt) == [
            "base",
            "base/test1",
            "base/test1/file",
            "base/tmp",
            "base/tmp/file",
        ]


@pytest.mark.parametrize("length", [251, 252, 253, 254, 255])
def test_the_longest_names_can_be_removed_moved_and_made(stack: Stack, length: int) -> None:
    """Names had to leave room for a prefix, or a removed file came back without an error.

    fuse-overlayfs #236, unionfs-fuse #27.
    """
    kept, gone, moved = ((letter * length) for letter in "kgm")
    for name in (kept, gone, moved):
        write(stack.lower / name, name)
    (stack.lower / ("d" * length)).mkdir()
    with stack.mounted() as mnt:
        (mnt / gone).unlink()
        (mnt / ("d" * length)).rmdir()
        (mnt / moved).rename(mnt / ("n" * length))
        (mnt / ("l" * length)).hardlink_to(mnt / kept)
        (mnt / ("s" * length)).symlink_to("x")
        (mnt / ("f" * length)).mkdir()
        expected = sorted(letter * length for letter in "fklns")
        assert names(mnt) == expected
        assert os.statvfs(mnt).f_namemax == 255
    assert is_whiteout(stack.upper / gone)
    with stack.mounted() as mnt:
        assert names(mnt) == expected


def test_a_union_in_a_union_hides_what_is_removed(stack: Stack, needs_kernel_overlay: None) -> None:
    """Where no character device 0:0 can be made, nothing could be removed.

    fuse-overlayfs #17 (made the name reappear), #326 (images could not be unpacked inside).
    """
    with stack.mounted() as outer:
        inner = Stack.make(outer / "inner")
        write(inner.lower / "dir/a", "a")
        write(inner.lower / "dir/b", "b")
        write(inner.lower / "old/file", "old")
        write(inner.lower / "gone", "gone")
        with inner.mounted() as mnt:
            (mnt / "gone").unlink()
            (mnt / "dir/a").unlink()
            (mnt / "dir/b").rename(mnt / "moved")
            shutil.rmtree(mnt / "old")
            (mnt / "old").mkdir()
            write(mnt / "dir/a", "again")
            expected = ["dir", "dir/a", "moved", "old"]
            assert everything(mnt) == expected
            live = snapshot(mnt)
        with inner.mounted() as mnt:
            assert_same(live, snapshot(mnt))
        # The kernel reads them as a lower layer, as it cannot write there either.
        lowers = f"{inner.upper}:{inner.lower}"
        merged = stack.base / "merged"
        merged.mkdir()
        run("mount", "-t", "overlay", "overlay", "-o", f"lowerdir={lowers}", merged)
        try:
            assert everything(merged) == expected
            assert (merged / "moved").read_text() == "b"
        finally:
            run("umount", merged)
