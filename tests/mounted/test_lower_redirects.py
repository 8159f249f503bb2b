"""Upper directories that became lower ones: what they say of other places (redirect_dir=on)."""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.support.moves import SCENES, STEPS, act, make_scene, play
from tests.support.operations import timeless
from tests.support.tree import Tree, assert_same, names
from tests.support.union import Stack, opaque, whiteout, write

OPTIONS = ("redirect_dir=on", "metacopy=on")

Mounting = Callable[[Stack], AbstractContextManager[Path]]


@pytest.fixture
def stack(tmp_path: Path, needs_root: None, needs_fuse: None) -> Stack:
    """Three empty lower directories and an upper one, where places of all of them count."""
    return Stack.make(tmp_path / "stack", lowers=3, options=OPTIONS)


def redirect(path: Path, value: bytes) -> Path:
    """A directory that says that what is beneath it is elsewhere."""
    path.mkdir(parents=True, exist_ok=True)
    os.setxattr(path, "trusted.overlay.redirect", value)
    return path


def rotated(stack: Stack) -> Stack:
    """What is mounted with the upper directory of *stack* as its topmost lower one."""
    layer = stack.base / f"layer{len(stack.lowers)}"
    stack.upper.rename(layer)
    stack.upper.mkdir()
    return Stack(stack.base, (layer, *stack.lowers), stack.options)


def play_in_layers(base: Path, mount: Mounting) -> tuple[dict[str, object], Tree, Stack]:
    """All scenes with a new upper directory for each step, the last one made a layer too."""
    made = Stack.make(base, options=OPTIONS, lowers=2)
    for name in SCENES:
        make_scene(made.lowers[0] / name, made.lowers[1] / name)
    stack = made
    told: dict[str, object] = {}
    for step in STEPS:
        with mount(stack) as mnt:
            told |= play(mnt, step)
        stack = rotated(stack)
    with mount(stack) as mnt:
        return told, timeless(mnt), stack


def by_us(stack: Stack) -> AbstractContextManager[Path]:
    return stack.mounted()


def by_the_kernel(stack: Stack) -> AbstractContextManager[Path]:
    return stack.by_kernel()


def test_a_layer_for_each_step_ends_as_in_the_kernel(
    tmp_path: Path, needs_root: None, needs_fuse: None, needs_kernel_overlay: None
) -> None:
    expected, tree, kernels = play_in_layers(tmp_path / "kernel", by_the_kernel)
    told, live, ours = play_in_layers(tmp_path / "ours", by_us)
    assert told == expected
    assert_same(tree, live)
    with ours.by_kernel() as merged:
        assert_same(tree, timeless(merged))
    with kernels.mounted() as mnt:
        assert_same(tree, timeless(mnt))
    with kernels.mounted(read_only=True) as mnt:
        assert_same(tree, timeless(mnt))


def make_chain(stack: Stack) -> None:
    """A directory that each layer has somewhere else."""
    top, middle, base = stack.lowers
    write(base / "a/file", "base")
    write(base / "a/sub/file", "base sub")
    whiteout(middle / "a")
    write(redirect(middle / "b", b"/a") / "of-middle", "middle")
    whiteout(top / "b")
    write(redirect(top / "c/d", b"/b") / "of-top", "top")
    (top / "c/d/sub").mkdir()


def test_a_chain_of_places(stack: Stack, needs_kernel_overlay: None) -> None:
    make_chain(stack)
    with stack.by_kernel(read_only=True) as merged:
        expected = timeless(merged)
    with stack.mounted() as mnt:
        assert_same(expected, timeless(mnt))
        assert names(mnt / "c/d") == ["file", "of-middle", "of-top", "sub"]
        assert (mnt / "c/d/sub/file").read_text() == "base sub"
        (mnt / "c").rename(mnt / "e")
        (mnt / "e/d/sub").rename(mnt / "sub")
        (mnt / "e/d/file").write_text("changed")
        os.chown(mnt / "sub/file", 5, 6)
        assert (mnt / "sub/file").read_text() == "base sub"
        live = timeless(mnt)
    with stack.mounted() as mnt:
        assert_same(live, timeless(mnt))
    with stack.by_kernel() as merged:
        assert_same(live, timeless(merged))


def test_numbers_are_the_same_at_every_mount_and_none_is_there_twice(stack: Stack) -> None:
    make_chain(stack)

    def numbers(mnt: Path) -> dict[str, int]:
        return {str(path.relative_to(mnt)): path.lstat().st_ino for path in mnt.rglob("*")}

    with stack.mounted() as mnt:
        first = numbers(mnt)
    with stack.mounted() as mnt:
        assert numbers(mnt) == first
    assert len(set(first.values())) == len(first) > 5


@pytest.mark.parametrize("value", [b"..", b"/../etc", b"/", b"a/b", b"", b"/a//b"])
def test_a_path_that_is_none_keeps_nobody_from_the_rest(stack: Stack, value: bytes) -> None:
    write(stack.lower / "a/b/file")
    redirect(stack.lowers[0] / "lies", value)
    with stack.mounted() as mnt:
        assert names(mnt) == ["a", "lies"]
        assert act(mnt, "list lies") == "EINVAL"


def test_places_are_those_of_the_layers_beneath(stack: Stack, needs_kernel_overlay: None) -> None:
    """Not of that layer itself, nor of one above, nor outside of them."""
    top, middle, base = stack.lowers
    write(top / "of-top/file")
    write(middle / "of-middle/file")
    write(opaque(middle / "masked") / "file")
    write(base / "masked/hidden")
    for value in (b"of-top", b"of-middle", b"etc", b"masked", b"missing", b"masked/hidden"):
        redirect(middle / f"to-{value.decode().replace('/', '-')}", b"/" + value)
    redirect(top / "masked-too", b"/masked")
    with stack.mounted() as mnt:
        tree = timeless(mnt)
        told = {path.name: names(path) for path in sorted(mnt.glob("*-*")) if path.is_dir()}
    assert told == {
        "masked-too": ["file"],
        "of-middle": ["file"],
        "of-top": ["file"],
        "to-etc": [],
        "to-masked": ["hidden"],
        "to-masked-hidden": [],
        "to-missing": [],
        "to-of-middle": [],
        "to-of-top": [],
    }
    with stack.by_kernel() as merged:
        assert_same(tree, timeless(merged))


def test_data_that_is_in_a_layer_beneath(stack: Stack) -> None:
    """A layer has the attributes, the next one the data; a change brings both together."""
    data = os.urandom(300_000)
    write(stack.lower / "dir/file", data)
    write(stack.lower / "dir/other", data)
    layers = stack
    for uid in (5, 6, 7):
        with layers.mounted() as mnt:
            os.chown(mnt / "dir/file", uid, uid)
            (mnt / "dir").rename(mnt / f"dir{uid}")
            (mnt / f"dir{uid}").rename(mnt / "dir")
        layers = rotated(layers)
        assert (layers.lowers[0] / "dir/file").stat().st_blocks < 100
    with layers.mounted(read_only=True) as mnt:
        assert (mnt / "dir/file").read_bytes() == data
        assert (mnt / "dir/file").stat().st_uid == 7
        assert (mnt / "dir/file").stat().st_blocks >= 500
    with layers.mounted() as mnt, (mnt / "dir/file").open("rb") as before:
        (mnt / "dir/file").rename(mnt / "moved")
        assert (mnt / "moved").read_bytes() == data
        with (mnt / "moved").open("r+b") as file:
            file.write(b"changed")
        assert before.read() == b"changed" + data[7:]
    with layers.by_kernel() as merged:
        assert (merged / "moved").read_bytes() == b"changed" + data[7:]
        assert (merged / "dir/other").read_bytes() == data


@pytest.mark.parametrize("option", ["redirect_dir=off", "redirect_dir=nofollow"])
def test_without_the_option_nothing_in_a_lower_layer_counts(stack: Stack, option: str) -> None:
    make_chain(stack)
    plain = Stack(stack.base, stack.lowers)
    with plain.mounted(option) as mnt:
        assert names(mnt / "c/d") == ["of-top", "sub"]
        assert names(mnt / "c/d/sub") == []


def test_follow_is_enough(stack: Stack) -> None:
    make_chain(stack)
    with Stack(stack.base, stack.lowers, ("redirect_dir=follow",)).mounted() as mnt:
        assert names(mnt / "c/d") == ["file", "of-middle", "of-top", "sub"]
        assert act(mnt, "mv c/d elsewhere") == "EXDEV"
