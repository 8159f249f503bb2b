"""What an upper directory changes in the layers below it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from overlayfs.layers.lower import Layer
from overlayfs.tree.changes import changes
from overlayfs.tree.tree import Tree
from overlayfs.union.names import Format
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
