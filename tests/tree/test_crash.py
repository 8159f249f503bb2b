"""Killed at any system call, a change has happened or it has not: there is no third state."""

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from overlayfs.linux.files import RENAME_EXCHANGE
from overlayfs.union.attrs import Caller
from overlayfs.union.names import Format
from tests.support.live import Live, live
from tests.support.stepping import before_each_call
from tests.support.tree import snapshot
from tests.support.union import Stack, run, write

Shown = dict[str, tuple[object, ...]]
SOMEONE = Caller(1000, 1001)
OLD_NS = 1_234_567_890_123_456_789


def make(base: Path) -> Stack:
    """Layers with something for every change to bite on."""
    stack = Stack.make(base)
    lower = stack.lower
    write(lower / "dir/file", "lower", mode=0o4750)
    os.setxattr(lower / "dir/file", "user.note", b"v")
    os.utime(lower / "dir/file", ns=(OLD_NS, OLD_NS))
    write(lower / "dir/other", "other")
    write(lower / "deep/er/file", "deep")
    (lower / "deep/er").chmod(0o3751)
    (lower / "link").symlink_to("dir/file")
    os.mkfifo(lower / "fifo", 0o640)
    write(lower / "hard/one", "hard")
    (lower / "far").mkdir()
    (lower / "far/two").hardlink_to(lower / "hard/one")
    (lower / "hard/near").hardlink_to(lower / "hard/one")
    (lower / "empty").mkdir()
    write(lower / "gone", "gone")
    write(lower / "emptied/file", "gone")
    write(lower / "goner/file", "gone")
    (lower / "listed").mkdir()
    (lower / "listed").chmod(0o2777)
    os.chown(lower / "listed", 0, 7)
    (lower / "listed").chmod(0o2777)
    return stack


def prepare(tree: Live) -> None:
    """What was changed before, in the upper layer."""
    tree.unlink("gone")
    tree.unlink("emptied/file")
    tree.change("emptied", mode=0o1751, uid=5, gid=6)
    tree.set_xattr("emptied", b"user.note", b"v")
    tree.unlink("goner/file")
    tree.rmdir("goner")
    tree.make("new", stat.S_IFDIR | 0o755)
    tree.create("new/file", 0o644, b"new")
    tree.make("new/sub", stat.S_IFDIR | 0o755)
    tree.make("own", stat.S_IFDIR | 0o755)
    tree.create("dir/mine", 0o600, b"mine")


CHANGES: dict[str, Callable[[Live], object]] = {
    "create": lambda t: t.create("dir/made", 0o644),
    "create-suid": lambda t: t.create("dir/made", 0o6711),
    "create-in-setgid": lambda t: t.create("listed/made", 0o640),
    "create-over-whiteout": lambda t: t.create("gone", 0o644),
    "mkdir": lambda t: t.make("deep/er/made", stat.S_IFDIR | 0o750),
    "mkdir-sticky": lambda t: t.make("made", stat.S_IFDIR | 0o1777),
    "mkdir-in-setgid": lambda t: t.make("listed/made", stat.S_IFDIR | 0o755),
    "mkdir-over-whiteout": lambda t: t.make("goner", stat.S_IFDIR | 0o755),
    "mknod": lambda t: t.make("dir/made", stat.S_IFCHR | 0o620, rdev=os.makedev(4, 5)),
    "mkfifo": lambda t: t.make("dir/made", stat.S_IFIFO | 0o620),
    "symlink": lambda t: t.symlink("dir/made", b"target"),
    "symlink-over-whiteout": lambda t: t.symlink("gone", b"target"),
    "link": lambda t: t.link("dir/file", "deep/made"),
    "link-over-whiteout": lambda t: t.link("dir/file", "gone"),
    "link-of-a-symlink": lambda t: t.link("link", "made"),
    "unlink-lower": lambda t: t.unlink("dir/file"),
    "unlink-upper": lambda t: t.unlink("new/file"),
    "unlink-one-of-several": lambda t: t.unlink("hard/one"),
    "rmdir-lower": lambda t: t.rmdir("empty"),
    "rmdir-upper": lambda t: t.rmdir("own"),
    "rename-lower": lambda t: t.rename("dir/file", "deep/er/moved"),
    "rename-over-lower": lambda t: t.rename("dir/file", "dir/other"),
    "rename-over-whiteout": lambda t: t.rename("dir/file", "gone"),
    "rename-upper": lambda t: t.rename("new/file", "dir/other"),
    "rename-symlink": lambda t: t.rename("link", "moved"),
    "rename-directory": lambda t: t.rename("new", "moved"),
    "rename-directory-over-lower": lambda t: t.rename("new", "empty"),
    "rename-directory-over-whiteout": lambda t: t.rename("new", "gone"),
    "rename-directory-over-upper": lambda t: t.rename("new", "own"),
    "rename-directory-over-emptied": lambda t: t.rename("new", "emptied"),
    "exchange-files": lambda t: t.rename("dir/file", "deep/er/file", RENAME_EXCHANGE),
    "exchange-file-and-directory": lambda t: t.rename("dir/file", "new", RENAME_EXCHANGE),
    "chmod": lambda t: t.change("dir/file", mode=0o600),
    "chmod-directory": lambda t: t.change("deep/er", mode=0o700),
    "chmod-fifo": lambda t: t.change("fifo", mode=0o600),
    "truncate": lambda t: t.change("dir/file", size=2),
    "setxattr": lambda t: t.set_xattr("dir/file", b"user.new", b"v"),
    "removexattr": lambda t: t.remove_xattr("dir/file", b"user.note"),
    "open-for-writing": lambda t: t.open("dir/file", os.O_RDWR),
    "open-one-of-several": lambda t: t.open("hard/one", os.O_RDWR),
    "open-the-far-one": lambda t: t.open("far/two", os.O_RDWR),
}


def copy(start: Stack, base: Path) -> Stack:
    """The same lower directory beneath a copy of what changes, hard links and times included."""
    base.mkdir()
    run("cp", "-a", start.upper, start.work, base)
    return Stack(base, start.lowers)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory, needs_root: None) -> dict[Format, Stack]:
    """The layers before each change."""
    stacks = {}
    for fmt in Format:
        stacks[fmt] = make(tmp_path_factory.mktemp("crash") / fmt)
        with live(stacks[fmt], fmt) as tree:
            prepare(tree)
    return stacks


@pytest.mark.parametrize("fmt", Format)
@pytest.mark.parametrize("change", CHANGES)
def test_a_change_has_happened_or_has_not(
    tmp_path: Path, prepared: dict[Format, Stack], change: str, fmt: Format
) -> None:
    act = CHANGES[change]
    start = prepared[fmt]
    before = look_again(copy(start, tmp_path / "before"), fmt)
    with live(copy(start, tmp_path / "after"), fmt, caller=SOMEONE) as tree:
        act(tree)
    after = look_again(Stack(tmp_path / "after", start.lowers), fmt)

    seen = set()
    stack = copy(start, tmp_path / "changing")
    with live(stack, fmt, caller=SOMEONE) as tree:
        tree.tree()  # everything is looked at before, as in a mount that is in use
        for _ in before_each_call(lambda: act(tree)):
            on_disk = repr([snapshot(each, ignore=()) for each in (stack.upper, stack.work)])
            if on_disk not in seen:
                seen.add(on_disk)
                crashed = copy(stack, tmp_path / f"crashed{len(seen)}")
                found = look_again(crashed, fmt)
                assert found in (before, after), difference(before, after, found)
    assert found == after
    assert len(seen) > 1


def look_again(stack: Stack, fmt: Format) -> Shown:
    """What the next mount finds; and what it does goes well."""
    with live(stack, fmt) as tree:
        assert list((stack.work / "work").iterdir()) == []
        tree.tree()
        found = tree.tree()
    with live(stack, fmt) as tree:
        # A write through any name of the hard-linked file shows through the others.
        names = [name for name in ("far/two", "hard/one", "hard/near") if name in found]
        for name in names:
            tree.write(name, name.encode(), flags=os.O_WRONLY | os.O_TRUNC)
            assert {tree.read(each) for each in names} == {name.encode()}
    return found


def difference(*trees: Shown) -> str:
    """Before, after and found, of the paths where found is neither."""
    before, after, found = trees
    return "\n".join(
        f"{path}: before {before.get(path)}, after {after.get(path)}, found {found.get(path)}"
        for path in sorted({*before, *after, *found})
        if found.get(path) not in (before.get(path), after.get(path))
        or (before.get(path) != after.get(path))
    )
