"""SIGKILL, before each system call of a change: the next mount finds the tree before or after.

``test_crash`` looks at the disk while the process stands still; here it is really gone, with
its locks and open files, and the kernel's overlayfs looks at what it left as well.
"""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from overlayfs.union.names import Format
from overlayfs.union.policy import PLAIN, Policy
from tests.support.live import Live, live
from tests.support.stepping import killed
from tests.support.tree import Tree, assert_same, snapshot
from tests.support.union import Stack
from tests.tree.test_crash import (
    CHANGES,
    CHANGES_IN_PLACE,
    IN_PLACE,
    SOMEONE,
    copy,
    difference,
    look_again,
    make,
    make_in_place,
    prepare,
)

# One of each kind; test_crash has all.
KINDS = [
    "open-for-writing",
    "open-one-of-several",
    "chmod-fifo",
    "create-over-whiteout",
    "mkdir-over-whiteout",
    "symlink-over-whiteout",
    "link-over-whiteout",
    "link",
    "unlink-lower",
    "unlink-one-of-several",
    "rmdir-lower",
    "rename-lower",
    "rename-over-lower",
    "rename-directory-over-whiteout",
    "rename-directory-over-emptied",
    "exchange-files",
    "exchange-file-and-directory",
]
KINDS_IN_PLACE = ["move-merged", "move-over-emptied", "exchange", "rename-bare", "open-bare"]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory, needs_root: None) -> dict[Format, Stack]:
    """The layers before each change."""
    stacks = {}
    for fmt in (Format.KERNEL, Format.USER):
        stacks[fmt] = make(tmp_path_factory.mktemp("killed") / fmt)
        with live(stacks[fmt], fmt) as tree:
            prepare(tree)
    return stacks


class Serving:
    """The process that is killed: it has the tree, and everything in it was looked at."""

    def __init__(self, stack: Stack, fmt: Format, policy: Policy) -> None:
        self._live = live(stack, fmt, caller=SOMEONE, policy=policy)
        self._open = ExitStack()

    def begin(self) -> None:
        self.tree: Live = self._open.enter_context(self._live)
        self.tree.tree()


@pytest.mark.parametrize("fmt", [Format.KERNEL, Format.USER])
@pytest.mark.parametrize("change", KINDS)
def test_after_a_kill_at_any_step_each_file_is_old_or_new(
    tmp_path: Path,
    prepared: dict[Format, Stack],
    needs_kernel_overlay: None,
    change: str,
    fmt: Format,
) -> None:
    check_each_kill(tmp_path, prepared[fmt], fmt, CHANGES[change], PLAIN)


@pytest.fixture(scope="module")
def prepared_in_place(tmp_path_factory: pytest.TempPathFactory, needs_root: None) -> Stack:
    """The layers before each change in place, with all names of linked files met.

    For the kernel's overlayfs does not know them.
    """
    stack = make_in_place(tmp_path_factory.mktemp("killed") / "in-place", Format.KERNEL)
    with live(stack, Format.KERNEL) as tree:
        tree.tree()
    return stack


@pytest.mark.parametrize("change", KINDS_IN_PLACE)
def test_after_a_kill_amid_a_change_in_place_each_file_is_old_or_new(
    tmp_path: Path, prepared_in_place: Stack, needs_kernel_overlay: None, change: str
) -> None:
    act = CHANGES_IN_PLACE[change]
    check_each_kill(tmp_path, prepared_in_place, Format.KERNEL, act, IN_PLACE)


def check_each_kill(
    tmp_path: Path, start: Stack, fmt: Format, act: Callable[[Live], object], policy: Policy
) -> None:
    """Kill *act* before each system call; there is the old tree then, or the new one."""
    before = look_again(copy(start, tmp_path / "before"), fmt)
    ended = copy(start, tmp_path / "after")
    whole = Serving(ended, fmt, policy)
    assert not killed(whole.begin, lambda: act(whole.tree), 10_000)
    names = {*snapshot(start.upper), *snapshot(ended.upper)}
    legal = [
        by_kernel(copy(each, tmp_path / f"kernel-{each.base.name}")) for each in (start, ended)
    ]
    after = look_again(ended, fmt)
    lower = snapshot(start.lower, ignore=())

    seen = set()
    call, going = 0, True
    while going:
        crashed = copy(start, tmp_path / f"crashed{call}")
        serving = Serving(crashed, fmt, policy)
        going = killed(serving.begin, lambda serving=serving: act(serving.tree), call)
        on_disk = repr([snapshot(each, ignore=()) for each in (crashed.upper, crashed.work)])
        if on_disk not in seen:
            seen.add(on_disk)
            strange = snapshot(crashed.upper).keys() - names
            assert not strange, f"before call {call}: {strange}"
            if fmt is Format.KERNEL:
                assert by_kernel(copy(crashed, tmp_path / f"kernel{call}")) in legal
            found = look_again(crashed, fmt)
            assert found in (before, after), difference(before, after, found)
        call += 1
    assert found == after
    assert len(seen) > 1
    assert_same(lower, snapshot(start.lower, ignore=()))


def by_kernel(stack: Stack) -> Tree:
    """What the kernel's overlayfs finds in *stack*, but for times, which follow the clock.

    It does not know which lower names are one file when one of them was copied up.
    """
    with stack.by_kernel() as merged:
        return {
            path: replace(entry, mtime_ns=0, nlink=0, same_as=b"")
            for path, entry in snapshot(merged).items()
        }
