"""Upper directories on disks that cannot do device whiteouts, and what hides names there."""

import errno
import os
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from overlayfs.linux.files import RENAME_EXCHANGE
from tests.support.callers import outcome, rename
from tests.support.operations import Flavour, apply, make_layer, operations, timeless
from tests.support.tree import Tree, assert_same, names
from tests.support.union import Stack, is_whiteout, run, write

Step = tuple[str, Callable[[Path], object]]


def fill(lower: Path) -> None:
    """A layer in which everything can be hidden, moved and replaced."""
    for name in ("file", "moved", "over", "one", "two", "linked", "emptied/a", "emptied/b/c"):
        write(lower / name, name)
    for name in ("merged/sub", "empty", "again/old", "target", "hidden/deep/er", "exchanged"):
        (lower / name).mkdir(parents=True)
    write(lower / "merged/sub/file", "text")
    write(lower / "exchanged/inside", "text")
    (lower / "link").symlink_to("file")
    os.mkfifo(lower / "fifo")


def at(old: str, new: str, flags: int = 0) -> Callable[[Path], object]:
    return lambda mnt: rename(mnt / old, mnt / new, flags)


STEPS: list[Step] = [
    ("unlink", lambda mnt: (mnt / "file").unlink()),
    ("unlink a link", lambda mnt: (mnt / "link").unlink()),
    ("create where one was hidden", lambda mnt: write(mnt / "file", "anew")),
    ("unlink the new one", lambda mnt: (mnt / "file").unlink()),
    ("mkdir where one was hidden", lambda mnt: (mnt / "file").mkdir()),
    ("rmdir that", lambda mnt: (mnt / "file").rmdir()),
    ("symlink there", lambda mnt: (mnt / "file").symlink_to("x")),
    ("mkfifo where a link was hidden", lambda mnt: os.mkfifo(mnt / "link")),
    ("rename leaves a whiteout", at("moved", "new")),
    ("rename over a whiteout", at("new", "moved")),
    ("rename over a lower file", at("moved", "over")),
    ("rename an upper file over a whiteout", lambda mnt: write(mnt / "up").rename(mnt / "moved")),
    ("rename over a whiteout, leave one", at("over", "moved")),
    ("link over a whiteout", lambda mnt: (mnt / "over").hardlink_to(mnt / "linked")),
    ("unlink one of two names", lambda mnt: (mnt / "linked").unlink()),
    ("rmdir a lower directory", lambda mnt: (mnt / "empty").rmdir()),
    ("rename a directory over a whiteout", lambda mnt: (
        (mnt / "pure").mkdir(), write(mnt / "pure/file"), (mnt / "pure").rename(mnt / "empty"))),
    ("rename it back", at("empty", "pure")),
    ("rename a directory over a lower one", at("pure", "target")),
    ("rename that away", at("target", "pure")),
    ("mkdir where a directory was hidden", lambda mnt: (mnt / "target").mkdir()),
    ("exchange lower files", at("one", "two", RENAME_EXCHANGE)),
    ("unlink an exchanged one", lambda mnt: (mnt / "one").unlink()),
    ("exchange a file and a directory", at("two", "pure", RENAME_EXCHANGE)),
    ("unlink in its place", lambda mnt: (mnt / "pure").unlink()),
    ("remove the directory in its place", lambda mnt: shutil.rmtree(mnt / "two")),
    ("a directory that was removed, anew", lambda mnt: (
        shutil.rmtree(mnt / "again"), (mnt / "again").mkdir(), write(mnt / "again/new"))),
    ("a directory emptied and removed", lambda mnt: shutil.rmtree(mnt / "emptied")),
    ("a file in the place of a directory", lambda mnt: (
        shutil.rmtree(mnt / "hidden"), write(mnt / "hidden", "file"))),
    ("whiteouts in a merged directory", lambda mnt: (mnt / "merged/sub/file").unlink()),
    ("rename over one that holds whiteouts", lambda mnt: (
        (mnt / "x").mkdir(), write(mnt / "x/y"), (mnt / "x").rename(mnt / "merged/sub"))),
    ("remove a directory of moved files", lambda mnt: shutil.rmtree(mnt / "merged/sub")),
    ("unlink a fifo", lambda mnt: (mnt / "fifo").unlink()),
    ("rmdir what is not empty", lambda mnt: (mnt / "exchanged").rmdir()),
    ("rename over what is not empty", lambda mnt: (
        (mnt / "z").mkdir(), (mnt / "z").rename(mnt / "exchanged"))),
    ("rename a merged directory", at("exchanged", "elsewhere")),
    ("mkdir below a removed name", lambda mnt: (mnt / "one/x").mkdir()),
]  # fmt: skip


# -- where the upper directory is ----------------------------------------------------------


@contextmanager
def on_kernels_overlay(base: Path) -> Iterator[Path]:
    """It refuses to make devices 0:0."""
    with Stack.make(base / "outer").by_kernel() as merged:
        yield merged


@contextmanager
def on_ours(base: Path) -> Iterator[Path]:
    with Stack.make(base / "outer").mounted() as mnt:
        yield mnt


@contextmanager
def without_attributes(base: Path) -> Iterator[Path]:
    with Stack.make(base / "outer").mounted("noxattrs=1") as mnt:
        yield mnt


@contextmanager
def on_disk(base: Path) -> Iterator[Path]:
    yield base


PLACES = {
    "disk": (on_disk, (), "device"),
    "disk, asked for attributes": (on_disk, ("whiteouts=xattr",), "xattr"),
    "disk, asked for markers": (on_disk, ("whiteouts=oci",), "marker"),
    "the kernel's overlay": (on_kernels_overlay, (), "xattr"),
    "ours": (on_ours, (), "xattr"),
    "ours without attributes": (without_attributes, (), "marker"),
}


@contextmanager
def stacked(base: Path, place: str) -> Iterator[Stack]:
    """A stack with its upper directory at *place*; the lower ones are on the disk."""
    where, options, _ = PLACES[place]
    with where(base) as folder:
        inner = Stack.make(folder / "stack", options=options)
        stack = Stack(inner.base, tuple(base / f"lower{n}" for n in (2, 1)), options)
        for lower in stack.lowers:
            lower.mkdir(exist_ok=True)
        yield stack


def kinds_of_whiteouts(upper: Path) -> set[str]:
    """What in *upper* hides names, as far as it can be told from outside."""
    found = set()
    for path in upper.rglob("*"):
        if is_whiteout(path):
            found.add("device")
        elif path.name.startswith(".wh."):
            found.add("marker")
        elif "trusted.overlay.whiteout" in attributes(path):
            found.add("xattr")
    return found


def attributes(path: Path) -> list[str]:
    try:
        return os.listxattr(path, follow_symlinks=False)
    except OSError as exc:
        if exc.errno != errno.ENOTSUP:
            raise
        return []


def assert_others_show(expected: Tree, stack: Stack, base: Path) -> None:
    """The kernel's overlayfs must read the same, and so must a mount of ours on a copy.

    For the kernel it is a lower directory, as attributes hide nothing for it in listings of an
    upper one.  Ours goes on with devices where the copy is.
    """
    folder = base / "others"
    other = Stack.make(folder)
    with Stack(folder, (stack.upper, *stack.lowers)).by_kernel(read_only=True) as merged:
        assert_same(expected, timeless(merged))
    run("cp", "-a", f"{stack.upper}/.", other.upper)
    with Stack(folder, (other.upper, *stack.lowers)).by_kernel(read_only=True) as merged:
        assert_same(expected, timeless(merged))
    with Stack(folder, stack.lowers).mounted() as mnt:
        assert_same(expected, timeless(mnt))
        (mnt / "exchanged/inside").unlink()
        shutil.rmtree(mnt / "merged")
    assert is_whiteout(other.upper / "exchanged/inside")
    with Stack(folder, stack.lowers).mounted() as mnt:
        assert names(mnt / "exchanged") == []
        assert "merged" not in names(mnt)


@pytest.mark.parametrize("place", PLACES)
def test_every_way_of_hiding_a_name(
    tmp_path: Path, needs_fuse: None, needs_kernel_overlay: None, place: str
) -> None:
    """Each step ends as with the kernel's overlayfs on a disk, now and at the next mount."""
    kind = PLACES[place][2]
    twin = Stack.make(tmp_path / "twin")
    fill(twin.lower)
    with ExitStack() as outer:
        merged = outer.enter_context(twin.by_kernel())
        (tmp_path / "it").mkdir()
        stack = outer.enter_context(stacked(tmp_path / "it", place))
        fill(stack.lower)
        with stack.mounted() as mnt:
            for what, act in STEPS:
                expected = outcome(lambda act=act: act(merged))
                assert outcome(lambda act=act: act(mnt)) == expected, what
                assert everything(mnt) == everything(merged), what
            live = timeless(mnt)
            assert_same(timeless(merged), live)
            assert names(stack.work / "work") == []
        assert kinds_of_whiteouts(stack.upper) == {kind}
        with stack.mounted() as mnt:
            assert_same(live, timeless(mnt))
        if kind != "marker":
            with stack.mounted("ro") as mnt:
                assert_same(live, timeless(mnt))
            assert_others_show(live, stack, tmp_path)


def everything(mnt: Path) -> list[str]:
    return sorted(str(path.relative_to(mnt)) for path in mnt.rglob("*"))


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("place", ["disk, asked for attributes", "disk, asked for markers"])
def test_random_changes_end_as_in_the_kernel(
    tmp_path: Path, needs_fuse: None, needs_kernel_overlay: None, place: str, seed: int
) -> None:
    chance = random.Random(seed)
    flavour = Flavour()
    with stacked(tmp_path, place) as stack:
        below: list[Path] = []
        for lower in reversed(stack.lowers):
            make_layer(chance, lower, below, flavour)
            below.insert(0, lower)
        twin = Stack(Stack.make(tmp_path / "twin").base, stack.lowers)
        with twin.by_kernel() as merged, stack.mounted() as mnt:
            for step, operation in enumerate(operations(chance, 60, flavour)):
                expected = apply(merged, operation)
                assert apply(mnt, operation) == expected, f"seed {seed}, step {step}: {operation}"
            live = timeless(mnt)
            assert_same(timeless(merged), live)
        with stack.mounted() as mnt:
            assert_same(live, timeless(mnt))


# -- names that mean something -------------------------------------------------------------


@pytest.mark.parametrize("place", PLACES)
def test_names_of_markers_are_refused_where_they_would_hide_something(
    tmp_path: Path, needs_fuse: None, needs_root: None, place: str
) -> None:
    expected = "EINVAL" if PLACES[place][2] == "marker" else "done"
    with stacked(tmp_path, place) as stack:
        write(stack.lower / "file", "text")
        with stack.mounted() as mnt:
            write(mnt / "new", "text")
            acts: list[Callable[[Path], object]] = [
                lambda path: path.touch(),
                lambda path: path.mkdir(),
                os.mkfifo,
                lambda path: path.symlink_to("file"),
                lambda path: path.hardlink_to(mnt / "file"),
                lambda path: (mnt / "new").rename(path),
            ]
            for number, act in enumerate(acts):
                name = mnt / f".wh.{'file' if number % 2 else number}"
                assert outcome(lambda act=act, name=name: act(name)) == expected
                if expected == "done":
                    (name.rmdir if name.is_dir() else name.unlink)()
            for name in (".wh", ".whfile", "x.wh.file", ".WH.file"):
                write(mnt / name).unlink()
            assert (mnt / "file").read_text() == "text"
            if expected == "done":
                write(mnt / ".wh.file", "mine")
                write(mnt / ".wh..wh..opq", "mine")
        with stack.mounted() as mnt:
            kept = [".wh..wh..opq", ".wh.file"] if expected == "done" else ["new"]
            assert names(mnt) == sorted([*kept, "file"])


def test_names_that_are_too_long_to_be_marked_stay(
    tmp_path: Path, needs_fuse: None, needs_root: None
) -> None:
    """Rather than to come back at the next mount."""
    with stacked(tmp_path, "disk, asked for markers") as stack:
        for length in (251, 252, 255):
            write(stack.lower / ("n" * length), "text")
        with stack.mounted() as mnt:
            (mnt / ("n" * 251)).unlink()
            for length in (252, 255):
                name = mnt / ("n" * length)
                assert outcome(name.unlink) == "ENAMETOOLONG"
                assert outcome(lambda name=name: name.rename(mnt / "other")) == "ENAMETOOLONG"
                name.write_text("changed")
                write(mnt / ("u" * length)).unlink()
            expected = ["n" * 252, "n" * 255]
            assert names(mnt) == expected
        with stack.mounted() as mnt:
            assert names(mnt) == expected
            assert {path.read_text() for path in mnt.iterdir()} == {"changed"}


@pytest.mark.parametrize(
    ("kind", "other"),
    [("device", "xattr"), ("device", "oci"), ("xattr", "device"), ("xattr", "oci")],
)
def test_each_kind_is_taken_over_by_mounts_that_make_another(
    tmp_path: Path, needs_fuse: None, needs_root: None, kind: str, other: str
) -> None:
    """But for markers, which are names elsewhere."""
    stack = Stack.make(tmp_path / "stack")
    for name in ("a", "b", "c", "d", "e", "again/a"):
        write(stack.lower / name)
        write(stack.lower / "dir" / name)
    with stack.mounted(f"whiteouts={kind}") as mnt:
        for name in "acde":
            (mnt / name).unlink()
            (mnt / "dir" / name).unlink()
        shutil.rmtree(mnt / "again")
        (mnt / "again").mkdir()
    with stack.mounted(f"whiteouts={other}") as mnt:
        write(mnt / "again/a").unlink()
        for folder in (mnt, mnt / "dir"):
            write(folder / "a")  # over a whiteout of the other kind, in every way
            (folder / "c").mkdir()
            (folder / "pure").mkdir()
            (folder / "pure").rename(folder / "d")
            (folder / "b").rename(folder / "e")
        expected = ["again", *"acde", "dir", "dir/a", "dir/again", "dir/again/a"]
        expected = sorted([*expected, *(f"dir/{name}" for name in "cde")])
        assert everything(mnt) == expected
    with stack.mounted(f"whiteouts={other}") as mnt:
        assert everything(mnt) == expected
        for folder in (mnt, mnt / "dir"):
            for name in "ae":
                (folder / name).unlink()
            for name in "cd":
                (folder / name).rmdir()
        expected = ["again", "dir", "dir/again", "dir/again/a"]
        assert everything(mnt) == expected
        assert names(stack.work / "work") == []
    with stack.mounted(f"whiteouts={other}") as mnt:
        assert everything(mnt) == expected


def test_a_kind_that_the_disk_cannot_do_is_refused(
    tmp_path: Path, needs_fuse: None, needs_root: None
) -> None:
    with stacked(tmp_path, "ours without attributes") as stack:
        for kind, reason in (("device", "not permitted"), ("xattr", "not supported")):
            with pytest.raises(AssertionError, match=reason) as said:
                Stack(stack.base, stack.lowers, (f"whiteouts={kind}",)).start()
            assert "not mounted: 32" in str(said.value)
            assert f"{stack.upper}: no {kind} whiteouts on its file system" in str(said.value)


def test_a_disk_that_can_do_no_kind_is_refused(
    tmp_path: Path, needs_fuse: None, needs_root: None
) -> None:
    """That of fuse-overlayfs: it keeps devices 0:0, attributes and markers for itself."""
    outer = Stack.make(tmp_path / "outer")
    options = f"lowerdir={outer.lower},upperdir={outer.upper},workdir={outer.work}"
    run("fuse-overlayfs", "-o", options, outer.mountpoint)
    try:
        stack = Stack.make(outer.mountpoint / "stack")
        for words in ((), ("userxattr",), ("xattr_permissions=2",)):
            with pytest.raises(AssertionError, match="no auto whiteouts on its file system"):
                stack.start(*words)
        write(stack.lower / "file", "text")
        with stack.mounted(read_only=True) as mnt:
            assert (mnt / "file").read_text() == "text"
    finally:
        run("umount", outer.mountpoint)
