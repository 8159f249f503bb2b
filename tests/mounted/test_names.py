"""Names: making, linking, moving and removing files of a union."""

import os
import shutil
import stat
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from overlayfs.linux.files import (
    RENAME_EXCHANGE,
    RENAME_NOREPLACE,
    RENAME_WHITEOUT,
)
from tests.support.callers import outcome, rename
from tests.support.tree import assert_same, names, snapshot
from tests.support.union import Stack, is_whiteout, opaque, run, whiteout, write

# -- the matrix --------------------------------------------------------------------------


def place(layer: Path, name: str, kind: str) -> None:
    """Make *name* in *layer*; its text tells where it is from."""
    path = layer / name
    match kind:
        case "file":
            write(path, f"{layer.name} {name}")
        case "symlink":
            path.symlink_to(f"{layer.name}-{name}")
        case "empty":
            path.mkdir()
        case "full":
            write(path / "inside", f"{layer.name} {name}")
            write(path / layer.name, "")


def make_place(stack: Stack, name: str, what: str) -> None:
    """*name* as *what* says: ``<kind>-<upper|lower|merged|gone>``, or ``nothing``."""
    kind, _, where = what.partition("-")
    if kind == "nothing":
        return
    if where in ("lower", "merged", "gone"):
        place(stack.lower, name, kind)
    if where in ("upper", "merged"):
        place(stack.upper, name, kind)
    if where == "gone":
        whiteout(stack.upper / name)


PLACES = [
    "nothing",
    *(
        f"{kind}-{where}"
        for kind in ("file", "symlink", "empty", "full")
        for where in ("upper", "lower", "merged")
    ),
    "file-gone",
    "full-gone",
]
FLAGS = {"plain": 0, "noreplace": RENAME_NOREPLACE, "exchange": RENAME_EXCHANGE}


def make_matrix(stack: Stack) -> list[tuple[str, int]]:
    """All combinations of source, flags and target, each with a directory of its own."""
    cases = []
    for source in PLACES[1:]:
        for target in PLACES:
            for how, flags in FLAGS.items():
                case = f"{source}-over-{target}-{how}"
                cases.append((case, flags))
                for layer in (stack.lower, stack.upper):
                    (layer / case).mkdir()
                inner = Stack(stack.base, stack.lowers)
                for name, what in (("old", source), ("new", target)):
                    make_place(inner, f"{case}/{name}", what)
    return cases


def test_every_rename_ends_as_in_the_kernel(stack: Stack, needs_kernel_overlay: None) -> None:
    cases = make_matrix(stack)
    twin = Stack.make(stack.base / "twin", lowers=2)
    for layer in (*zip(stack.lowers, twin.lowers, strict=True), (stack.upper, twin.upper)):
        run("cp", "-a", f"{layer[0]}/.", layer[1])

    def rename_all(root: Path) -> dict[str, str]:
        return {
            case: outcome(partial(rename, root / case / "old", root / case / "new", flags))
            for case, flags in cases
        }

    clock = frozenset({"mtime_ns"})
    with twin.by_kernel() as merged:
        expected = rename_all(merged)
        tree = snapshot(merged)
    with stack.mounted() as mnt:
        assert rename_all(mnt) == expected
        live = snapshot(mnt)
        assert_same(tree, live, but=clock)
    with stack.mounted() as mnt:
        assert_same(live, snapshot(mnt))
    # The upper directory is one the kernel reads as we do.
    with stack.by_kernel() as merged:
        assert_same(live, snapshot(merged))
    assert {"done", "EXDEV", "EEXIST", "ENOTEMPTY", "ENOENT", "EISDIR", "ENOTDIR"} <= set(
        expected.values()
    )


def test_whiteouts_are_not_for_users_to_make(mnt: Path) -> None:
    write(mnt / "file", "x")
    assert outcome(lambda: rename(mnt / "file", mnt / "new", RENAME_WHITEOUT)) == "EINVAL"
    assert outcome(lambda: os.mknod(mnt / "gone", stat.S_IFCHR, 0)) == "EPERM"
    assert names(mnt) == ["file"]
    os.mknod(mnt / "block", stat.S_IFBLK | 0o600, 0)
    assert stat.S_ISBLK((mnt / "block").stat().st_mode)


def test_mv_copes_with_a_directory_that_cannot_be_renamed(stack: Stack) -> None:
    write(stack.lower / "dir/sub/file", "text", mode=0o4755)
    os.utime(stack.lower / "dir/sub", ns=(1, 2))
    with stack.mounted() as mnt:
        assert outcome(lambda: (mnt / "dir").rename(mnt / "moved")) == "EXDEV"
        before = snapshot(mnt / "dir")
        run("mv", mnt / "dir", mnt / "moved")
        assert_same(before, snapshot(mnt / "moved"))
        assert names(mnt) == ["moved"]
        # It is all in the upper layer now.
        (mnt / "moved").rename(mnt / "again")
    with stack.mounted() as mnt:
        assert_same(before, snapshot(mnt / "again"))
    assert is_whiteout(stack.upper / "dir")


def test_names_that_moved_open_the_same_file(stack: Stack) -> None:
    write(stack.lower / "old", "text")
    with stack.mounted() as mnt, (mnt / "old").open("r+") as file:
        number = os.fstat(file.fileno()).st_ino
        (mnt / "old").rename(mnt / "new")
        file.write("TEXT")
        file.flush()
        assert (mnt / "new").read_text() == "TEXT"
        assert (mnt / "new").stat().st_ino == number == os.fstat(file.fileno()).st_ino


def test_files_below_a_directory_that_moved(stack: Stack) -> None:
    with stack.mounted() as mnt:
        write(mnt / "a/b/c/file", "text")
        here = os.open(mnt / "a/b", os.O_RDONLY)
        (mnt / "a").rename(mnt / "x")
        (mnt / "x/b").rename(mnt / "y")
        os.close(os.open("new", os.O_CREAT | os.O_WRONLY, dir_fd=here))
        assert os.stat("..", dir_fd=here).st_ino == mnt.stat().st_ino
        os.close(here)
        assert names(mnt / "y") == ["c", "new"]
        (mnt / "y/c/file").write_text("changed")
    with stack.mounted() as mnt:
        assert (mnt / "y/c/file").read_text() == "changed"
        assert names(mnt / "x") == []


# -- making --------------------------------------------------------------------------------

MAKERS: dict[str, Callable[[Path], object]] = {
    "file": lambda path: write(path, "new"),
    "exclusively": lambda path: os.close(os.open(path, os.O_CREAT | os.O_EXCL)),
    "directory": lambda path: path.mkdir(),
    "symlink": lambda path: path.symlink_to("new"),
    "fifo": os.mkfifo,
    "device": lambda path: os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 3)),
    "link": lambda path: path.hardlink_to(path.with_name("other")),
    "moved": lambda path: path.with_name("other").rename(path),
    "moved directory": lambda path: path.with_name("folder").rename(path),
}


def test_making_what_was_removed(stack: Stack) -> None:
    """The new one stands alone: nothing of the old one shows, now or at the next mount."""
    for was in ("file", "full"):
        for made in MAKERS:
            (stack.lower / f"{was} {made}").mkdir()
            place(stack.lower / f"{was} {made}", "name", was)
    with stack.mounted() as mnt:
        for was in ("file", "full"):
            for made, make in MAKERS.items():
                case = mnt / f"{was} {made}"
                write(case / "other", "other")
                (case / "folder").mkdir()
                run("rm", "-rf", case / "name")
                assert is_whiteout(stack.upper / case.name / "name")
                make(case / "name")
                assert not (case / "name/inside").exists()
        before = snapshot(mnt)
    with stack.mounted() as mnt:
        assert_same(before, snapshot(mnt))
    with stack.by_kernel() as merged:
        assert_same(before, snapshot(merged))


def test_no_whiteout_where_nothing_is_hidden(stack: Stack) -> None:
    whiteout(stack.lowers[0] / "hidden")
    write(stack.lowers[1] / "hidden")
    with stack.mounted() as mnt:
        for name in ("hidden", "new"):
            write(mnt / name)
            (mnt / name).unlink()
            (mnt / name).mkdir()
            write(mnt / name / "file")
            run("rm", "-r", mnt / name)
    assert list(stack.upper.iterdir()) == []


def test_a_new_directory_is_opaque_only_where_it_hides_something(stack: Stack) -> None:
    write(stack.lower / "old/file")
    with stack.mounted() as mnt:
        shutil.rmtree(mnt / "old")
        (mnt / "old").mkdir()
        (mnt / "new").mkdir()
        assert names(mnt / "old") == []
    assert os.getxattr(stack.upper / "old", "trusted.overlay.opaque") == b"y"
    assert "trusted.overlay.opaque" not in os.listxattr(stack.upper / "new")


def test_a_directory_that_shows_nothing_can_be_removed(stack: Stack) -> None:
    write(stack.lower / "dir/a")
    write(stack.lower / "dir/b/c")
    write(stack.upper / "dir/d")
    with stack.mounted() as mnt:
        for name in ("a", "b/c", "d"):
            assert outcome((mnt / "dir").rmdir) == "ENOTEMPTY"
            (mnt / "dir" / name).unlink()
        assert outcome((mnt / "dir").rmdir) == "ENOTEMPTY"
        (mnt / "dir/b").rmdir()
        (mnt / "dir").rmdir()
        assert names(mnt) == []
    assert is_whiteout(stack.upper / "dir")
    assert list((stack.work / "work").iterdir()) == []


def test_removing_what_an_opaque_directory_holds_leaves_no_whiteout(stack: Stack) -> None:
    write(stack.lower / "dir/file")
    opaque(stack.upper / "dir")
    write(stack.upper / "dir/file")
    with stack.mounted() as mnt:
        (mnt / "dir/file").unlink()
        assert names(mnt / "dir") == []
    assert list((stack.upper / "dir").iterdir()) == []


@pytest.mark.parametrize("name", [".wh.file", ".wh..wh..opq", ".wh..wh.plnk", ".wh."])
def test_names_that_mean_something_elsewhere_are_names_here(stack: Stack, name: str) -> None:
    write(stack.lower / "file", "text")
    with stack.mounted() as mnt:
        write(mnt / name, "mine")
        (mnt / f"{name}dir").mkdir()
    with stack.mounted() as mnt:
        assert names(mnt) == sorted([name, f"{name}dir", "file"])
        assert (mnt / name).read_text() == "mine"


# -- links ---------------------------------------------------------------------------------


def test_a_link_to_a_lower_file(stack: Stack) -> None:
    write(stack.lower / "dir/file", "text")
    with stack.mounted() as mnt:
        number = (mnt / "dir/file").stat().st_ino
        (mnt / "link").hardlink_to(mnt / "dir/file")
        (mnt / "link").write_text("changed")
        for path in (mnt / "dir/file", mnt / "link"):
            found = path.stat()
            assert (found.st_ino, found.st_nlink, path.read_text()) == (number, 2, "changed")
    with stack.mounted() as mnt:
        (mnt / "dir/file").unlink()
        found = (mnt / "link").stat()
        assert (found.st_ino, found.st_nlink) == (number, 1)
        assert (mnt / "link").read_text() == "changed"


def test_links_that_cannot_be(stack: Stack) -> None:
    write(stack.lower / "dir/file", "text")
    with stack.mounted() as mnt:
        assert outcome(lambda: os.link(mnt / "dir", mnt / "new")) == "EPERM"
        assert outcome(lambda: os.link(mnt / "dir/file", mnt / "dir")) == "EEXIST"
        assert outcome(lambda: os.link(stack.lower / "dir/file", mnt / "new")) == "EXDEV"
        assert outcome(lambda: os.link(mnt / "dir/file", mnt / ("n" * 256))) == "ENAMETOOLONG"
        fd = os.open(mnt / "dir/file", os.O_RDWR)
        (mnt / "dir/file").unlink()
        path = f"/proc/self/fd/{fd}"
        top = os.open(mnt, os.O_RDONLY)
        # Only with a descriptor does this become linkat(2), which can follow the link.
        assert outcome(lambda: os.link(path, "new", src_dir_fd=top, dst_dir_fd=top)) == "ENOENT"
        os.close(top)
        os.close(fd)
