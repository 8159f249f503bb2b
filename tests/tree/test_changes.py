"""What an upper directory changes in the layers below it."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from overlayfs.layers.lower import Layer
from overlayfs.linux.files import RENAME_EXCHANGE
from overlayfs.tree.changes import changes
from overlayfs.tree.tree import Tree
from overlayfs.union.names import Format
from tests.support.callers import rename
from tests.support.tree import snapshot
from tests.support.union import Stack, opaque, run, whiteout, write


@pytest.fixture
def stack(tmp_path: Path, needs_root: None) -> Iterator[Stack]:
    """Two lower directories and an upper one."""
    made = Stack.make(tmp_path / "stack", lowers=2)
    yield made
    run("rm", "-rf", made.base)  # pytest removes a directory of directories by recursion


def told(stack: Stack) -> dict[str, str]:
    """Path and kind of each change, in the order they are told."""
    upper = Layer(stack.upper, Format.KERNEL, 0)
    layers = [Layer(path, Format.KERNEL, 2 - above) for above, path in enumerate(stack.lowers)]
    lower = Tree(layers, None)
    try:
        found = {each.path.decode(): str(each.kind) for each in changes(upper, lower)}
    finally:
        lower.close()
        for layer in (upper, *layers):
            layer.close()
    return found


def test_nothing_changed(stack: Stack) -> None:
    write(stack.lower / "dir/file")
    assert told(stack) == {}


def test_a_path_is_compared_with_every_layer_below(stack: Stack) -> None:
    top, base = stack.lowers
    write(base / "dir/of-base")
    write(top / "dir/of-top")
    write(base / "dir/hidden")
    whiteout(top / "dir/hidden")
    for name in ("of-base", "of-top", "hidden", "new"):
        write(stack.upper / "dir" / name)
    assert told(stack) == {
        "dir": "modified",
        "dir/hidden": "added",
        "dir/new": "added",
        "dir/of-base": "modified",
        "dir/of-top": "modified",
    }


def test_what_was_removed(stack: Stack) -> None:
    write(stack.lowers[1] / "dir/of-base")
    write(stack.lowers[1] / "gone/file")
    write(stack.lowers[0] / "dir/of-top")
    whiteout(stack.upper / "dir/of-base")
    whiteout(stack.upper / "gone")
    whiteout(stack.upper / "never-there")
    assert told(stack) == {"dir": "modified", "dir/of-base": "deleted", "gone": "deleted"}


def test_an_opaque_directory_removes_what_it_does_not_have(stack: Stack) -> None:
    write(stack.lower / "dir/kept")
    write(stack.lower / "dir/gone")
    write(opaque(stack.upper / "dir") / "kept")
    assert told(stack) == {"dir": "modified", "dir/gone": "deleted", "dir/kept": "modified"}


def test_a_directory_in_the_place_of_a_file_is_all_new(stack: Stack) -> None:
    write(stack.lower / "was-file")
    write(stack.lower / "was-dir/file")
    write(stack.upper / "was-file/file")
    write(stack.upper / "was-dir")
    assert told(stack) == {"was-dir": "modified", "was-file": "modified", "was-file/file": "added"}


def test_a_directory_is_told_before_what_is_in_it(stack: Stack) -> None:
    for name in ("b/c/d", "a", "b-", "b/a"):
        write(stack.upper / name)
    assert list(told(stack)) == ["a", "b", "b/a", "b/c", "b/c/d", "b-"]


def test_depth_has_no_limit(stack: Stack) -> None:
    path = "/".join("d" * 1200)
    run("mkdir", "-p", stack.upper / path)
    assert len(told(stack)) == 1200


def moved_to(path: Path, redirect: str) -> Path:
    """A directory of the upper layer that was moved there from *redirect*."""
    path.mkdir(parents=True)
    os.setxattr(path, "trusted.overlay.redirect", redirect.encode())
    return path


def test_all_that_a_moved_directory_shows_is_new_in_its_place(stack: Stack) -> None:
    top, base = stack.lowers
    write(base / "old/file")
    write(base / "old/sub/deep/file")
    write(base / "old/gone")
    write(top / "old/of-top")
    whiteout(stack.upper / "old")
    new = moved_to(stack.upper / "new", "/old")
    write(new / "made")
    whiteout(new / "gone")
    assert told(stack) == {
        "new": "added",
        "new/file": "added",
        "new/made": "added",
        "new/of-top": "added",
        "new/sub": "added",
        "new/sub/deep": "added",
        "new/sub/deep/file": "added",
        "old": "deleted",
    }


def test_a_moved_directory_in_the_place_of_another(stack: Stack) -> None:
    write(stack.lower / "a/same")
    write(stack.lower / "a/only-a")
    write(stack.lower / "a/sub/x")
    write(stack.lower / "b/same")
    write(stack.lower / "b/only-b")
    write(stack.lower / "b/sub/y")
    whiteout(stack.upper / "a")
    moved_to(stack.upper / "b", "a")
    assert told(stack) == {
        "a": "deleted",
        "b": "modified",
        "b/only-a": "added",
        "b/only-b": "deleted",
        "b/same": "modified",
        "b/sub": "modified",
        "b/sub/x": "added",
        "b/sub/y": "deleted",
    }


def test_a_directory_that_was_moved_and_is_back(stack: Stack) -> None:
    write(stack.lower / "dir/file")
    write(moved_to(stack.upper / "dir", "/dir") / "new")
    assert told(stack) == {"dir": "modified", "dir/new": "added"}


def test_directories_moved_into_and_out_of_a_moved_one(stack: Stack) -> None:
    write(stack.lower / "d/sub/file")
    write(stack.lower / "d/kept")
    write(stack.lower / "e/file")
    whiteout(stack.upper / "d")
    whiteout(stack.upper / "e")
    moved = moved_to(stack.upper / "m", "/d")
    whiteout(moved / "sub")
    moved_to(moved / "e", "/e")
    moved_to(stack.upper / "out", "/d/sub")
    moved_to(moved / "again", "sub")
    assert told(stack) == {
        "d": "deleted",
        "e": "deleted",
        "m": "added",
        "m/again": "added",
        "m/again/file": "added",
        "m/e": "added",
        "m/e/file": "added",
        "m/kept": "added",
        "out": "added",
        "out/file": "added",
    }


@pytest.mark.parametrize("redirect", ["/missing", "/../..", "a/b", "/file", "", "//"])
def test_a_redirect_that_leads_nowhere_shows_nothing(stack: Stack, redirect: str) -> None:
    write(stack.lower / "dir/file")
    write(stack.lower / "file")
    write(moved_to(stack.upper / "dir", redirect) / "new")
    assert told(stack) == {"dir": "modified", "dir/file": "deleted", "dir/new": "added"}


def test_what_is_opaque_or_written_anew_is_not_moved(stack: Stack) -> None:
    write(stack.lower / "dir/file")
    write(stack.lower / "other/file")
    opaque(moved_to(stack.upper / "new", "/dir"))
    opaque(stack.upper / "parent")
    moved_to(stack.upper / "parent/other", "other")  # a name where nothing is beside it
    assert told(stack) == {"new": "added", "parent": "added", "parent/other": "added"}


def test_changes_are_those_between_the_trees_that_show(stack: Stack, needs_fuse: None) -> None:
    """Made in a mount, with everything that the options allow."""
    for name in ("a/f", "a/sub/g", "b/f", "b/h", "c/f", "file", "other"):
        write(stack.lower / name, name * 100)
    before = snapshot(stack.lower)
    mounted = Stack(stack.base, stack.lowers, ("redirect_dir=on", "metacopy=on"))
    with mounted.mounted() as mnt:
        (mnt / "a").rename(mnt / "moved")
        rename(mnt / "moved/sub", mnt / "b", RENAME_EXCHANGE)
        (mnt / "c").rename(mnt / "moved/c")
        (mnt / "file").chmod(0o600)
        (mnt / "other").rename(mnt / "c")
        (mnt / "a").mkdir()
        after = snapshot(mnt)
    found = told(stack)
    added = {path.decode() for path in after.keys() - before.keys()}
    assert {path for path, kind in found.items() if kind == "added"} == added
    # What was in a directory that is none any more is not told.
    gone = {
        path.decode()
        for path in before.keys() - after.keys()
        if (above := after.get(os.path.dirname(path) or b".")) and above.kind == "dir"  # noqa: PTH120
    }
    assert {path for path, kind in found.items() if kind == "deleted"} == gone
    changed = {
        path.decode() for path in before.keys() & after.keys() if before[path] != after[path]
    }
    assert changed - {"."} <= {path for path, kind in found.items() if kind == "modified"}
    assert found["file"] == "modified"
