"""Attributes: what a local file system does with them, a union does."""

import errno
import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.callers import as_someone, by_root, outcome, refused
from tests.support.tree import names
from tests.support.union import Stack, run, write

CAPABILITY = bytes.fromhex("0100000200200000000000000000000000000000")
DROPPED = {
    "write": 'os.write(os.open(sys.argv[1], os.O_WRONLY), b"x")',
    "append": 'os.write(os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND), b"x")',
    "truncate": "os.truncate(sys.argv[1], 1)",
    "open with O_TRUNC": "os.open(sys.argv[1], os.O_WRONLY | os.O_TRUNC)",
}


@pytest.mark.parametrize("how", DROPPED)
def test_a_change_takes_suid_bits_and_capabilities(open_stack: Stack, how: str) -> None:
    """As on a disk: the bits from another user's file, the capabilities from everybody's."""
    folders = [open_stack.lower, open_stack.upper, open_stack.base / "disk"]
    for top in folders:
        for who in ("someone", "root"):
            path = write(top / f"{top.name}-{who}", "text")
            os.setxattr(path, "security.capability", CAPABILITY)
            path.chmod(0o6777)

    def change(path: Path) -> tuple[str, int, list[str]]:
        assert os.getxattr(path, "security.capability") == CAPABILITY
        by_whom = as_someone if path.name.endswith("someone") else by_root
        said = by_whom(DROPPED[how], path)
        return said, stat.S_IMODE(path.stat().st_mode), os.listxattr(path)

    expected = {who: change(open_stack.base / f"disk/disk-{who}") for who in ("someone", "root")}
    with open_stack.mounted() as mnt:
        for layer in ("lower1", "upper"):
            for who in ("someone", "root"):
                assert change(mnt / f"{layer}-{who}") == expected[who], (layer, who)
    for layer in ("lower1", "upper"):
        mode = (open_stack.upper / f"{layer}-someone").stat().st_mode
        assert stat.S_IMODE(mode) == expected["someone"][1]


def test_opening_for_writing_takes_nothing(open_stack: Stack) -> None:
    write(open_stack.lower / "file", "text", mode=0o6777)
    with open_stack.mounted() as mnt:
        as_someone("os.open(sys.argv[1], os.O_RDWR)", mnt / "file")
        assert stat.S_IMODE((mnt / "file").stat().st_mode) == 0o6777


@pytest.mark.parametrize("where", ["lower", "upper"])
def test_chown_takes_suid_bits(stack: Stack, where: str) -> None:
    layer = stack.lower if where == "lower" else stack.upper
    write(layer / "program", "x", mode=0o6755)
    write(layer / "no-group-execution", "x", mode=0o6745)
    (layer / "dir").mkdir()
    (layer / "dir").chmod(0o6755)
    disk = stack.base / "disk"
    run("cp", "-a", layer, disk)
    with stack.mounted() as mnt:
        for name in ("program", "no-group-execution", "dir"):
            for top in (mnt, disk):
                os.chown(top / name, 5, 6)
            found = (mnt / name).stat()
            assert (found.st_uid, found.st_gid) == (5, 6)
            assert oct(found.st_mode) == oct((disk / name).stat().st_mode)


def test_chmod_and_chown_of_one_thing_leave_the_other(stack: Stack) -> None:
    write(stack.lower / "file", "text", mode=0o640)
    os.chown(stack.lower / "file", 7, 8)
    with stack.mounted() as mnt:
        os.chown(mnt / "file", -1, 9)
        (mnt / "file").chmod(0o4755)
        os.chown(mnt / "file", -1, -1)
        found = (mnt / "file").stat()
        assert (found.st_uid, found.st_gid) == (7, 9)


def test_flags_and_errors_of_extended_attributes(stack: Stack) -> None:
    write(stack.lower / "file")
    os.setxattr(stack.lower / "file", "user.there", b"value")
    with stack.mounted() as mnt:
        path = mnt / "file"
        with refused(errno.EEXIST):
            os.setxattr(path, "user.there", b"new", os.XATTR_CREATE)
        with refused(errno.ENODATA):
            os.setxattr(path, "user.new", b"new", os.XATTR_REPLACE)
        with refused(errno.ENODATA):
            os.getxattr(path, "user.new")
        with refused(errno.ENODATA):
            os.removexattr(path, "user.new")
        assert os.getxattr(path, "user.there") == b"value"
        assert list(stack.upper.iterdir()) == []
        os.setxattr(path, "user.new", b"", os.XATTR_CREATE)
        os.setxattr(path, "user.there", b"x" * 3000, os.XATTR_REPLACE)
        os.setxattr(path, b"user.\xff", b"\0")
        assert sorted(os.listxattr(path)) == ["user.new", "user.there", "user.\udcff"]
        assert os.getxattr(path, "user.there") == b"x" * 3000
        os.removexattr(path, "user.new")
        with refused(errno.EOPNOTSUPP):
            os.setxattr(path, "nonsense.name", b"")
        with refused(errno.ENOSPC):
            os.setxattr(path, "user.much", b"x" * 60000)


@pytest.mark.parametrize("name", ["nonsense.name", "system.nonsense", "user.none"])
def test_names_outside_of_every_namespace_are_not_supported(stack: Stack, name: str) -> None:
    disk = write(stack.base / "disk")
    write(stack.lower / "lower")
    write(stack.upper / "upper")

    def outcomes(path: Path) -> list[str]:
        return [
            outcome(lambda: os.getxattr(path, name)),
            outcome(lambda: os.removexattr(path, name)),
            outcome(lambda: os.setxattr(path, name, b"", os.XATTR_REPLACE)),
        ]

    with stack.mounted() as mnt:
        for layer in ("lower", "upper"):
            assert outcomes(mnt / layer) == outcomes(disk)


@pytest.mark.parametrize("name", ["system.posix_acl_access", "system.posix_acl_default"])
def test_removing_an_access_list_that_is_not_there(stack: Stack, name: str) -> None:
    (stack.base / "disk").mkdir()
    (stack.lower / "lower").mkdir()
    (stack.upper / "upper").mkdir()
    with stack.mounted() as mnt:
        for path in (stack.base / "disk", mnt / "lower", mnt / "upper"):
            os.removexattr(path, name)
            assert os.listxattr(path) == []


def test_others_do_not_see_trusted_attributes(open_stack: Stack) -> None:
    path = write(open_stack.lower / "file")
    for name in ("trusted.t", "user.u"):
        os.setxattr(path, name, b"")
    with open_stack.mounted() as mnt:
        assert sorted(os.listxattr(mnt / "file")) == ["trusted.t", "user.u"]
        assert as_someone("print(os.listxattr(sys.argv[1]))", mnt / "file") == "['user.u']"


def test_a_capability_that_cannot_be_read_spoils_nothing(stack: Stack) -> None:
    """Anybody can set one to nothing, on any file, and then getxattr(2) says EINVAL."""
    path = write(stack.lower / "file", "text")
    os.setxattr(path, "user.u", b"v")
    os.setxattr(path, "security.capability", b"")
    with stack.mounted() as mnt:
        assert (mnt / "file").read_text() == "text"
        assert os.listxattr(mnt / "file") == ["user.u"]
        (mnt / "file").chmod(0o600)
        assert (mnt / "file").read_text() == "text"
    assert os.getxattr(stack.upper / "file", "user.u") == b"v"


GETXATTR = """
import ctypes, errno, os, sys
libc = ctypes.CDLL(None, use_errno=True)
path, buffer = os.fsencode(sys.argv[1]), ctypes.create_string_buffer(100)
for call in (
    lambda size: libc.getxattr(path, b"user.there", buffer, size),
    lambda size: libc.listxattr(path, buffer, size),
):
    for size in (0, 1, 100):
        done = call(size)
        print(done if done >= 0 else errno.errorcode[ctypes.get_errno()])
"""


def test_a_buffer_that_is_too_small(stack: Stack) -> None:
    write(stack.lower / "file")
    os.setxattr(stack.lower / "file", "user.there", b"value")
    with stack.mounted() as mnt:
        said = run(sys.executable, "-c", GETXATTR, mnt / "file").split()
        assert said == ["5", "ERANGE", "5", "11", "ERANGE", "11"]


def test_links_and_special_files_have_trusted_attributes(stack: Stack) -> None:
    (stack.lower / "link").symlink_to("nowhere")
    os.mkfifo(stack.lower / "fifo")
    with stack.mounted() as mnt:
        for name in ("link", "fifo"):
            os.setxattr(mnt / name, "trusted.a", b"v", follow_symlinks=False)
            with refused(errno.EPERM):
                os.setxattr(mnt / name, "user.a", b"v", follow_symlinks=False)
            assert os.listxattr(mnt / name, follow_symlinks=False) == ["trusted.a"]
    with stack.mounted() as mnt:
        assert os.getxattr(mnt / "link", "trusted.a", follow_symlinks=False) == b"v"


def test_attributes_of_overlays_are_a_guests_own(stack: Stack) -> None:
    """Set through the mount they mean nothing to it, and nothing of its own is shown."""
    for name in ("a", "b"):
        write(stack.lower / f"dir/{name}", "lower")
    with stack.mounted() as mnt:
        (mnt / "dir/a").unlink()
        os.setxattr(mnt / "dir", "trusted.overlay.opaque", b"y")
        os.setxattr(mnt / "dir/b", "trusted.overlay.whiteout", b"")
        os.setxattr(mnt / "dir", "trusted.overlay.overlay.opaque", b"x")
        assert sorted(os.listxattr(mnt / "dir")) == [
            "trusted.overlay.opaque",
            "trusted.overlay.overlay.opaque",
        ]
    with stack.mounted() as mnt:
        assert names(mnt / "dir") == ["b"]
        assert os.getxattr(mnt / "dir", "trusted.overlay.opaque") == b"y"
        assert os.getxattr(mnt / "dir", "trusted.overlay.overlay.opaque") == b"x"
        assert os.listxattr(mnt / "dir/b") == ["trusted.overlay.whiteout"]


def test_the_kernels_overlay_of_directories_inside(
    stack: Stack, needs_kernel_overlay: None
) -> None:
    """Layers kept in a union, as a container that builds images has them."""
    with stack.mounted() as mnt:
        inner = Stack(mnt / "inner", (mnt / "inner/top", mnt / "inner/base"))
        for layer in inner.lowers:
            write(layer / f"dir/{layer.name}", layer.name)
            write(layer / f"hidden/{layer.name}", layer.name)
        os.setxattr(mnt / "inner/top/hidden", "trusted.overlay.opaque", b"y")
        merged = mnt / "inner/merged"
        merged.mkdir()
        lowers = ":".join(str(layer) for layer in inner.lowers)
        run("mount", "-t", "overlay", "overlay", "-o", f"lowerdir={lowers}", merged)
        try:
            assert names(merged / "dir") == ["base", "top"]
            assert names(merged / "hidden") == ["top"]
        finally:
            run("umount", merged)


def test_an_overlay_of_ours_inside(stack: Stack) -> None:
    """The upper directory of one mount lies in another: no character device, but all the rest."""
    write(stack.lower / "layer/dir/file", "text")
    with stack.mounted() as mnt:
        inner = Stack.make(mnt / "inner")
        run("cp", "-a", f"{mnt}/layer/.", inner.lower)
        with inner.mounted() as again:
            (again / "dir/file").write_text("changed")
            write(again / "dir/new", "new")
        with inner.mounted() as again:
            assert names(again / "dir") == ["file", "new"]
            assert (again / "dir/file").read_text() == "changed"


@pytest.mark.parametrize("when", [0, 1, -1, 1_700_000_000_123_456_789, -2_000_000_000_000_000_007])
def test_times_are_kept_to_the_nanosecond(stack: Stack, when: int) -> None:
    write(stack.lower / "file")
    with stack.mounted() as mnt:
        os.utime(mnt / "file", ns=(when, when + 1))
        found = (mnt / "file").stat()
        assert (found.st_atime_ns, found.st_mtime_ns) == (when, when + 1)
    with stack.mounted() as mnt:
        found = (mnt / "file").stat()
        assert (found.st_atime_ns, found.st_mtime_ns) == (when, when + 1)


@pytest.mark.parametrize("where", ["lower", "upper"])
def test_what_moves_which_time(stack: Stack, where: str) -> None:
    layer = stack.lower if where == "lower" else stack.upper
    old = (1_000_000_000, 1_000_000_001)

    def moved(act: Callable[[Path], object]) -> set[str]:
        with stack.mounted() as mnt:
            before = {p: p.lstat() for p in (mnt / "dir", mnt / "dir/file")}
            act(mnt / "dir")
            after = {p: p.lstat() for p in before if os.path.lexists(p)}
        return {
            path.name for path, st in after.items() if st.st_mtime_ns != before[path].st_mtime_ns
        }

    expected: dict[str, tuple[Callable[[Path], object], set[str]]] = {
        "write": (lambda d: (d / "file").write_text("x"), {"file"}),
        "empty truncation": (lambda d: os.truncate(d / "file", 4), {"file"}),
        "chmod": (lambda d: (d / "file").chmod(0o600), set()),
        "link": (lambda d: (d / "new").hardlink_to(d / "file"), {"dir"}),
        "mkdir": (lambda d: (d / "new").mkdir(), {"dir"}),
        "unlink": (lambda d: (d / "other").unlink(), {"dir"}),
        "rename": (lambda d: (d / "other").rename(d / "third"), {"dir"}),
        "open": (lambda d: (d / "file").open("a").close(), set()),
    }
    for name, (act, what) in expected.items():
        for top in (stack.lower, stack.upper):
            run("rm", "-rf", top)
            top.mkdir()
        write(layer / "dir/file", "text")
        write(layer / "dir/other", "text")
        for path in ("dir/file", "dir/other", "dir"):
            os.utime(layer / path, ns=old)
        assert moved(act) == what, name
