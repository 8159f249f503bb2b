"""Hard links of lower files: one file, whichever of its names is written through, and when."""

import itertools
import os
from pathlib import Path

import pytest

from tests.support.tree import names
from tests.support.union import Stack, run, write


def test_names_of_a_hard_linked_lower_file_stay_together(stack: Stack) -> None:
    write(stack.lower / "dir/one", "old")
    (stack.lower / "dir/two").hardlink_to(stack.lower / "dir/one")
    (stack.lower / "dir/three").hardlink_to(stack.lower / "dir/one")

    def shown(mnt: Path) -> set[tuple[str, int, int]]:
        paths = [mnt / "dir" / name for name in ("one", "two", "three")]
        return {(p.read_text(), p.stat().st_ino, p.stat().st_nlink) for p in paths}

    with stack.mounted() as mnt:
        ((_, ino, nlink),) = shown(mnt)
        assert nlink == 3
        (mnt / "dir/two").write_text("new")
        assert shown(mnt) == {("new", ino, 3)}
    with stack.mounted() as mnt:
        assert shown(mnt) == {("new", ino, 3)}
        (mnt / "dir/one").unlink()
        assert (mnt / "dir/two").stat().st_nlink == 2
        assert (mnt / "dir/three").read_text() == "new"


def linked_across(stack: Stack) -> None:
    """One lower file, with a name in each of two directories."""
    write(stack.lower / "d1/f", "old")
    (stack.lower / "d2").mkdir()
    (stack.lower / "d2/g").hardlink_to(stack.lower / "d1/f")


def test_a_name_in_a_directory_nobody_looked_into_belongs_to_it_too(stack: Stack) -> None:
    linked_across(stack)
    with stack.mounted() as mnt:
        (mnt / "d1/f").write_text("new")
    with stack.mounted() as mnt:
        # Looked at first in this mount, before the name that was written through.
        assert (mnt / "d2/g").read_text() == "new"
        assert (mnt / "d1/f").read_text() == "new"
        assert (mnt / "d1/f").stat().st_ino == (mnt / "d2/g").stat().st_ino
        assert (mnt / "d1/f").stat().st_nlink == 2


def test_a_name_nobody_looked_at_is_not_lost_among_names_that_are_known(stack: Stack) -> None:
    write(stack.lower / "d1/f", "old")
    (stack.lower / "d2").mkdir()
    for name in ("d1/g", "d1/h", "d2/i"):
        (stack.lower / name).hardlink_to(stack.lower / "d1/f")
    with stack.mounted() as mnt:
        (mnt / "d1/f").write_text("new")
        assert (mnt / "d1/f").stat().st_nlink == 4
    with stack.mounted() as mnt:
        assert (mnt / "d2/i").read_text() == "new"
        assert (mnt / "d2/i").stat().st_nlink == 4
    assert list((stack.work / "index").iterdir()) == []


ORDERS = list(itertools.permutations(("a/one", "b/two", "c/three")))


@pytest.mark.parametrize("order", ORDERS, ids=str)
def test_names_in_three_directories_are_counted(stack: Stack, order: tuple[str, ...]) -> None:
    """In whatever order they are looked at, in this mount and the next ones."""
    write(stack.lower / order[0], "old")
    for name in order[1:]:
        (stack.lower / name).parent.mkdir()
        (stack.lower / name).hardlink_to(stack.lower / order[0])

    def shown(mnt: Path, *names: str) -> set[tuple[int, str]]:
        return {((mnt / name).stat().st_nlink, (mnt / name).read_text()) for name in names}

    with stack.mounted() as mnt:
        (mnt / order[0]).write_text("new")
        assert shown(mnt, order[0]) == {(3, "new")}
    with stack.mounted() as mnt:
        assert shown(mnt, *reversed(order)) == {(3, "new")}
    with stack.mounted() as mnt:
        assert shown(mnt, *order) == {(3, "new")}
        (mnt / order[1]).unlink()
        assert shown(mnt, order[0], order[2]) == {(2, "new")}
        run("rm", "-r", (mnt / order[2]).parent)
        assert shown(mnt, order[0]) == {(1, "new")}
    with stack.mounted() as mnt:
        assert shown(mnt, order[0]) == {(1, "new")}
        (mnt / order[0]).unlink()
    assert list((stack.work / "index").iterdir()) == []


def test_writing_through_each_name_in_a_mount_of_its_own(stack: Stack) -> None:
    linked_across(stack)
    for name in ("d1/f", "d2/g", "d1/f"):
        with stack.mounted() as mnt:
            (mnt / name).write_text(f"through {name}")
        with stack.mounted() as mnt:
            shown = [(mnt / each).read_text() for each in ("d2/g", "d1/f")]
            assert shown == [f"through {name}"] * 2


def test_what_the_kernel_forgot_is_still_one_file(stack: Stack) -> None:
    linked_across(stack)
    with stack.mounted() as mnt:
        (mnt / "d1/f").write_text("new")
        Path("/proc/sys/vm/drop_caches").write_text("2")
        assert (mnt / "d2/g").read_text() == "new"


@pytest.mark.parametrize("where", ["there", "elsewhere"])
@pytest.mark.parametrize("how", ["forgotten", "remounted"])
def test_a_hidden_name_is_not_counted_again(stack: Stack, how: str, where: str) -> None:
    """Neither in the number of links nor in the index, which would keep the copy for ever."""
    write(stack.lower / "there/one", "old")
    (stack.lower / "elsewhere").mkdir()
    (stack.lower / f"{where}/two").hardlink_to(stack.lower / "there/one")

    def go_on(mnt: Path) -> None:
        assert names(mnt / where) == (["one"] if where == "there" else [])
        assert (mnt / "there/one").stat().st_nlink == 1
        with (mnt / "there/one").open("a") as file:
            file.write(", new")
        assert (mnt / "there/one").stat().st_nlink == 1
        assert (mnt / "there/one").read_text() == "old, new"

    with stack.mounted() as mnt:
        (mnt / f"{where}/two").unlink()
        assert (mnt / "there/one").stat().st_nlink == 1
        for _ in range(2 if how == "forgotten" else 0):
            (mnt / "there").stat()
            Path("/proc/sys/vm/drop_caches").write_text("2")
        if how == "forgotten":
            go_on(mnt)
    with stack.mounted() as mnt:
        if how == "remounted":
            go_on(mnt)
        (mnt / "there/one").unlink()
    assert list((stack.work / "index").iterdir()) == []


def test_a_file_on_the_inode_of_a_removed_one_stays_one_file(stack: Stack) -> None:
    """The kernel still knows the removed one, so the new one needs another number."""
    (stack.upper / "dir").mkdir()
    with stack.mounted() as mnt:
        held = []
        while True:
            (mnt / "old").symlink_to("nowhere")
            number = (mnt / "old").lstat().st_ino
            on_disk = (stack.upper / "old").lstat().st_ino
            # Known, and of the kinds that nobody can keep open on the disk.
            held.append(os.open(mnt / "old", os.O_PATH | os.O_NOFOLLOW))
            (mnt / "old").unlink()
            (mnt / "new").write_text("new")
            if (stack.upper / "new").stat().st_ino == on_disk:
                break
            (mnt / "new").unlink()
        (mnt / "dir/other").hardlink_to(mnt / "new")
        renumbered = (mnt / "new").stat().st_ino
        assert renumbered != number
        for fd in held:
            os.close(fd)
        # The second time the directory goes when all in it has gone.
        for _ in range(2):
            (mnt / "dir").stat()
            Path("/proc/sys/vm/drop_caches").write_text("2")
        assert (mnt / "dir/other").stat().st_ino == renumbered
        assert (mnt / "dir/other").read_text() == "new"
        (mnt / "new").write_text("changed")
        assert (mnt / "dir/other").read_text() == "changed"
        assert (mnt / "new").stat().st_ino == renumbered


def test_removing_a_name_of_a_hard_linked_lower_file(stack: Stack) -> None:
    write(stack.lower / "one", "old")
    (stack.lower / "two").hardlink_to(stack.lower / "one")
    with stack.mounted() as mnt:
        assert (mnt / "two").stat().st_nlink == 2
        (mnt / "one").unlink()
        assert (mnt / "two").stat().st_nlink == 1
        (mnt / "two").write_text("new")
        assert (mnt / "two").stat().st_nlink == 1
        assert not (mnt / "one").exists()
        (mnt / "one").touch()
        assert (mnt / "one").stat().st_ino != (mnt / "two").stat().st_ino
    with stack.mounted() as mnt:
        assert ((mnt / "one").read_text(), (mnt / "two").read_text()) == ("", "new")
