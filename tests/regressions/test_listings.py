"""Listings that other union file systems got wrong."""

import os
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from overlayfs.union.names import Format
from tests.support.live import Live, live
from tests.support.tree import assert_same, names, snapshot
from tests.support.union import Stack, opaque, run, write


def listed(folder: Path) -> dict[str, tuple[int, str]]:
    """Number and kind of each name, from the listing alone."""
    found = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            kind = "dir" if entry.is_dir(follow_symlinks=False) else "file"
            kind = "link" if entry.is_symlink() else kind
            found[entry.name] = (entry.inode(), kind)
    return found


@contextmanager
def bound(source: Path, target: Path) -> Iterator[None]:
    run("mount", "--bind", source, target)
    try:
        yield
    finally:
        run("umount", target)


def test_a_directory_bound_into_its_layer_twice_is_there_twice(stack: Stack) -> None:
    """Of two directories with one inode number, one was missing.

    fuse-overlayfs #359, #437.
    """
    lower = stack.lower
    write(lower / "a/b/file", "text")
    (lower / "b").mkdir()
    with bound(lower / "a/b", lower / "b"), stack.mounted() as mnt:
        assert names(mnt) == ["a", "b"]
        assert (mnt / "a/b/file").read_text() == (mnt / "b/file").read_text() == "text"
        assert names(mnt / "b") == names(mnt / "a/b") == ["file"]
        # They are two directories here: a change of one is not one of the other.
        write(mnt / "b/new")
        assert names(mnt / "a/b") == ["file"]
        (mnt / "a/b/file").unlink()
        assert names(mnt / "b") == ["file", "new"]
    with bound(lower / "a/b", lower / "b"), stack.mounted() as mnt:
        assert names(mnt / "b") == ["file", "new"]
        assert names(mnt / "a/b") == []


def test_layers_with_equal_numbers_are_not_mixed_up(
    tmp_path: Path, needs_root: None, needs_fuse: None
) -> None:
    """A file of one layer was taken for the directory with that number in another.

    fuse-overlayfs #112 (which ended it), #376 (entries and kinds of the other layer).
    """
    stack = Stack.make(tmp_path / "stack", lowers=2)
    top, base = stack.lowers
    for layer in stack.lowers:
        run("mount", "-t", "tmpfs", "none", layer)
    try:
        # A fresh tmpfs counts from 1: the numbers of both layers are the same.
        write(top / "a/b/c/file", "top")
        write(top / "a/b/c/other", "top")
        for name in ("x", "y", "z", "w"):
            write(base / name / "base")
        with stack.mounted() as mnt:
            assert names(mnt) == ["a", "w", "x", "y", "z"]
            assert {name: kind for name, (_, kind) in listed(mnt / "a/b/c").items()} == {
                "file": "file",
                "other": "file",
            }
            numbers = {path.lstat().st_ino for path in mnt.rglob("*")}
            assert len(numbers) == 5 + 2 + 2 + 4
    finally:
        for layer in stack.lowers:
            run("umount", layer)


def test_numbers_in_a_listing_are_those_of_what_shows(stack: Stack) -> None:
    """A link over a hard-linked file had that file's number, and so its neighbour's.

    fuse-overlayfs #391.
    """
    top, base = stack.lowers
    write(base / "bin/busybox", "old")
    (base / "bin/arch").hardlink_to(base / "bin/busybox")
    write(top / "bin/busybox", "new")
    (top / "bin/arch").symlink_to("busybox")
    with stack.mounted() as mnt:
        shown = listed(mnt / "bin")
        assert {name: kind for name, (_, kind) in shown.items()} == {
            "busybox": "file",
            "arch": "link",
        }
        for name, (number, _) in shown.items():
            assert number == (mnt / "bin" / name).lstat().st_ino
        assert shown["busybox"][0] != shown["arch"][0]
        assert (mnt / "bin/busybox").stat().st_nlink == 1


def lines_run(act: Callable[[], object]) -> int:
    """How many lines of Python *act* runs."""
    count = 0

    def tracer(_frame: FrameType, event: str, _arg: object) -> Any:
        nonlocal count
        count += event == "line"
        return tracer

    before = sys.gettrace()
    sys.settrace(tracer)
    try:
        act()
    finally:
        sys.settrace(before)
    return count


def test_a_huge_directory_costs_no_more_than_a_small_one(tmp_path: Path, needs_root: None) -> None:
    """With ten thousand files in it, each change read the directory again.

    fuse-overlayfs #360.  Counted in lines of Python, which a busy machine makes no slower;
    whoever reads a directory does so by a loop.
    """
    stack = Stack.make(tmp_path / "stack")
    for folder, count in (("small", 10), ("huge", 3000)):
        for number in range(count):
            write(stack.lower / folder / f"lower{number}")
    steps: dict[str, Callable[[Live, str], object]] = {
        "create": lambda tree, top: tree.create(f"{top}/new", 0o644),
        "rename": lambda tree, top: tree.rename(f"{top}/lower1", f"{top}/moved"),
        "unlink": lambda tree, top: tree.unlink(f"{top}/lower2"),
        "unlink new": lambda tree, top: tree.unlink(f"{top}/new"),
        "create again": lambda tree, top: tree.create(f"{top}/lower2", 0o644),
        "look up": lambda tree, top: tree.node(f"{top}/lower5"),
        "stat": lambda tree, top: tree.fs.tree.attrs(tree.node(top)),
    }
    with live(stack, Format.KERNEL) as tree:
        for top in ("small", "huge"):
            tree.node(f"{top}/lower1")
            tree.create(f"{top}/first", 0o644)  # the directory is copied up
        for name, step in steps.items():
            lines = {top: lines_run(partial(step, tree, top)) for top in ("small", "huge")}
            assert lines["small"] == lines["huge"] > 0, name


def test_a_listing_shows_no_name_of_the_union_itself(stack: Stack) -> None:
    """Markers of the format showed in listings.

    fuse-overlayfs writes `.wh..wh..opq` where the kernel, reading its layers, shows it.
    """
    write(stack.lower / "dir/old")
    write(stack.lower / "gone")
    with stack.mounted() as mnt:
        run("rm", "-r", mnt / "dir", mnt / "gone")
        (mnt / "dir").mkdir()
        assert run("ls", "-A", mnt).split() == ["dir"]
        assert run("ls", "-A", mnt / "dir").split() == []
        live_tree = snapshot(mnt)
    assert names(stack.upper) == ["dir", "gone"]
    assert stat.S_ISCHR((stack.upper / "gone").lstat().st_mode)
    assert names(stack.upper / "dir") == []
    with stack.by_kernel() as merged:
        assert_same(live_tree, snapshot(merged))


def test_whiteouts_of_lower_layers_are_not_listed(stack: Stack) -> None:
    """A whiteout beneath an opaque directory was listed and could not be found."""
    top, base = stack.lowers
    write(base / "dir/a")
    os.mknod(opaque(top / "dir") / "a", stat.S_IFCHR, 0)
    write(top / "dir/b")
    with stack.mounted() as mnt:
        assert names(mnt / "dir") == ["b"]
        (mnt / "dir/b").unlink()
        (mnt / "dir").rmdir()
        assert names(mnt) == []
