"""``index=on``: what the kernel does with it, on the same directories in turn.

The kernel's overlayfs is the judge of each change: the same is done to a twin that it mounts,
and both must show the same and have the same names in their upper directories.
"""

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from overlayfs.linux.files import RENAME_EXCHANGE, renameat2
from tests.support.operations import timeless
from tests.support.served import served
from tests.support.tree import Tree, assert_same, names
from tests.support.union import Stack, is_whiteout, run, write

ON = ("index=on",)
FAR = "far/three"


def fill(stack: Stack) -> None:
    """Files with names in several directories, and one of each kind that matters."""
    near = stack.lower / "near"
    write(near / "one", "old")
    os.setxattr(near / "one", "user.note", b"v")
    (near / "two").hardlink_to(near / "one")
    (stack.lower / "far").mkdir()
    (stack.lower / FAR).hardlink_to(near / "one")
    (near / "link").symlink_to("one")
    os.link(near / "link", stack.lower / "far/link", follow_symlinks=False)
    os.mkfifo(near / "fifo")
    os.link(near / "fifo", stack.lower / "far/fifo")
    write(near / "single", "single")
    # The layer on top has a file of its own of two names, and hides one of another.
    write(stack.lowers[0] / "top/a", "top")
    (stack.lowers[0] / "top/b").hardlink_to(stack.lowers[0] / "top/a")
    write(stack.lower / "hidden/a", "half hidden")
    (stack.lower / "hidden/b").hardlink_to(stack.lower / "hidden/a")
    write(stack.lowers[0] / "hidden/b", "above")


def exchange(one: Path, other: Path) -> None:
    renameat2(-100, os.fsencode(one), -100, os.fsencode(other), RENAME_EXCHANGE)


def append(path: Path) -> None:
    # A fifo without a reader, which may be there by then, is not waited for.
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK)
    try:
        os.write(fd, b", new")
    finally:
        os.close(fd)


def through_a_handle(mnt: Path) -> None:
    """Written by one name that goes amid that."""
    with (mnt / "near/one").open("a") as file:
        (mnt / "near/one").unlink()
        file.write(", and more")


def of_all_names(mnt: Path) -> None:
    for name in ("near/one", "near/two", FAR):
        (mnt / name).unlink()


CHANGES: dict[str, Callable[[Path], object]] = {
    "write": lambda m: append(m / "near/two"),
    "write-far": lambda m: append(m / FAR),
    "truncate": lambda m: (m / "near/one").write_text("short"),
    "chmod": lambda m: (m / "near/one").chmod(0o600),
    "chown-link": lambda m: os.chown(m / "near/link", 5, 6, follow_symlinks=False),
    "chmod-fifo": lambda m: (m / "far/fifo").chmod(0o600),
    "setxattr": lambda m: os.setxattr(m / FAR, "user.new", b"v"),
    "unlink": lambda m: (m / "near/one").unlink(),
    "unlink-far": lambda m: (m / FAR).unlink(),
    "unlink-link": lambda m: (m / "far/link").unlink(),
    "unlink-all": of_all_names,
    "unlink-open": through_a_handle,
    "unlink-on-top": lambda m: (m / "top/a").unlink(),
    "write-half-hidden": lambda m: append(m / "hidden/a"),
    "rename": lambda m: (m / "near/one").rename(m / "near/moved"),
    "rename-far": lambda m: (m / FAR).rename(m / "near/moved"),
    "rename-over": lambda m: (m / "near/one").replace(m / "near/single"),
    "rename-onto": lambda m: (m / "near/single").replace(m / "near/one"),
    "rename-fifo-onto": lambda m: (m / "near/fifo").replace(m / FAR),
    "exchange": lambda m: exchange(m / "near/one", m / "near/single"),
    "exchange-two": lambda m: exchange(m / FAR, m / "near/link"),
    "link": lambda m: (m / "near/new").hardlink_to(m / "near/one"),
    "link-far": lambda m: (m / "new").hardlink_to(m / FAR),
    "remove-folder": lambda m: shutil.rmtree(m / "near"),
    "make-anew": lambda m: ((m / "near/one").unlink(), (m / "near/one").write_text("anew")),
}
# What is done in a second mount to what a first one has left.
AFTERWARDS = ("write-far", "unlink", "unlink-all", "rename-onto", "link-far", "exchange-two")


def did(change: str, mnt: Path) -> str:
    """How *change* ended; after another one some names are gone."""
    try:
        CHANGES[change](mnt)
    except OSError as exc:
        return errno.errorcode[exc.errno or 0]
    return ""


@pytest.fixture
def stack(tmp_path: Path, needs_root: None, needs_fuse: None, needs_kernel_overlay: None) -> Stack:
    made = Stack.make(tmp_path / "ours", lowers=2, options=ON)
    fill(made)
    return made


@pytest.fixture
def quick_disk(tmp_path: Path, needs_root: None) -> Iterator[None]:
    """A file system in memory for the others, on which no unmount waits for a disk."""
    run("mount", "-t", "tmpfs", "tmpfs", tmp_path)
    yield
    run("umount", tmp_path)


@pytest.fixture
def twin(stack: Stack) -> Stack:
    return Stack(Stack.make(stack.base.parent / "twin").base, stack.lowers, ON)


@contextmanager
def by_kernel(stack: Stack) -> Iterator[Path]:
    with stack.by_kernel(index=True, shared=True) as merged:
        yield merged


def kept(stack: Stack) -> dict[str, str]:
    """The names in the upper directory, and what they are."""
    found = {}
    for path in sorted(stack.upper.rglob("*")):
        kind = "whiteout" if is_whiteout(path) else "directory" if path.is_dir() else "file"
        found[str(path.relative_to(stack.upper))] = kind
    return found


def indexed(stack: Stack) -> list[str]:
    """The entries of the index, but for what the kernel leaves of its drafts."""
    return [name for name in names(stack.work / "index") if not name.startswith("#")]


def shown(mnt: Path) -> Tree:
    return timeless(mnt)


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_ends_and_is_kept_as_in_the_kernel(stack: Stack, twin: Stack, change: str) -> None:
    with by_kernel(twin) as merged, served(stack) as mnt:
        assert_same(shown(merged), shown(mnt))
        assert did(change, mnt) == did(change, merged)
        expected = shown(merged)
        assert_same(expected, shown(mnt))
        numbers = {path: (mnt / os.fsdecode(path)).lstat().st_ino for path in expected}
    assert kept(stack) == kept(twin)
    assert indexed(stack) == indexed(twin)
    with served(stack) as mnt:
        assert_same(expected, shown(mnt))
        assert numbers == {path: (mnt / os.fsdecode(path)).lstat().st_ino for path in expected}
    # Each on the directories of the other.
    with by_kernel(stack) as merged:
        assert_same(expected, shown(merged))
    with served(twin) as mnt:
        assert_same(expected, shown(mnt))
    assert indexed(stack) == indexed(twin)


@pytest.mark.parametrize("ours_first", [True, False], ids=["ours-first", "kernel-first"])
@pytest.mark.parametrize("second", AFTERWARDS)
@pytest.mark.parametrize("first", CHANGES)
def test_changes_by_one_and_the_other(
    quick_disk: None, stack: Stack, twin: Stack, first: str, second: str, ours_first: bool
) -> None:
    with by_kernel(twin) as merged:
        ends = [did(first, merged), did(second, merged)]
        expected = shown(merged)
    mounts = (served, by_kernel) if ours_first else (by_kernel, served)
    for mount, change, end in zip(mounts, (first, second), ends, strict=True):
        with mount(stack) as mnt:
            assert did(change, mnt) == end
    for mount in (served, by_kernel):
        with mount(stack) as mnt:
            assert_same(expected, shown(mnt))
    assert kept(stack) == kept(twin)
    assert indexed(stack) == indexed(twin)


def test_the_name_that_is_used_is_the_one_in_the_upper_directory(stack: Stack) -> None:
    """Though all of them were looked at before, in another order."""
    with served(stack) as mnt:
        run("find", mnt, "-ls")
        append(mnt / "near/two")
        for name in ("near/one", "near/two", FAR):
            assert (mnt / name).read_text() == "old, new"
            assert (mnt / name).stat().st_nlink == 3
    assert kept(stack) == {"near": "directory", "near/two": "file"}


def test_writing_through_each_name_in_a_mount_of_its_own(stack: Stack) -> None:
    for name in ("near/one", FAR, "near/two", "near/one"):
        with served(stack) as mnt:
            (mnt / name).write_text(f"through {name}")
        with served(stack) as mnt:
            texts = [(mnt / each).read_text() for each in ("near/two", FAR, "near/one")]
            assert texts == [f"through {name}"] * 3


def test_an_open_file_goes_on_with_the_copy(stack: Stack) -> None:
    with served(stack) as mnt, (mnt / FAR).open() as reader:
        append(mnt / "near/one")
        assert reader.read() == "old, new"
        of_all_names(mnt)
        assert os.fstat(reader.fileno()).st_nlink == 0
        reader.seek(0)
        assert reader.read() == "old, new"
    assert indexed(stack) == []


def test_what_the_kernel_forgot_is_still_one_file(stack: Stack) -> None:
    with served(stack) as mnt:
        append(mnt / "near/one")
        number = (mnt / "near/one").stat().st_ino
        for _ in range(2):
            (mnt / "near").stat()
            Path("/proc/sys/vm/drop_caches").write_text("2")
        append(mnt / FAR)
        found = (mnt / "near/two").stat()
        assert (found.st_ino, found.st_nlink) == (number, 3)
        assert (mnt / "near/two").read_text() == "old, new, new"


@pytest.mark.parametrize("options", [(), ("index=off",)], ids=["nothing-said", "off"])
def test_an_index_that_is_there_is_gone_on_with(stack: Stack, options: tuple[str, ...]) -> None:
    """Who does not ask for it must not see old content for all that."""
    with by_kernel(stack) as merged:
        append(merged / "near/one")
    plain = Stack(stack.base, stack.lowers, options)
    with served(plain) as mnt:
        assert (mnt / FAR).read_text() == "old, new"
        append(mnt / FAR)
    with by_kernel(stack) as merged:
        assert (merged / "near/two").read_text() == "old, new, new"


def test_without_being_asked_for_all_names_are_in_the_upper_directory(stack: Stack) -> None:
    with by_kernel(stack) as merged:
        (merged / "near/single").unlink()  # it leaves a draft in the index, and no entry
    plain = Stack(stack.base, stack.lowers)
    with served(plain) as mnt:
        names(mnt / "far")
        append(mnt / "near/one")
        expected = shown(mnt)
    assert {"near/one", "near/two", FAR} <= kept(stack).keys()
    assert indexed(stack) == []
    with stack.by_kernel() as merged:
        assert_same(expected, shown(merged), but=frozenset({"same_as"}))


def test_a_copy_from_before_the_index_stays_one_file(stack: Stack) -> None:
    plain = Stack(stack.base, stack.lowers)
    with served(plain) as mnt:
        names(mnt / "far")
        append(mnt / "near/one")
    with served(stack) as mnt:
        append(mnt / FAR)
        found = {(mnt / name).read_text() for name in ("near/one", "near/two", FAR)}
        assert found == {"old, new, new"}
        append(mnt / "top/a")
    assert len(indexed(stack)) == 1
    with by_kernel(stack) as merged:
        assert (merged / "near/two").read_text() == "old, new, new"
        assert (merged / "top/b").read_text() == "top, new"


def test_an_index_of_ours_is_not_mixed_with_one_of_the_kernel(stack: Stack) -> None:
    """A name is missing in it, which only that index leads to the copy."""
    plain = Stack(stack.base, stack.lowers)
    with served(plain) as mnt:
        append(mnt / "near/one")
    before = indexed(stack)
    assert len(before) == 1
    with served(stack) as mnt:
        append(mnt / "top/a")
        assert (mnt / FAR).read_text() == "old, new"
        assert (mnt / "top/b").read_text() == "top, new"
    assert {"top/a", "top/b", FAR} <= kept(stack).keys()


def test_other_lower_directories_are_refused(stack: Stack) -> None:
    with served(stack) as mnt:
        append(mnt / "near/one")
    turned = Stack(stack.base, stack.lowers[::-1], ON)
    with pytest.raises(AssertionError, match="its index is one for other directories"):
        turned.start()
    with pytest.raises(AssertionError, match="Stale file handle"), by_kernel(turned):
        pass


def test_what_is_no_entry_is_refused_as_by_the_kernel(stack: Stack) -> None:
    with served(stack) as mnt:
        append(mnt / "near/one")
    write(stack.work / "index/note", "whose?")
    with pytest.raises(AssertionError, match="note in its index is none of overlayfs's"):
        stack.start()
    with pytest.raises(AssertionError), by_kernel(stack):
        pass


def test_what_a_crash_left_in_the_index_is_removed(stack: Stack) -> None:
    with served(stack) as mnt:
        append(mnt / "near/one")
    (entry,) = indexed(stack)
    write(stack.work / "index/#1", "a draft of the kernel's")
    (stack.upper / "near/one").unlink()
    # All other names are hidden, and nobody came to remove the entry.
    os.setxattr(stack.work / "index" / entry, "trusted.overlay.nlink", b"U-1")
    for name in ("near/one", "near/two", "far/three"):
        (stack.upper / name).parent.mkdir(exist_ok=True)
        os.mknod(stack.upper / name, 0o020000, 0)
    with served(stack) as mnt:
        assert names(mnt / "far") == ["fifo", "link"]
    assert names(stack.work / "index") == []


def test_a_file_that_took_the_place_of_what_was_copied_is_another(stack: Stack) -> None:
    """Its handle is another one, whatever its inode."""
    with served(stack) as mnt:
        append(mnt / "top/a")
    top = stack.lowers[0] / "top"
    inode = (top / "a").stat().st_ino
    (top / "a").unlink()
    (top / "b").unlink()
    # Most disks give an inode anew soon, with another generation.
    for number in range(100):
        if write(top / f"new{number}", "later").stat().st_ino == inode:
            break
    (top / f"new{number}").rename(top / "a")
    (stack.lowers[0] / "top/b").hardlink_to(stack.lowers[0] / "top/a")
    with served(stack) as mnt:
        assert (mnt / "top/a").read_text() == "top, new"
        assert (mnt / "top/b").read_text() == "later"
        append(mnt / "top/b")
        assert (mnt / "top/b").read_text() == "later, new"


@pytest.mark.parametrize("more", [("userxattr",), ("xattr_permissions=2",)], ids=str)
def test_where_the_kernel_could_not_it_is_as_without(stack: Stack, more: tuple[str, ...]) -> None:
    plain = Stack(stack.base, stack.lowers, (*ON, *more))
    with served(plain) as mnt:
        names(mnt / "far")
        append(mnt / "near/one")
        assert (mnt / FAR).read_text() == "old, new"
    assert {"near/one", "near/two", FAR} <= kept(stack).keys()
    assert indexed(stack) == []


def test_where_the_disk_has_no_file_handles_it_is_as_without(
    tmp_path: Path, needs_root: None, needs_fuse: None
) -> None:
    run("mount", "-t", "ramfs", "ramfs", tmp_path)
    try:
        stack = Stack.make(tmp_path / "ours", options=ON)
        write(stack.lower / "one", "old")
        (stack.lower / "two").hardlink_to(stack.lower / "one")
        with served(stack) as mnt:
            append(mnt / "two")
            assert (mnt / "one").read_text() == "old, new"
        assert kept(stack) == {"one": "file", "two": "file"}
    finally:
        run("umount", tmp_path)
