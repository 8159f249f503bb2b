"""Killed at any system call, a change has happened or it has not: there is no third state."""

import os
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from overlayfs.linux.files import RENAME_EXCHANGE
from overlayfs.union.attrs import Caller
from overlayfs.union.names import Format
from overlayfs.union.policy import PLAIN, Policy
from overlayfs.union.redirects import Redirects
from tests.support.live import Live, live
from tests.support.stepping import before_each_call
from tests.support.tree import snapshot
from tests.support.union import Stack, run, write

Shown = dict[str, tuple[object, ...]]
SOMEONE = Caller(1000, 1001)
OLD_NS = 1_234_567_890_123_456_789
# As setcap(8) writes it: cap_net_raw.
CAPABILITY = bytes.fromhex("0100000200200000000000000000000000000000")


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
    for folder in ("last", "half", "whole"):
        write(lower / folder / "one", folder)
        (lower / folder / "two").hardlink_to(lower / folder / "one")
    (lower / "empty").mkdir()
    write(lower / "gone", "gone")
    write(lower / "emptied/file", "gone")
    write(lower / "goner/file", "gone")
    for name in ("bare", "alias"):
        write(lower / "without" / name, "data" * 20)
    write(lower / "without/long", "data" * 10_000)
    write(lower / "listed/file", "listed")
    (lower / "listed/sub").mkdir()
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


# Directories with lower parts are renamed, and files change without their data.
IN_PLACE = Policy(redirects=Redirects.MAKE, metacopy=True)


def prepare_in_place(tree: Live) -> None:
    """What was changed before, by such a mount."""
    prepare(tree)
    tree.rename("listed", "went")
    for name in ("bare", "alias", "long"):
        tree.change(f"without/{name}", mode=0o4750)
        tree.set_xattr(f"without/{name}", b"security.capability", CAPABILITY)
    tree.link("without/alias", "new/alias")
    tree.change("hard/one", uid=5)


CHANGES_IN_PLACE: dict[str, Callable[[Live], object]] = {
    "move-lower": lambda t: t.rename("deep", "moved"),
    "move-merged": lambda t: t.rename("dir", "moved"),
    "move-into-lower": lambda t: t.rename("dir", "deep/er/dir"),
    "move-into-merged": lambda t: t.rename("deep", "dir/deep"),
    "move-into-new": lambda t: t.rename("dir", "new/sub/dir"),
    "move-over-whiteout": lambda t: t.rename("dir", "goner"),
    "move-over-emptied": lambda t: t.rename("dir", "emptied"),
    "move-over-lower": lambda t: t.rename("dir", "empty"),
    "move-over-new": lambda t: t.rename("deep", "own"),
    "move-again": lambda t: t.rename("went", "deep/went"),
    "move-back": lambda t: t.rename("went", "listed"),
    "exchange": lambda t: t.rename("dir", "deep", RENAME_EXCHANGE),
    "exchange-moved": lambda t: t.rename("went", "deep/er", RENAME_EXCHANGE),
    "exchange-with-new": lambda t: t.rename("dir", "new", RENAME_EXCHANGE),
    "exchange-with-file": lambda t: t.rename("dir", "deep/er/file", RENAME_EXCHANGE),
    "create-in-moved": lambda t: t.create("went/made", 0o640),
    "write-in-moved": lambda t: t.open("went/file", os.O_RDWR),
    "rmdir-moved": lambda t: t.rmdir("went/sub"),
    "chmod": lambda t: t.change("dir/file", mode=0o600),
    "chown-one-of-several": lambda t: t.change("far/two", uid=6),
    "rename-file": lambda t: t.rename("dir/file", "deep/er/moved"),
    "rename-bare": lambda t: t.rename("without/bare", "deep/er/moved"),
    "rename-over-bare": lambda t: t.rename("dir/file", "without/bare"),
    "exchange-bare": lambda t: t.rename("without/bare", "dir/file", RENAME_EXCHANGE),
    "link-bare": lambda t: t.link("without/bare", "deep/er/linked"),
    "unlink-bare": lambda t: t.unlink("without/bare"),
    "open-bare": lambda t: t.open("without/bare", os.O_RDWR),
    "open-long": lambda t: t.open("without/long", os.O_RDWR),
    "lengthen-bare": lambda t: t.change("without/bare", size=9999),
    "open-one-of-several": lambda t: t.open("hard/one", os.O_RDWR),
}
# A file with several names gets its data in place, as all of them are to have it.  What
# writing drops may be gone before it comes, or stay after the end was cut off.
DROPPED: dict[str, Callable[[Live], object]] = {
    "truncate-bare": lambda t: t.change("without/bare", size=2),
    "open-alias": lambda t: t.open("without/alias", os.O_RDWR),
    "truncate-alias": lambda t: t.change("new/alias", size=2),
}


# Names that are not touched stay out of the upper directory, and the index counts all.
INDEXED = Policy(index=True)


def prepare_indexed(tree: Live) -> None:
    """What was changed before, by such a mount."""
    prepare(tree)
    tree.unlink("last/one")
    tree.change("half/one", mode=0o600)


CHANGES_INDEXED: dict[str, Callable[[Live], object]] = {
    "open": lambda t: t.open("hard/one", os.O_RDWR),
    "open-the-far-one": lambda t: t.open("far/two", os.O_RDWR),
    "open-another": lambda t: t.open("half/two", os.O_RDWR),
    "truncate": lambda t: t.change("far/two", size=2),
    "chmod": lambda t: t.change("hard/near", mode=0o640),
    "unlink": lambda t: t.unlink("hard/one"),
    "unlink-copied": lambda t: t.unlink("half/one"),
    "unlink-another": lambda t: t.unlink("half/two"),
    "unlink-the-last": lambda t: t.unlink("last/two"),
    "rename": lambda t: t.rename("hard/one", "deep/er/moved"),
    "rename-another": lambda t: t.rename("half/two", "new/moved"),
    "rename-over-lower": lambda t: t.rename("far/two", "dir/other"),
    "rename-onto": lambda t: t.rename("dir/other", "whole/one"),
    "rename-onto-the-last": lambda t: t.rename("new/file", "last/two"),
    "rename-over-whiteout": lambda t: t.rename("half/two", "gone"),
    "exchange": lambda t: t.rename("whole/one", "dir/other", RENAME_EXCHANGE),
    "exchange-two": lambda t: t.rename("whole/one", "half/two", RENAME_EXCHANGE),
    "link": lambda t: t.link("hard/one", "new/linked"),
    "link-over-whiteout": lambda t: t.link("half/two", "gone"),
}


def copy(start: Stack, base: Path) -> Stack:
    """The same lower directory beneath a copy of what changes, hard links and times included."""
    base.mkdir()
    run("cp", "-a", start.upper, start.work, base)
    made = Stack(base, start.lowers, start.options)
    if UPPER_OF_INDEX in os.listxattr(made.work / "index"):
        os.removexattr(made.work / "index", UPPER_OF_INDEX)  # a copy is another directory
    return made


UPPER_OF_INDEX = "trusted.overlay.upper"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory, needs_root: None) -> dict[Format, Stack]:
    """The layers before each change."""
    stacks = {}
    for fmt in Format:
        stacks[fmt] = make(tmp_path_factory.mktemp("crash") / fmt)
        with live(stacks[fmt], fmt) as tree:
            prepare(tree)
    return stacks


@pytest.fixture(scope="module")
def prepared_in_place(
    tmp_path_factory: pytest.TempPathFactory, needs_root: None
) -> dict[Format, Stack]:
    """The layers before each change in place."""
    return {
        fmt: make_in_place(tmp_path_factory.mktemp("in-place") / fmt, fmt)
        for fmt in (Format.KERNEL, Format.USER)
    }


def make_in_place(base: Path, fmt: Format) -> Stack:
    """The layers before each change in place."""
    stack = replace(make(base), options=("redirect_dir=on", "metacopy=on"))
    with live(stack, fmt, policy=IN_PLACE) as tree:
        prepare_in_place(tree)
    return stack


@pytest.mark.parametrize("fmt", Format)
@pytest.mark.parametrize("change", CHANGES)
def test_a_change_has_happened_or_has_not(
    tmp_path: Path, prepared: dict[Format, Stack], change: str, fmt: Format
) -> None:
    check_each_step(tmp_path, prepared[fmt], fmt, CHANGES[change], PLAIN)


@pytest.mark.parametrize(
    ("change", "fmt"),
    [
        *((change, Format.KERNEL) for change in CHANGES_IN_PLACE),
        *((change, Format.USER) for change in ("move-merged", "exchange-moved", "chmod")),
        *((change, Format.USER) for change in ("rename-bare", "open-bare", "open-one-of-several")),
    ],
)
def test_a_change_in_place_has_happened_or_has_not(
    tmp_path: Path, prepared_in_place: dict[Format, Stack], change: str, fmt: Format
) -> None:
    check_each_step(tmp_path, prepared_in_place[fmt], fmt, CHANGES_IN_PLACE[change], IN_PLACE)


@pytest.fixture(scope="module")
def prepared_indexed(tmp_path_factory: pytest.TempPathFactory, needs_root: None) -> Stack:
    """The layers before each change with an index of the kernel's."""
    stack = make(tmp_path_factory.mktemp("indexed") / "stack")
    with live(stack, Format.KERNEL, policy=INDEXED) as tree:
        prepare_indexed(tree)
    assert (stack.upper / "half/one").exists()
    assert not (stack.upper / "half/two").exists()
    return stack


@pytest.mark.parametrize("change", CHANGES_INDEXED)
def test_a_change_with_an_index_has_happened_or_has_not(
    tmp_path: Path, prepared_indexed: Stack, change: str
) -> None:
    check_each_step(tmp_path, prepared_indexed, Format.KERNEL, CHANGES_INDEXED[change], INDEXED)


@pytest.mark.parametrize("change", DROPPED)
def test_data_that_comes_to_several_names_is_there_or_is_not(
    tmp_path: Path, prepared_in_place: dict[Format, Stack], change: str
) -> None:
    start = prepared_in_place[Format.KERNEL]
    check_each_step(tmp_path, start, Format.KERNEL, DROPPED[change], IN_PLACE, uncapable)


def uncapable(shown: Shown) -> Shown:
    """*shown* without capabilities."""

    def left(part: object) -> object:
        if not isinstance(part, dict):
            return part
        return {name: value for name, value in part.items() if name != b"security.capability"}

    return {path: tuple(left(part) for part in parts) for path, parts in shown.items()}


def check_each_step(
    tmp_path: Path,
    start: Stack,
    fmt: Format,
    act: Callable[[Live], object],
    policy: Policy,
    seen_as: Callable[[Shown], Shown] = lambda shown: shown,
) -> None:
    """Do *act* to a copy of *start*; before each system call there is the old tree or the new."""

    def looked(stack: Stack) -> Shown:
        return seen_as(look_again(stack, fmt, index=policy.index))

    before = looked(copy(start, tmp_path / "before"))
    with live(copy(start, tmp_path / "after"), fmt, caller=SOMEONE, policy=policy) as tree:
        act(tree)
    after = looked(Stack(tmp_path / "after", start.lowers))

    seen = set()
    stack = copy(start, tmp_path / "changing")
    with live(stack, fmt, caller=SOMEONE, policy=policy) as tree:
        tree.tree()  # everything is looked at before, as in a mount that is in use
        for _ in before_each_call(lambda: act(tree)):
            on_disk = repr([snapshot(each, ignore=()) for each in (stack.upper, stack.work)])
            if on_disk not in seen:
                seen.add(on_disk)
                crashed = copy(stack, tmp_path / f"crashed{len(seen)}")
                found = looked(crashed)
                assert found in (before, after), difference(before, after, found)
    assert found == after
    assert len(seen) > 1


def look_again(stack: Stack, fmt: Format, *, index: bool = False) -> Shown:
    """What the next mount finds; and what it does goes well."""
    policy = Policy(index=index)
    with live(stack, fmt, policy=policy) as tree:
        assert list((stack.work / "work").iterdir()) == []
        tree.tree()
        found = tree.tree()
    with live(stack, fmt, policy=policy) as tree:
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
