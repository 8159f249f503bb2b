"""The format without privilege: what the disk cannot have is written beside it."""

import os
import stat
from pathlib import Path

import pytest

from tests.support.tree import assert_same, snapshot
from tests.support.union import Stack, is_whiteout, run, write


@pytest.fixture
def user_stack(tmp_path: Path, needs_root: None, needs_fuse: None) -> Stack:
    """Two lower directories, an upper one, and no privilege used on any."""
    return Stack.make(tmp_path / "stack", lowers=2, options=("xattr_permissions=2",))


def test_chown_of_a_link_leaves_the_times_of_its_directory(user_stack: Stack) -> None:
    (user_stack.lower / "dir").mkdir()
    (user_stack.lower / "dir/link").symlink_to("x")
    os.utime(user_stack.lower / "dir", ns=(1, 2))
    with user_stack.mounted() as mnt:
        os.chown(mnt / "dir/link", 5, 6, follow_symlinks=False)
    with user_stack.mounted() as mnt:
        assert (mnt / "dir").stat().st_mtime_ns == 2


def test_chown_of_a_link_with_two_names(user_stack: Stack) -> None:
    with user_stack.mounted() as mnt:
        (mnt / "one").symlink_to("x")
        os.link(mnt / "one", mnt / "two", follow_symlinks=False)
        os.chown(mnt / "one", 5, 6, follow_symlinks=False)
        assert (mnt / "two").lstat().st_uid == 5
    with user_stack.mounted() as mnt:
        one, two = (mnt / "one").lstat(), (mnt / "two").lstat()
        assert (two.st_uid, two.st_ino, two.st_nlink) == (5, one.st_ino, 2)


def test_number_of_a_link_on_the_inode_of_a_removed_one_that_was_given_away(
    user_stack: Stack,
) -> None:
    with user_stack.mounted() as mnt:
        (mnt / "dir").mkdir()
        held = []
        on_disk = number = 0
        while number & (1 << 48) - 1 == on_disk:
            (mnt / "old").symlink_to("x")
            held.append(os.open(mnt / "old", os.O_PATH | os.O_NOFOLLOW))
            (mnt / "old").unlink()
            (mnt / "dir/new").unlink(missing_ok=True)
            (mnt / "dir/new").symlink_to("x")
            on_disk = (user_stack.upper / "dir/new").lstat().st_ino
            number = (mnt / "dir/new").lstat().st_ino
        os.chown(mnt / "dir/new", 5, 6, follow_symlinks=False)
        for fd in held:
            os.close(fd)
        for _ in range(2):
            assert (mnt / "dir/new").lstat().st_ino == number
            Path("/proc/sys/vm/drop_caches").write_text("2")
        assert (mnt / "dir/new").lstat().st_ino == number
        assert (mnt / "dir/new").lstat().st_uid == 5


def test_number_of_a_link_that_was_given_away(user_stack: Stack) -> None:
    (user_stack.lower / "link").symlink_to("x")
    with user_stack.mounted() as mnt:
        before = (mnt / "link").lstat().st_ino
        os.chown(mnt / "link", 5, 6, follow_symlinks=False)
    with user_stack.mounted() as mnt:
        assert (mnt / "link").lstat().st_ino == before


def make_everything(mnt: Path) -> None:
    write(mnt / "file", "text", mode=0o640)
    os.chown(mnt / "file", 1000, 2000)
    (mnt / "file").chmod(0o6755)
    os.setxattr(mnt / "file", "user.note", b"\0")
    os.setxattr(mnt / "file", "trusted.note", b"t")
    os.setxattr(mnt / "file", "trusted.overlay.opaque", b"y")
    os.setxattr(mnt / "file", "user.overlay.opaque", b"y")
    os.setxattr(mnt / "file", "user.containers.override_stat", b"0:0:0777:dir")
    (mnt / "dir").mkdir()
    os.chown(mnt / "dir", 5, 6)
    (mnt / "dir").chmod(0o3751)
    for name, target in (("link", "x"), ("foreign", "y" * 1000)):
        (mnt / name).symlink_to(target)
    os.chown(mnt / "foreign", 5, 6, follow_symlinks=False)
    os.mkfifo(mnt / "fifo", 0o620)
    os.mknod(mnt / "socket", stat.S_IFSOCK | 0o700)
    os.mknod(mnt / "char", stat.S_IFCHR | 0o666, os.makedev(300, 70000))
    os.mknod(mnt / "block", stat.S_IFBLK | 0o600, os.makedev(8, 1))
    os.chown(mnt / "block", 0, 6)
    run("setfacl", "-m", "u:5:rw", mnt / "file")
    run("setfacl", "-d", "-m", "g:6:rx", mnt / "dir")
    for path in mnt.iterdir():
        os.utime(path, ns=(1, 2), follow_symlinks=False)


def test_everything_comes_back_at_the_next_mount(user_stack: Stack) -> None:
    plain = user_stack.base / "plain"
    plain.mkdir()
    make_everything(plain)
    expected = snapshot(plain, ignore=())
    with user_stack.mounted() as mnt:
        os.utime(mnt, ns=(1, 2))
        make_everything(mnt)
        live = snapshot(mnt, ignore=())
    del expected[b"."], live[b"."]
    assert_same(expected, live)
    with user_stack.mounted() as mnt:
        again = snapshot(mnt, ignore=())
        del again[b"."]
        assert_same(expected, again)


def test_nothing_on_the_disk_needs_privilege(user_stack: Stack) -> None:
    write(user_stack.lower / "gone")
    with user_stack.mounted() as mnt:
        make_everything(mnt)
        (mnt / "gone").unlink()
    for path in user_stack.upper.rglob("*"):
        found = path.lstat()
        assert (found.st_uid, found.st_gid) == (0, 0)
        assert stat.S_IMODE(found.st_mode) in (0o600, 0o700) or path.name in ("link", "gone")
        assert is_whiteout(path) or not stat.S_ISCHR(found.st_mode)
        assert all(name.startswith("user.") for name in os.listxattr(path, follow_symlinks=False))
