"""Hard links, as other union file systems got them wrong."""

import os
import shutil

import pytest

from tests.support.tree import names
from tests.support.union import Stack, run, write


def test_a_new_link_counts_two_at_once(stack: Stack) -> None:
    """Right after link(2) a file had three links.

    fuse-overlayfs #192, #183.
    """
    with stack.mounted() as mnt:
        (mnt / "test").touch()
        (mnt / "test2").hardlink_to(mnt / "test")
        assert [(mnt / name).stat().st_nlink for name in ("test", "test2")] == [2, 2]
        fd = os.open(mnt / "test", os.O_RDONLY)
        (mnt / "test2").unlink()
        assert os.fstat(fd).st_nlink == (mnt / "test").stat().st_nlink == 1
        os.close(fd)


def test_the_count_does_not_depend_on_what_was_seen(stack: Stack) -> None:
    """A lower file had one link until its second name had been looked at.

    fuse-overlayfs #435.
    """
    write(stack.lower / "DEFAULT/bind.txt")
    (stack.lower / "back-ends").mkdir()
    (stack.lower / "back-ends/bind.config").hardlink_to(stack.lower / "DEFAULT/bind.txt")
    with stack.mounted() as mnt:
        assert (mnt / "DEFAULT/bind.txt").stat().st_nlink == 2
        assert (mnt / "back-ends/bind.config").stat().st_nlink == 2
        assert (mnt / "DEFAULT/bind.txt").stat().st_nlink == 2


@pytest.mark.parametrize("where", ["lower", "upper"])
def test_a_tree_of_links_is_given_to_another_owner(stack: Stack, where: str) -> None:
    """chown(2) by copying, file by file, and link(2) of copies found a name missing.

    fuse-overlayfs #380: what containers/storage does to give a layer to other ids.
    """
    for number in range(4):
        write(stack.lower / f"yumdb/{number}/command_line", "yum")
        for other in range(3):
            link = stack.lower / f"yumdb/{number}/link{other}"
            link.hardlink_to(stack.lower / f"yumdb/{number}/command_line")
    (stack.lower / "yumdb/far").mkdir()
    (stack.lower / "yumdb/far/link").hardlink_to(stack.lower / "yumdb/0/command_line")
    with stack.mounted() as mnt:
        if where == "upper":
            shutil.copytree(mnt / "yumdb", mnt / "copy")
            shutil.rmtree(mnt / "yumdb")
            (mnt / "copy").rename(mnt / "yumdb")
        for path in sorted((mnt / "yumdb").rglob("*"), reverse=True):
            first: dict[int, str] = {}
            if path.is_dir():
                continue
            found = path.stat()
            if found.st_ino in first:
                path.unlink()
                os.link(first[found.st_ino], path)
            first[found.st_ino] = str(path)
            os.chown(path, 1000, 1000)
        for number in range(4):
            group = sorted((mnt / f"yumdb/{number}").iterdir())
            assert {path.stat().st_uid for path in group} == {1000}
        assert (mnt / "yumdb/far/link").stat().st_uid == 1000
        if where == "lower":
            zero = {path.stat().st_ino for path in (mnt / "yumdb/0").iterdir()}
            assert zero == {(mnt / "yumdb/far/link").stat().st_ino}
            assert (mnt / "yumdb/far/link").stat().st_nlink == 5


def test_size_and_content_of_every_name_after_a_write(stack: Stack) -> None:
    """Another name of a written file kept the old size until the next mount."""
    write(stack.lower / "one", "old")
    (stack.lower / "two").hardlink_to(stack.lower / "one")
    with stack.mounted() as mnt:
        assert (mnt / "two").stat().st_size == 3
        with (mnt / "one").open("a") as file:
            file.write(" and more")
        assert (mnt / "two").stat().st_size == 12
        assert (mnt / "two").read_text() == "old and more"
        os.truncate(mnt / "two", 1)
        assert (mnt / "one").stat().st_size == 1
        assert run("cat", mnt / "one") == "o"
        assert names(mnt) == ["one", "two"]
