"""nlink of hard-linked lower files through copy-up, remount and crash."""

import itertools, os
from pathlib import Path
import pytest
from tests.support.union import Stack, run, write

NAMES = ("a/one", "b/two", "c/three")


def linked(stack):
    write(stack.lower / NAMES[0], "old")
    for name in NAMES[1:]:
        (stack.lower / name).parent.mkdir()
        (stack.lower / name).hardlink_to(stack.lower / NAMES[0])


@pytest.mark.parametrize("order", list(itertools.permutations(NAMES)), ids=str)
def test_nlink(tmp_path: Path, order) -> None:
    stack = Stack.make(tmp_path / "stack", lowers=1)
    linked(stack)

    def shown(mnt, names):
        return [((mnt / n).stat().st_nlink, (mnt / n).read_text()) for n in names]

    with stack.mounted() as mnt:
        (mnt / order[0]).write_text("new")
        assert shown(mnt, order[:1]) == [(3, "new")]
    for _ in range(2):
        with stack.mounted() as mnt:
            assert shown(mnt, reversed(order)) == [(3, "new")] * 3
            assert shown(mnt, order) == [(3, "new")] * 3
    with stack.mounted() as mnt:
        (mnt / order[1]).unlink()
        assert (mnt / order[0]).stat().st_nlink == 2
        (mnt / order[2]).unlink()
        assert (mnt / order[0]).stat().st_nlink == 1
    with stack.mounted() as mnt:
        assert shown(mnt, order[:1]) == [(1, "new")]


def test_unlink_unmet(tmp_path: Path) -> None:
    stack = Stack.make(tmp_path / "stack", lowers=1)
    linked(stack)
    with stack.mounted() as mnt:
        (mnt / NAMES[0]).write_text("new")
        run("rm", "-rf", mnt / "b", mnt / "c")
        assert (mnt / NAMES[0]).stat().st_nlink == 1
    with stack.mounted() as mnt:
        assert (mnt / NAMES[0]).stat().st_nlink == 1
        (mnt / NAMES[0]).unlink()
    assert list((stack.work / "index").iterdir()) == []
