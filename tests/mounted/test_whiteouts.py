"""The three ways of hiding a name: as asked for, or the first that the upper file system can do."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.callers import outcome
from tests.support.tree import assert_same, names, snapshot
from tests.support.union import Stack, is_whiteout, write

OPAQUE, WHITEOUT = "trusted.overlay.opaque", "trusted.overlay.whiteout"


def fill(stack: Stack) -> None:
    for name in ("gone", "moved", "made-anew", "dir/gone", "dir/moved", "again/old/deep"):
        write(stack.lower / name, name)
    write(stack.lower / "away/file")
    write(stack.lower / "emptied/file")
    (stack.lower / "empty").mkdir()


def change(mnt: Path) -> None:
    """Each way in which a name comes to be hidden, and to show again."""
    (mnt / "gone").unlink()
    (mnt / "dir/gone").unlink()
    (mnt / "moved").rename(mnt / "dir/moved")
    (mnt / "made-anew").unlink()
    (mnt / "made-anew").mkdir()
    (mnt / "made-anew").rmdir()
    write(mnt / "made-anew", "anew")
    shutil.rmtree(mnt / "again")
    write(mnt / "again/new", "new")
    shutil.rmtree(mnt / "away")
    (mnt / "emptied/file").unlink()
    write(mnt / "folder/file", "in a folder")
    (mnt / "folder").rename(mnt / "emptied")
    write(mnt / "other/file", "in another")
    (mnt / "other").rename(mnt / "empty")


SHOWN = [
    *("again", "again/new", "dir", "dir/moved"),
    *("emptied", "emptied/file", "empty", "empty/file", "made-anew"),
]


def shown(mnt: Path) -> list[str]:
    return sorted(str(path.relative_to(mnt)) for path in mnt.rglob("*"))


def is_attribute(path: Path) -> bool:
    return path.read_bytes() == b"" and WHITEOUT in os.listxattr(path)


def is_marker(path: Path) -> bool:
    return path.with_name(f".wh.{path.name}").read_bytes() == b""


KINDS: dict[str, Callable[[Path], bool]] = {
    "device": is_whiteout,
    "xattr": is_attribute,
    "oci": is_marker,
}


@pytest.mark.parametrize("kind", KINDS)
def test_names_are_hidden_in_the_way_that_was_asked_for(stack: Stack, kind: str) -> None:
    fill(stack)
    option = f"whiteouts={kind}"
    with stack.mounted(option) as mnt:
        change(mnt)
        assert shown(mnt) == SHOWN
        live = snapshot(mnt)
        assert names(stack.work / "work") == []
    assert all(KINDS[kind](stack.upper / name) for name in ("gone", "dir/gone", "away", "moved"))
    with stack.mounted(option) as mnt:
        assert_same(live, snapshot(mnt))
        (mnt / "dir/gone").touch()
        assert "gone" in names(mnt / "dir")
        (mnt / "dir/gone").unlink()
    with stack.mounted(option) as mnt:
        assert_same(live, snapshot(mnt), but=frozenset({"mtime_ns"}))


@pytest.mark.parametrize("kind", ["device", "xattr"])
def test_the_kernel_reads_these(stack: Stack, needs_kernel_overlay: None, kind: str) -> None:
    """The second since 6.7: overlayfs.rst, "Whiteouts and opaque directories"."""
    fill(stack)
    with stack.mounted(f"whiteouts={kind}") as mnt:
        change(mnt)
        live = snapshot(mnt)
    below = Stack(Stack.make(stack.base / "second").base, (stack.upper, *stack.lowers))
    with below.by_kernel(read_only=True) as merged:
        assert_same(live, snapshot(merged))
    with below.mounted(read_only=True) as mnt:
        assert_same(live, snapshot(mnt))


def test_markers_leave_no_room_for_names_like_them(stack: Stack) -> None:
    """Such a name would hide another one at the next mount."""
    write(stack.lower / "file", "text")
    with stack.mounted("whiteouts=oci") as mnt:
        for make in (
            lambda: (mnt / ".wh.file").touch(),
            lambda: (mnt / ".wh.file").mkdir(),
            lambda: (mnt / ".wh..wh..opq").symlink_to("x"),
            lambda: (mnt / ".wh.link").hardlink_to(mnt / "file"),
            lambda: (mnt / "file").rename(mnt / ".wh.moved"),
        ):
            assert outcome(make) == "EINVAL"
        assert names(mnt) == ["file"]


@pytest.mark.parametrize(
    ("outer", "kind"), [((), "xattr"), (("noxattrs=1",), "oci")], ids=["union", "no-attributes"]
)
def test_without_being_asked_it_is_what_the_upper_file_system_can_do(
    stack: Stack, outer: tuple[str, ...], kind: str
) -> None:
    """A union makes no device 0:0; the second one has no attributes either."""
    with stack.mounted(*outer) as around:
        inner = Stack.make(around / "inner")
        fill(inner)
        with inner.mounted() as mnt:
            change(mnt)
            assert shown(mnt) == SHOWN
            if outer:
                assert outcome(lambda: os.setxattr(mnt / "again", "user.a", b"")) == "ENOTSUP"
        assert KINDS[kind](inner.upper / "gone")
        with inner.mounted() as mnt:
            assert shown(mnt) == SHOWN
