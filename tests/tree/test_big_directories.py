"""A change in a directory costs the same, however many names are in it."""

import os
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from statistics import median_low
from types import FrameType

import pytest

from overlayfs.linux.files import RENAME_EXCHANGE
from overlayfs.union.names import Format
from tests.support.live import Live, live
from tests.support.union import Stack

FEW, MANY = 60, 6000
# So often each change is made.  Half of the times are for dictionaries that grow: each time
# that they have doubled, they are copied.
TIMES = 9
# A copy of the names alone would take eight bytes for each.
MORE = 4 * (MANY - FEW)

Changes = dict[str, Callable[[str], None]]


def changes(tree: Live) -> Changes:
    """What is done in a directory, to names that end in a number; each can build on the last."""
    return {
        "create": lambda at: tree.create(f"{at}-new", 0o644),
        "rename": lambda at: tree.rename(f"{at}-new", f"{at}-moved"),
        "link": lambda at: tree.link(f"{at}-moved", f"{at}-link"),
        "symlink": lambda at: tree.symlink(f"{at}-symlink", b"target"),
        "mkdir": lambda at: tree.make(f"{at}-dir", 0o040755),
        "exchange": lambda at: tree.rename(f"{at}-dir", f"{at}-moved", RENAME_EXCHANGE),
        "rmdir": lambda at: tree.rmdir(f"{at}-moved"),
        "unlink": lambda at: tree.unlink(f"{at}-link"),
        "rename one that was there": lambda at: tree.rename(at, f"{at}-now"),
        "create where one was": lambda at: tree.create(at, 0o644),
        "unlink where one was": lambda at: tree.unlink(at),
        "replace": lambda at: tree.rename(f"{at}-now", f"{at}-symlink"),
        "unlink one that was there": lambda at: tree.unlink(f"{at}-symlink"),
    }


def calls_of(change: Callable[[str], None], name: str) -> int:
    """How many functions *change* calls, C's included."""
    calls = 0

    def count(frame: FrameType, event: str, arg: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        change(name)
    finally:
        sys.setprofile(None)
    return calls


def memory_of(change: Callable[[str], None], name: str) -> int:
    """How many bytes *change* takes at most, of which some may stay."""
    tracemalloc.start()
    try:
        change(name)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def costs(base: Path, folder: str, size: int) -> dict[str, tuple[int, int]]:
    """Calls and bytes that each change takes in a directory of *size* names."""
    stack = Stack.make(base / f"{folder}{size}")
    for layer, share in ((stack.lower, "lower"), (stack.upper, "upper")):
        if folder in (share, "merged"):
            (layer / "dir").mkdir()
            for number in range(size):
                if folder != "merged" or number % 2 == (share == "lower"):
                    os.close(os.open(layer / f"dir/{number:05d}", os.O_CREAT | os.O_WRONLY))
    with live(stack, Format.KERNEL) as tree:
        tree.create("dir/first", 0o644)
        found = {}
        for what, change in changes(tree).items():
            calls = [calls_of(change, f"dir/{number:05d}") for number in range(TIMES)]
            peaks = [memory_of(change, f"dir/{number:05d}") for number in range(TIMES, 2 * TIMES)]
            found[what] = (median_low(calls), median_low(peaks))
        assert len(tree.fs.tree.directory(tree.node("dir")).children) >= size - 2 * TIMES
    return found


@pytest.mark.parametrize("folder", ["lower", "upper", "merged"])
def test_a_change_costs_the_same_among_many_names(
    tmp_path: Path, folder: str, needs_root: None
) -> None:
    few, many = costs(tmp_path, folder, FEW), costs(tmp_path, folder, MANY)
    for what, (calls, peak) in many.items():
        assert calls <= few[what][0] + 3, what
        assert peak < few[what][1] + MORE, what


def test_names_removed_between_two_pieces_of_a_listing_do_not_move_the_others(
    tmp_path: Path, needs_root: None
) -> None:
    """As `rm -rf` has it: positions that were given out stay right."""
    stack = Stack.make(tmp_path / "stack")
    (stack.lower / "dir").mkdir()
    for number in range(500):
        (stack.lower / f"dir/{number}").touch()
    with live(stack, Format.KERNEL) as tree:
        fs = tree.fs
        handle = fs.opendir(tree.node("dir").ino)
        names = list(fs.listing(handle, 0).names)
        seen: list[bytes] = []
        while len(seen) < len(names):
            piece = fs.listing(handle, 2 + len(seen)).names[len(seen) : len(seen) + 70]
            for name in piece:
                tree.unlink(f"dir/{os.fsdecode(name)}")
            tree.create(f"dir/new{len(seen)}", 0o644)
            seen += piece
        assert seen == names
        assert fs.listing(handle, 0).names == [b"new%d" % at for at in range(0, 500, 70)]
        fs.releasedir(handle)
