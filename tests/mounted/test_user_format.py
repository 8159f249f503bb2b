"""USER format: a symbolic link given to somebody (chown) becomes a placeholder file."""

import os
from pathlib import Path
import pytest
from tests.support.union import Stack, run, write


@pytest.fixture
def user_stack(tmp_path: Path, needs_root: None, needs_fuse: None) -> Stack:
    return Stack.make(tmp_path / "stack", lowers=2, options=("userxattr",))


def test_chown_of_a_link_leaves_the_times_of_its_directory(user_stack: Stack) -> None:
    (user_stack.lower / "dir").mkdir()
    (user_stack.lower / "dir/link").symlink_to("x")
    os.utime(user_stack.lower / "dir", ns=(1, 2))
    with user_stack.mounted() as mnt:
        os.chown(mnt / "dir/link", 5, 6, follow_symlinks=False)
        run("stat", mnt / "dir/link")
    with user_stack.mounted() as mnt:
        assert (mnt / "dir").stat().st_mtime_ns == 2


def test_chown_of_a_link_with_two_names(user_stack: Stack) -> None:
    with user_stack.mounted() as mnt:
        (mnt / "one").symlink_to("x")
        os.link(mnt / "one", mnt / "two", follow_symlinks=False)
        os.chown(mnt / "one", 5, 6, follow_symlinks=False)
        assert (mnt / "two").lstat().st_uid == 5
    with user_stack.mounted() as mnt:
        assert (mnt / "two").lstat().st_uid == 5
        assert (mnt / "two").lstat().st_ino == (mnt / "one").lstat().st_ino
        assert (mnt / "one").lstat().st_nlink == 2


def test_number_of_a_link_that_was_given_away(user_stack: Stack) -> None:
    (user_stack.lower / "link").symlink_to("x")
    with user_stack.mounted() as mnt:
        before = (mnt / "link").lstat().st_ino
        os.chown(mnt / "link", 5, 6, follow_symlinks=False)
    with user_stack.mounted() as mnt:
        assert (mnt / "link").lstat().st_ino == before
