"""Layers that fuse-overlayfs wrote, and what it reads of ours; its version 1 is meant."""

import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.tree import Tree, assert_same, names, snapshot
from tests.support.union import Stack, run, write

# Notes of its own, and what it does not show of those of others.
NOTES = (b"user.fuseoverlayfs.", b"security.fuseoverlayfs.", b"user.containers.", b"trusted.")

pytestmark = pytest.mark.usefixtures("needs_root", "needs_fuse")


@pytest.fixture
def stack(tmp_path: Path) -> Stack:
    """Directories as containers/storage has them, so that markers mean something."""
    base = tmp_path / "stack"
    for name in ("layer", "container"):
        write(base / name / "link", name)
        (base / name / "diff").mkdir()
    for name in ("work", "mnt"):
        (base / name).mkdir()
    (base / "upper").symlink_to("container/diff")
    lower = base / "layer/diff"
    for name in ("file", "gone", "dir/gone", "dir/stays", "again/old", "again/sub/old"):
        write(lower / name, name)
    (lower / "link").symlink_to("file")
    return Stack(base, (lower,))


@contextmanager
def by_fuse_overlayfs(stack: Stack, *options: str, read_only: bool = False) -> Iterator[Path]:
    """*stack* mounted by fuse-overlayfs."""
    chosen = [f"lowerdir={':'.join(str(lower) for lower in stack.lowers)}", *options]
    if not read_only:
        chosen += [f"upperdir={stack.upper}", f"workdir={stack.base}/its-work"]
        (stack.base / "its-work").mkdir(exist_ok=True)
    run("fuse-overlayfs", "-o", ",".join(chosen), stack.mountpoint)
    try:
        yield stack.mountpoint
    finally:
        run("umount", stack.mountpoint)


def change(mnt: Path) -> None:
    """Changes of what both keep with *xattr_permissions*: files and directories."""
    write(mnt / "new", "text")
    for name in ("new", "file"):
        (mnt / name).chmod(0o1711)
        os.chown(mnt / name, 1000, 2000)  # it forgets the owner with a later chmod
    os.link(mnt / "new", mnt / "hard")
    os.setxattr(mnt / "new", "user.note", b"1")
    (mnt / "dir").chmod(0o3751)
    os.chown(mnt / "dir", 5, 6)
    (mnt / "gone").unlink()
    (mnt / "dir/gone").unlink()
    shutil.rmtree(mnt / "again")
    write(mnt / "again/sub/new", "new")
    for path in (*mnt.rglob("*"), mnt):
        os.utime(path, ns=(1, 2), follow_symlinks=False)


def make_special(mnt: Path) -> None:
    """What fuse-overlayfs makes real beside *xattr_permissions=2*, so it belongs to root."""
    (mnt / "special").mkdir()
    (mnt / "special/link").symlink_to("target")
    os.mkfifo(mnt / "special/fifo", 0o755)
    os.mknod(mnt / "special/socket", stat.S_IFSOCK | 0o755)
    os.mknod(mnt / "special/char", stat.S_IFCHR | 0o755, os.makedev(300, 70000))
    os.mknod(mnt / "special/block", stat.S_IFBLK | 0o755, os.makedev(8, 1))


def comparable(root: Path) -> Tree:
    """A snapshot without notes; symbolic links that it copies up lose their times."""
    return {
        path: replace(each, mtime_ns=0) if each.kind == "symlink" else each
        for path, each in snapshot(root, ignore=NOTES).items()
    }


@pytest.mark.parametrize("kept", ["0", "1", "2"])
def test_what_it_wrote_is_shown_as_it_showed_it(stack: Stack, kept: str) -> None:
    """Without being told how it was written, and when told; and can be changed."""
    option = f"xattr_permissions={kept}"
    with by_fuse_overlayfs(stack, option) as mnt:
        if kept == "2":
            make_special(mnt)
        change(mnt)
        expected = comparable(mnt)
    if kept != "0":
        name = {"1": "security.fuseoverlayfs", "2": "user.fuseoverlayfs"}[kept]
        written = os.getxattr(stack.upper / "file", f"{name}.override_stat")
        assert written == b"1000:2000:101711"  # with the type in front of the permissions
    assert (stack.upper / "again/.wh..wh..opq").exists()
    with stack.mounted("ro") as mnt:
        assert_same(expected, comparable(mnt))
    for options in ((), (option,)):
        with stack.mounted(*options) as mnt:
            assert_same(expected, comparable(mnt))
            (mnt / "dir").chmod(0o3751)  # a change that changes nothing
    with stack.mounted() as mnt:
        shutil.rmtree(mnt / "again")
        os.utime(mnt, ns=(1, 2))
        rest = {path: each for path, each in expected.items() if not path.startswith(b"again")}
        assert_same(rest, comparable(mnt))
    assert not [path for path in stack.upper.rglob("*") if path.name.startswith(".wh.")]


def test_directories_that_it_made_opaque_stay_so_without_markers(tmp_path: Path) -> None:
    """It notes opacity as root even where it keeps owners as a plain user would."""
    stack = Stack.make(tmp_path / "stack")
    write(stack.lower / "dir/old")
    with by_fuse_overlayfs(stack, "xattr_permissions=2") as mnt:
        shutil.rmtree(mnt / "dir")
        (mnt / "dir").mkdir()
    (stack.upper / "dir/.wh..wh..opq").unlink()
    with stack.mounted() as mnt:
        assert "old" not in names(mnt / "dir")
        assert not (mnt / "dir/old").exists()


@pytest.mark.parametrize("kept", ["0", "1", "2"])
@pytest.mark.parametrize("where", ["upper", "lower"])
def test_what_we_wrote_is_shown_by_it(stack: Stack, kept: str, where: str) -> None:
    with stack.mounted(f"xattr_permissions={kept}") as mnt:
        change(mnt)
        os.chown(mnt, 0, 0)
        os.utime(mnt, ns=(1, 2))
        expected = comparable(mnt)
    if where == "upper":
        # Its own word for 2 has another name than the one that it recognises.
        option = (f"xattr_permissions={kept}",) if kept == "1" else ()
        with by_fuse_overlayfs(stack, *option) as mnt:
            assert_same(expected, comparable(mnt))
    else:
        both = Stack(stack.base, (stack.upper.resolve(), *stack.lowers))
        with by_fuse_overlayfs(both, read_only=True) as mnt:
            assert_same(expected, comparable(mnt))
