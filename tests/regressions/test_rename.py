"""Renaming, as other union file systems got it wrong."""

import shutil
from pathlib import Path

import pytest

from overlayfs.linux.files import RENAME_NOREPLACE
from tests.support.callers import outcome, rename
from tests.support.plain import as_plain_user
from tests.support.tree import assert_same, names, snapshot
from tests.support.union import Stack, is_whiteout, run, write


def test_files_of_a_lower_fuse_file_system_are_removed_and_moved(
    tmp_path: Path, needs_root: None, needs_fuse: None
) -> None:
    """On top of another FUSE file system, removing anything gave EXDEV.

    fuse-overlayfs #33.
    """
    below = Stack.make(tmp_path / "below")
    write(below.lower / "dir/file", "text")
    write(below.lower / "aaa", "text")
    with below.mounted() as lower:
        made = Stack.make(tmp_path / "stack")
        stack = Stack(made.base, (lower,))
        with stack.mounted() as mnt:
            (mnt / "aaa").unlink()
            (mnt / "dir/file").rename(mnt / "moved")
            (mnt / "dir").rmdir()
            assert names(mnt) == ["moved"]
            assert (mnt / "moved").read_text() == "text"
        with stack.mounted() as mnt:
            assert names(mnt) == ["moved"]
        assert names(lower) == ["aaa", "dir"]


def test_files_of_a_lower_overlay_of_the_kernel_are_removed_and_moved(
    tmp_path: Path, needs_kernel_overlay: None, needs_fuse: None
) -> None:
    """The same with the kernel's overlayfs below.  fuse-overlayfs #33."""
    below = Stack.make(tmp_path / "below")
    write(below.lower / "dir/file", "text")
    write(below.lower / "aaa", "text")
    with below.by_kernel() as lower:
        made = Stack.make(tmp_path / "stack")
        stack = Stack(made.base, (lower,))
        with stack.mounted() as mnt:
            (mnt / "aaa").unlink()
            (mnt / "dir/file").rename(mnt / "moved")
            assert names(mnt) == ["dir", "moved"]
        with stack.mounted() as mnt:
            assert names(mnt) == ["dir", "moved"]
            assert (mnt / "moved").read_text() == "text"
        assert names(lower) == ["aaa", "dir"]


def test_a_file_renamed_onto_the_name_of_a_removed_one(stack: Stack) -> None:
    """It ended the file system: the whiteout at the new name was taken for a file to copy up.

    fuse-overlayfs #69.
    """
    write(stack.lower / "compiled", "old")
    with stack.mounted() as mnt:
        (mnt / "compiled").unlink()
        write(mnt / "compiled.new", "new")
        (mnt / "compiled.new").rename(mnt / "compiled")
        assert (mnt / "compiled").read_text() == "new"
    with stack.mounted() as mnt:
        assert names(mnt) == ["compiled"]


def test_a_directory_renamed_onto_one_that_was_emptied(stack: Stack) -> None:
    """The whiteouts left in the old directory made the rename fail.

    fuse-overlayfs #189.
    """
    write(stack.lower / "old/a")
    write(stack.lower / "old/sub/b")
    with stack.mounted() as mnt:
        write(mnt / "new/c", "c")
        assert outcome(lambda: (mnt / "new").rename(mnt / "old")) == "ENOTEMPTY"
        run("rm", "-r", mnt / "old/a", mnt / "old/sub")
        (mnt / "new").rename(mnt / "old")
        assert names(mnt) == ["old"]
        assert names(mnt / "old") == ["c"]
    with stack.mounted() as mnt:
        assert names(mnt / "old") == ["c"]


def test_a_changed_copy_moved_to_where_the_directory_was_removed(stack: Stack) -> None:
    """It failed as if the removed directory were still there, until it was tried again.

    fuse-overlayfs #271.
    """
    write(stack.lower / "a/b/c", "c")
    write(stack.lower / "a/b/d", "d")
    with stack.mounted() as mnt:
        run("cp", "-r", mnt / "a", mnt / "bak")
        shutil.rmtree(mnt / "a")
        (mnt / "bak/b/c").rename(mnt / "bak/b/c2")
        rename(mnt / "bak", mnt / "a", RENAME_NOREPLACE)
        assert names(mnt / "a/b") == ["c2", "d"]
    with stack.mounted() as mnt:
        assert names(mnt) == ["a"]
        assert names(mnt / "a/b") == ["c2", "d"]


@pytest.mark.parametrize("flags", [0, RENAME_NOREPLACE], ids=["plain", "noreplace"])
def test_a_lower_file_moved_onto_the_name_of_a_removed_one(stack: Stack, flags: int) -> None:
    """`mv` asked whether to replace a file that was not there, and what it moved came back.

    fuse-overlayfs #273, #354.
    """
    write(stack.lower / "one", "one")
    write(stack.lower / "two", "two")
    with stack.mounted() as mnt:
        (mnt / "two").unlink()
        rename(mnt / "one", mnt / "two", flags)
        assert names(mnt) == ["two"]
    assert is_whiteout(stack.upper / "one")
    with stack.mounted() as mnt:
        assert names(mnt) == ["two"]
        assert (mnt / "two").read_text() == "one"


def test_a_partly_changed_directory_never_loses_its_lower_files(stack: Stack) -> None:
    """Renamed, it silently kept only the files that had been changed.

    unionfs-fuse #91.
    """
    for name in ("f1", "f2", "f3"):
        write(stack.lower / "dir" / name, name)
    with stack.mounted() as mnt:
        (mnt / "dir/f2").write_text("hello")
        before = snapshot(mnt / "dir")
        run("mv", mnt / "dir", mnt / "other")
        assert_same(before, snapshot(mnt / "other"))
    with stack.mounted() as mnt:
        assert names(mnt) == ["other"]
        assert names(mnt / "other") == ["f1", "f2", "f3"]


def test_a_name_of_a_file_renamed_onto_another_of_its_names(stack: Stack) -> None:
    """rename(2): two names of one file both stay; for that the numbers must be equal."""
    write(stack.lower / "one", "text")
    (stack.lower / "two").hardlink_to(stack.lower / "one")
    with stack.mounted() as mnt:
        (mnt / "one").rename(mnt / "two")
        assert names(mnt) == ["one", "two"]
        (mnt / "three").hardlink_to(mnt / "two")
        (mnt / "three").rename(mnt / "one")
        assert names(mnt) == ["one", "three", "two"]
        assert {path.stat().st_nlink for path in mnt.iterdir()} == {3}


def test_mv_of_a_plain_user_onto_a_removed_name_asks_nothing(
    tmp_path: Path, needs_root: None, needs_fuse: None
) -> None:
    """The whiteout's own mode was shown in a question.  fuse-overlayfs #273."""
    stack = Stack.make(tmp_path / "stack")
    said = as_plain_user(
        stack,
        """
        with mounted():
            os.chdir(mnt)
            (mnt / "a").touch()
            (mnt / "b").touch()
            (mnt / "a").chmod(0o006)
            subprocess.run(["mv", "a", "x"], check=True)
            done = subprocess.run(["mv", "b", "a"], capture_output=True, stdin=subprocess.DEVNULL)
            print(done.returncode, done.stderr.decode(), names(mnt))
            os.chdir("/")
        """,
    )
    assert said == "0  ['a', 'x']"
