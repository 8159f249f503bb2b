"""Killed at any system call where names are hidden by attributes or by markers."""

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from overlayfs.linux.files import RENAME_EXCHANGE
from overlayfs.union.names import Format
from overlayfs.union.policy import Policy, WhiteoutKind
from tests.support.live import Live, live
from tests.support.stepping import before_each_call
from tests.support.tree import snapshot
from tests.support.union import Stack, run, write

Shown = dict[str, tuple[object, ...]]


def make(base: Path) -> Stack:
    stack = Stack.make(base)
    for name in (
        "dir/file",
        "dir/other",
        "dir/copied",
        "deep/file",
        "gone",
        "goner/file",
        "emptied/file",
    ):
        write(stack.lower / name, name)
    for name in ("empty", "hollow", "anew/sub"):
        (stack.lower / name).mkdir(parents=True)
    return stack


def prepare(tree: Live) -> None:
    """What was changed before."""
    for name in ("gone", "emptied/file", "goner/file"):
        tree.unlink(name)
    tree.rmdir("goner")
    tree.make("new", stat.S_IFDIR | 0o755)
    tree.create("new/file", 0o644, b"new")
    tree.make("hollow/sub", stat.S_IFDIR | 0o755)  # copies it up
    tree.rmdir("hollow/sub")
    tree.create("mine", 0o644, b"mine")
    tree.change("dir/copied", mode=0o600)
    tree.rmdir("anew/sub")
    tree.rmdir("anew")
    tree.make("anew", stat.S_IFDIR | 0o755)


CHANGES: dict[str, Callable[[Live], object]] = {
    "create-over-whiteout": lambda t: t.create("gone", 0o644),
    "mkdir-over-whiteout": lambda t: t.make("goner", stat.S_IFDIR | 0o755),
    "symlink-over-whiteout": lambda t: t.symlink("gone", b"target"),
    "link-over-whiteout": lambda t: t.link("dir/file", "gone"),
    "unlink-lower": lambda t: t.unlink("dir/file"),
    "unlink-copied": lambda t: t.unlink("dir/copied"),
    "rmdir-lower": lambda t: t.rmdir("empty"),
    "rmdir-copied": lambda t: t.rmdir("hollow"),
    "rmdir-emptied": lambda t: t.rmdir("emptied"),
    "rename-upper-over-lower": lambda t: t.rename("mine", "dir/file"),
    "rename-upper-over-whiteout": lambda t: t.rename("mine", "gone"),
    "rename-lower": lambda t: t.rename("dir/file", "deep/moved"),
    "rename-lower-over-lower": lambda t: t.rename("dir/file", "dir/other"),
    "rename-lower-over-whiteout": lambda t: t.rename("dir/file", "gone"),
    "rename-directory": lambda t: t.rename("new", "moved"),
    "rename-directory-over-whiteout": lambda t: t.rename("new", "goner"),
    "rename-directory-over-lower": lambda t: t.rename("new", "empty"),
    "rename-directory-over-copied": lambda t: t.rename("new", "hollow"),
    "rename-directory-over-emptied": lambda t: t.rename("new", "emptied"),
    "rename-directory-away-and-over": lambda t: t.rename("anew", "hollow"),
    "exchange": lambda t: t.rename("dir/file", "deep/file", RENAME_EXCHANGE),
    "exchange-file-and-directory": lambda t: t.rename("dir/file", "new", RENAME_EXCHANGE),
}
# No one rename(2) leaves an attribute behind: a moved file may be found under both names.
TWICE = {
    (WhiteoutKind.ATTRIBUTE, "rename-lower"): ("dir/file", "deep/moved"),
    (WhiteoutKind.ATTRIBUTE, "rename-lower-over-lower"): ("dir/file", "dir/other"),
}
# An empty directory that was to be replaced may be gone already.
GONE = {
    (WhiteoutKind.ATTRIBUTE, "rename-directory-away-and-over"): "hollow",
    (WhiteoutKind.MARKER, "rename-directory-over-emptied"): "emptied",
}


@pytest.mark.parametrize("kind", [WhiteoutKind.ATTRIBUTE, WhiteoutKind.MARKER])
@pytest.mark.parametrize("change", CHANGES)
def test_a_change_has_happened_or_has_not(
    tmp_path: Path, needs_root: None, change: str, kind: WhiteoutKind
) -> None:
    """But for what is said above."""
    policy, act = Policy(whiteouts=kind), CHANGES[change]
    start = make(tmp_path / "start")
    with live(start, Format.KERNEL, policy=policy) as tree:
        prepare(tree)
    before = looked(copy(start, tmp_path / "before"), policy)
    done = copy(start, tmp_path / "after")
    with live(done, Format.KERNEL, policy=policy) as tree:
        act(tree)
    after = looked(done, policy)
    allowed = [before, after]
    if (kind, change) in TWICE:
        old, new = TWICE[kind, change]
        allowed.append({**after, old: after[new]})
    if (kind, change) in GONE:
        allowed.append({path: each for path, each in before.items() if path != GONE[kind, change]})
    seen = set()
    stack = copy(start, tmp_path / "changing")
    found: list[Shown] = []
    with live(stack, Format.KERNEL, policy=policy) as tree:
        tree.tree()
        for _ in before_each_call(lambda: act(tree)):
            on_disk = repr([snapshot(each, ignore=()) for each in (stack.upper, stack.work)])
            if on_disk not in seen:
                seen.add(on_disk)
                found.append(looked(copy(stack, tmp_path / f"crashed{len(seen)}"), policy))
    assert [each for each in found if each not in allowed] == []
    assert found[0] == before
    assert found[-1] == after
    assert all(each in found for each in allowed), "what is said above does not happen"


def copy(start: Stack, base: Path) -> Stack:
    base.mkdir()
    run("cp", "-a", start.upper, start.work, base)
    return Stack(base, start.lowers)


def looked(stack: Stack, policy: Policy) -> Shown:
    """What the next mount finds, and what the one after it does."""
    with live(stack, Format.KERNEL, policy=policy) as tree:
        assert os.listdir(stack.work / "work") == []  # noqa: PTH208 - only names
        found = uncounted(tree.tree())
    with live(stack, Format.KERNEL, policy=policy) as tree:
        assert uncounted(tree.tree()) == found
    return found


def uncounted(shown: Shown) -> Shown:
    """*shown* without the numbers of links."""
    return {path: (*each[:6], *each[7:]) for path, each in shown.items()}
