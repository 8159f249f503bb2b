"""Files whose attributes were changed and whose data stays in a lower layer (metacopy=on)."""

import mmap
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from overlayfs.linux.files import RENAME_EXCHANGE
from tests.mounted.test_copy_up import CAPABILITY, bytes_read
from tests.support.callers import outcome, rename
from tests.support.tree import assert_same, names, snapshot
from tests.support.union import Daemon, Stack, run, start, write

OPTIONS = ("redirect_dir=on", "metacopy=on")
METACOPY, REDIRECT = "trusted.overlay.metacopy", "trusted.overlay.redirect"
KIB, MIB = 1 << 10, 1 << 20
OLD_NS = (1_234_567_890_123_456_789, 987_654_321_098_765_432)


@pytest.fixture
def stack(tmp_path: Path, needs_root: None, needs_fuse: None) -> Stack:
    """Two empty lower directories and an upper one that takes attributes without data."""
    return Stack.make(tmp_path / "stack", lowers=2, options=OPTIONS)


@contextmanager
def served(stack: Stack, *options: str) -> Iterator[Daemon]:
    """*stack* mounted, and its daemon."""
    daemon = stack.start(*options)
    try:
        yield daemon
        daemon.unmount()
    finally:
        if daemon.process.poll() is None:
            daemon.abandon()


def has_data(path: Path) -> bool:
    """Whether a file of an upper directory is all there."""
    return METACOPY not in os.listxattr(path)


# -- what changes without data -------------------------------------------------------------


def make_large(stack: Stack) -> None:
    """Large files, one sparse and one with two names."""
    top, base = stack.lowers
    write(base / "dir/random", os.urandom(10 * MIB), mode=0o4755)
    write(top / "dir/sub/of-top", os.urandom(3 * MIB + 5))
    write(base / "dir/linked", os.urandom(3 * MIB))
    (base / "dir/again").hardlink_to(base / "dir/linked")
    write(base / "dir/empty")
    write(base / "dir/small", "small")
    write(base / ("dir/" + "/".join(["x" * 100] * 3)) / "deep", os.urandom(MIB))
    with (base / "dir/sparse").open("wb") as file:
        file.truncate(50 * MIB)
        file.seek(20 * MIB)
        file.write(b"data")
    for path in [*base.rglob("*"), *top.rglob("*")]:
        os.utime(path, ns=OLD_NS)


def change_attributes(root: Path) -> None:
    """All that needs no data."""
    run("chown", "-R", "5:6", root / "dir")
    run("chmod", "-R", "g+w", root / "dir")
    for path in sorted(root.glob("dir/*")):
        run("setfattr", "-n", "user.note", "-v", path.name, path)
    run("setfacl", "-m", "u:7:r", root / "dir/random")
    run("touch", "-h", "-d", "2001-02-03 04:05:06.789", root / "dir/random", root / "dir/sparse")
    (root / "dir/sub/linked").hardlink_to(root / "dir/random")
    (root / "dir/sub/of-top").rename(root / "moved")
    (root / "dir/small").rename(root / "dir/sub/small")
    (root / "dir/sub").rename(root / "sub")


def stats(root: Path) -> dict[str, tuple[int, ...]]:
    """What the kernel and we must agree on, blocks and times included."""
    found = {}
    for path in sorted(root.rglob("*")):
        st = path.lstat()
        blocks = 0 if path.is_dir() or not st.st_size else st.st_blocks
        found[str(path.relative_to(root))] = (
            *(st.st_mode, st.st_uid, st.st_gid, st.st_size if not path.is_dir() else 0, blocks),
            *(min(st.st_mtime_ns, 1_700_000_000 * 10**9), st.st_nlink if not path.is_dir() else 0),
        )
    return found


def test_changes_of_attributes_copy_no_data(stack: Stack, needs_kernel_overlay: None) -> None:
    make_large(stack)
    whole = {path.stat().st_ino: path.stat().st_blocks for path in stack.base.rglob("lower*/**/*")}
    assert sum(whole.values()) * 512 > 17 * MIB
    twin = Stack(Stack.make(stack.base / "twin").base, stack.lowers, OPTIONS)
    with twin.by_kernel(index=True) as merged:
        change_attributes(merged)
        expected = stats(merged)
        whole_tree = snapshot(merged)
    with served(stack) as daemon:
        names(stack.mountpoint / "dir")
        before = bytes_read(daemon.pid)
        change_attributes(stack.mountpoint)
        assert stats(stack.mountpoint) == expected
        assert bytes_read(daemon.pid) - before < 200 * KIB
        live = snapshot(stack.mountpoint)
        assert_same(whole_tree, live, but=frozenset({"mtime_ns"}))
    # Nowhere more than attributes take, and for most not even a block.
    taken = [path.lstat().st_blocks * 512 for path in stack.upper.rglob("*") if path.is_file()]
    assert max(taken) <= 4 * KIB
    assert len(taken) == 9
    with stack.mounted() as mnt:
        assert stats(mnt) == expected
        assert_same(live, snapshot(mnt))
    with stack.by_kernel() as merged:
        assert stats(merged) == expected
        assert_same(live, snapshot(merged))
    # The kernel's index has a name of each of its files, which we count.
    with twin.mounted() as mnt:
        uncounted = {name: each[:-1] for name, each in stats(mnt).items()}
        assert uncounted == {name: each[:-1] for name, each in expected.items()}


def test_a_changed_mode_takes_no_block(stack: Stack) -> None:
    """What says where the data is fits beside the inode (ext4, 256 bytes)."""
    for number in range(20):
        write(stack.lower / f"dir/{number}", os.urandom(10 * KIB))
    with stack.mounted() as mnt:
        run("chmod", "-R", "o=", mnt / "dir")
    assert {path.lstat().st_blocks for path in (stack.upper / "dir").iterdir()} == {0}


# -- the data comes ------------------------------------------------------------------------


def mapped(path: Path) -> None:
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as area:
        area[1000:1003] = b"MAP"
        area.flush()


def synced(path: Path) -> None:
    with path.open("r+b", buffering=0) as file:
        file.seek(1000)
        file.write(b"MAP")
        os.fsync(file.fileno())


def put(path: Path, at: int, data: bytes, flags: int = os.O_WRONLY) -> None:
    fd = os.open(path, flags)
    os.pwrite(fd, data, at)
    os.close(fd)


WRITES: dict[str, tuple[Callable[[Path], object], Callable[[bytes], bytes]]] = {
    "write": (lambda p: put(p, 1000, b"MAP"), lambda old: old[:1000] + b"MAP" + old[1003:]),
    "map": (mapped, lambda old: old[:1000] + b"MAP" + old[1003:]),
    "sync": (synced, lambda old: old[:1000] + b"MAP" + old[1003:]),
    "append": (
        lambda p: put(p, 0, b"more", os.O_WRONLY | os.O_APPEND),
        lambda old: old + b"more",
    ),
    "open-and-truncate": (lambda p: put(p, 0, b"x", os.O_WRONLY | os.O_TRUNC), lambda _: b"x"),
    "empty": (lambda p: os.truncate(p, 0), lambda _: b""),
    "cut": (lambda p: os.truncate(p, 1005), lambda old: old[:1005]),
    "lengthen": (lambda p: os.truncate(p, 700_000), lambda old: old.ljust(700_000, b"\0")),
    "write-beyond-the-end": (
        lambda p: put(p, 700_000, b"far"),
        lambda old: old.ljust(700_000, b"\0") + b"far",
    ),
    "through-an-alias": (
        lambda p: put(p.with_name("alias"), 1000, b"MAP"),
        lambda old: old[:1000] + b"MAP" + old[1003:],
    ),
    "nothing": (lambda p: os.close(os.open(p, os.O_RDWR)), lambda old: old),
}


def test_every_way_of_writing_brings_the_data(stack: Stack) -> None:
    """For readers and mappings from before and after, small files and large ones."""
    old = {size: os.urandom(size) for size in (5000, 600_000)}
    for size, data in old.items():
        for way in WRITES:
            write(stack.lower / f"{way}-{size}/file", data)
    expected = {}
    with stack.mounted() as mnt:
        for size, data in old.items():
            for way, (act, effect) in WRITES.items():
                path = mnt / f"{way}-{size}/file"
                before = path.open("rb", buffering=0)
                path.chmod(0o600)
                path.with_name("alias").hardlink_to(path)
                os.setxattr(path, "user.note", b"v")
                assert not has_data(stack.upper / f"{way}-{size}/file")
                between = path.open("rb", buffering=0)
                area = mmap.mmap(between.fileno(), size, mmap.MAP_SHARED, mmap.PROT_READ)
                assert os.pread(between.fileno(), size, 0) == data
                act(path)
                wanted = expected[f"{way}-{size}/file"] = effect(data)
                for reader in (before, between):
                    assert os.pread(reader.fileno(), len(wanted) + 1, 0) == wanted, way
                    assert os.fstat(reader.fileno()).st_size == len(wanted), way
                kept = min(size, len(wanted))
                assert area[:kept] == wanted[:kept]
                assert path.read_bytes() == path.with_name("alias").read_bytes() == wanted
                area.close()
                before.close()
                between.close()
                assert has_data(stack.upper / f"{way}-{size}/file")
                assert REDIRECT not in os.listxattr(stack.upper / f"{way}-{size}/file")
        live = snapshot(mnt)
    for mounted in (stack.mounted, stack.by_kernel):
        with mounted() as mnt:
            assert {name: (mnt / name).read_bytes() for name in expected} == expected
            assert_same(live, snapshot(mnt))


def test_data_that_nobody_needs_is_not_copied(stack: Stack) -> None:
    write(stack.lower / "emptied", os.urandom(30 * MIB))
    write(stack.lower / "cut", os.urandom(30 * MIB))
    with served(stack) as daemon:
        mnt = stack.mountpoint
        for name in ("emptied", "cut"):
            (mnt / name).chmod(0o600)
        before = bytes_read(daemon.pid)
        (mnt / "emptied").write_bytes(b"new")
        os.truncate(mnt / "cut", 5000)
        assert bytes_read(daemon.pid) - before < MIB
        with (stack.lower / "cut").open("rb") as lower:
            assert (mnt / "cut").read_bytes() == lower.read(5000)


def test_holes_stay_holes(stack: Stack) -> None:
    with (stack.lower / "sparse").open("wb") as file:
        file.truncate(200 * MIB)
        file.seek(100 * MIB)
        file.write(b"data")
    with stack.mounted() as mnt:
        (mnt / "sparse").chmod(0o600)
        assert (mnt / "sparse").stat().st_blocks == (stack.lower / "sparse").stat().st_blocks
        put(mnt / "sparse", 5, b"x")
        assert (mnt / "sparse").stat().st_blocks * 512 < 64 * KIB
        with (mnt / "sparse").open("rb") as file:
            file.seek(100 * MIB)
            assert file.read(5) == b"data\0"


@pytest.mark.parametrize("size", [10, 500_000])
def test_what_a_write_would_take_stays_when_nobody_writes(stack: Stack, size: int) -> None:
    """Opening for writing brings the data, which is no change: suid, capabilities, times."""
    write(stack.lower / "file", os.urandom(size))
    os.setxattr(stack.lower / "file", "security.capability", CAPABILITY)
    os.utime(stack.lower / "file", ns=OLD_NS)
    with stack.mounted() as mnt:
        path = mnt / "file"
        (mnt / "alias").hardlink_to(path)
        path.chmod(0o6755)
        os.setxattr(path, "user.note", b"v")
        before = path.stat()
        assert os.getxattr(path, "security.capability") == CAPABILITY
        fd = os.open(path, os.O_RDWR)
        assert has_data(stack.upper / "file")
        after = path.stat()
        assert (after.st_mode, after.st_mtime_ns) == (0o106755, OLD_NS[1])
        assert (after.st_ino, after.st_nlink) == (before.st_ino, 2)
        assert os.getxattr(path, "security.capability") == CAPABILITY
        os.pwrite(fd, b"x", 0)
        os.close(fd)
        assert "security.capability" not in os.listxattr(path)
        assert path.stat().st_mtime_ns > OLD_NS[1]


def test_what_is_changed_while_the_data_comes_stays(stack: Stack) -> None:
    write(stack.lower / "large", os.urandom(150 * MIB), mode=0o6755)
    with stack.mounted() as mnt:
        path = mnt / "large"
        os.chown(path, 5, 6)
        path.chmod(0o6755)
        opened = threading.Thread(target=lambda: path.open("r+b").close())
        opened.start()
        # Whether the copy has begun, is under way or over.
        for number in range(50):
            path.chmod(0o4700 + number)
            os.utime(path, ns=(number, number))
            os.setxattr(path, "security.capability", CAPABILITY)
            os.setxattr(path, "user.note", b"%d" % number)
        opened.join()
        assert has_data(stack.upper / "large")
        found = path.stat()
        assert (found.st_mode, found.st_mtime_ns) == (0o104761, 49)
        assert os.getxattr(path, "security.capability") == CAPABILITY
        assert os.getxattr(path, "user.note") == b"49"
        run("cmp", path, stack.lower / "large")


def test_names_come_and_go_while_the_data_comes(stack: Stack) -> None:
    write(stack.lower / "d/large", os.urandom(99 * MIB) + bytes(MIB))
    with stack.mounted() as mnt:
        (mnt / "d/large").chmod(0o600)
        opened = threading.Thread(target=lambda: (mnt / "d/large").open("r+b").close())
        opened.start()
        reader = os.open(mnt / "d/large", os.O_RDONLY)
        (mnt / "d/link").hardlink_to(mnt / "d/large")
        (mnt / "d").rename(mnt / "moved")
        (mnt / "moved/large").rename(mnt / "moved/renamed")
        assert os.pread(reader, 10, 99 * MIB) == bytes(10)
        opened.join()
        os.close(reader)
        run("cmp", mnt / "moved/renamed", stack.lower / "d/large")
        (mnt / "moved/renamed").unlink()
        put(mnt / "moved/link", 0, b"x")
        assert (mnt / "moved/link").stat().st_size == 100 * MIB


def test_a_hundred_files_at_once(stack: Stack) -> None:
    old = {number: os.urandom(1000 + 3000 * number) for number in range(100)}
    for number, data in old.items():
        write(stack.lower / f"d{number % 7}/{number}", data)

    def work(number: int) -> None:
        path = stack.mountpoint / f"d{number % 7}/{number}"
        os.chown(path, number, 5)
        assert path.read_bytes() == old[number]
        path = path.rename(path.with_name(f"new{number}"))
        path.chmod(0o640)
        put(path, 100, b"mine")
        os.chown(path, 5, number)

    with stack.mounted() as mnt, ThreadPoolExecutor(10) as threads:
        for done in [threads.submit(work, number) for number in old]:
            done.result()
        live = snapshot(mnt)
        for number, data in old.items():
            path = mnt / f"d{number % 7}/new{number}"
            assert path.read_bytes() == data[:100] + b"mine" + data[104:]
            assert (path.stat().st_uid, path.stat().st_gid) == (5, number)
        assert names(stack.work / "work") == []
    with stack.by_kernel() as merged:
        assert_same(live, snapshot(merged))


# -- without a name ------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["us", "kernel"])
@pytest.mark.parametrize("size", [5000, 600_000])
def test_an_unlinked_file_is_read_and_written_on(stack: Stack, size: int, by: str) -> None:
    """One that the kernel copied up says nowhere where its data is."""
    old = os.urandom(size)
    for name in ("written", "cut", "changed"):
        write(stack.lower / "d" / name, old)
    mounted = stack.mounted if by == "us" else stack.by_kernel
    with mounted() as mnt:
        run("chmod", "600", *(mnt / "d").iterdir())
    with stack.mounted() as mnt:
        fds = {path.name: os.open(path, os.O_RDONLY) for path in (mnt / "d").iterdir()}
        held = os.open(mnt / "d/cut", os.O_PATH)
        for path in (mnt / "d").iterdir():
            path.unlink()
        (mnt / "d").rename(mnt / "moved")
        write(mnt / "d/written", "another")
        for fd in fds.values():
            os.fchmod(fd, 0o4711)
            os.setxattr(fd, "user.note", b"unlinked")
            assert (os.fstat(fd).st_size, os.fstat(fd).st_nlink) == (size, 0)
            assert os.pread(fd, size, 0) == old
        writer = os.open(f"/proc/self/fd/{fds['written']}", os.O_RDWR)
        os.pwrite(writer, b"NEW", 10)
        assert os.pread(fds["written"], size, 0) == old[:10] + b"NEW" + old[13:]
        os.fsync(writer)
        os.close(fds.pop("cut"))
        os.truncate(f"/proc/self/fd/{held}", 100)
        again = os.open(f"/proc/self/fd/{held}", os.O_RDONLY)
        assert os.pread(again, size, 0) == old[:100]
        os.fchown(fds["changed"], 5, 6)
        assert os.pread(fds["changed"], size, 0) == old
        assert os.getxattr(fds["changed"], "user.note") == b"unlinked"
        for fd in (*fds.values(), writer, again, held):
            os.close(fd)
        assert names(mnt / "moved") == []
        assert names(stack.work / "work") == []


# -- no room -------------------------------------------------------------------------------


@contextmanager
def small_upper(stack: Stack) -> Iterator[tuple[Path, Path]]:
    """The mount point of *stack*, with 3 MiB for changes, and where those are."""
    run("mount", "-t", "tmpfs", "-o", "size=3m", "none", stack.upper)
    try:
        for name in ("upper", "work"):
            (stack.upper / name).mkdir()
        command = stack.command()
        words = command[-2].replace(str(stack.work), str(stack.upper / "work"))
        words = words.replace(f"upperdir={stack.upper}", f"upperdir={stack.upper}/upper")
        daemon = start([*command[:-2], words, command[-1]], stack.mountpoint, stack.base)
        try:
            yield stack.mountpoint, stack.upper / "upper"
            daemon.unmount()
        finally:
            if daemon.process.poll() is None:
                daemon.abandon()
    finally:
        run("umount", stack.upper)


def free(path: Path) -> int:
    found = os.statvfs(path)
    return found.f_bfree * found.f_bsize


def test_data_for_which_there_is_no_room_stays_where_it_is(stack: Stack) -> None:
    old = os.urandom(5 * MIB)
    write(stack.lower / "large", old)
    os.setxattr(stack.lower / "large", "security.capability", CAPABILITY)
    os.utime(stack.lower / "large", ns=OLD_NS)
    with small_upper(stack) as (mnt, upper):
        path = mnt / "large"
        path.chmod(0o4755)
        room = free(upper)
        with path.open("rb") as reader:
            assert outcome(lambda: path.open("r+b")) == "ENOSPC"
            assert os.getxattr(path, "security.capability") == CAPABILITY
            # These drop capabilities, before anybody knows how they end.
            for attempt in (
                lambda: os.truncate(path, 4 * MIB),
                lambda: os.truncate(path, 6 * MIB),
            ):
                assert outcome(attempt) == "ENOSPC"
                assert reader.seek(0) == 0
                assert reader.read() == old
                found = path.stat()
                assert (found.st_mode, found.st_size) == (0o104755, 5 * MIB)
                assert (found.st_mtime_ns, found.st_blocks) == (OLD_NS[1], 5 * MIB // 512)
                assert free(upper) == room
                assert not has_data(upper / "large")
        assert path.read_bytes() == old
        os.truncate(path, MIB)
        assert path.read_bytes() == old[:MIB]
        path.write_bytes(b"new")
        assert path.read_bytes() == b"new"


# -- who else reads it ---------------------------------------------------------------------


def test_without_the_option_what_has_no_data_yet_can_be_used(stack: Stack) -> None:
    write(stack.lower / "d/file", "lower" * 1000)
    write(stack.lower / "d/other", "other" * 1000)
    with stack.mounted() as mnt:
        for path in (mnt / "d").iterdir():
            path.chmod(0o600)
        (mnt / "d/file").rename(mnt / "d/moved")
    plain = Stack(stack.base, stack.lowers)
    with plain.mounted() as mnt:
        assert (mnt / "d/moved").read_text() == "lower" * 1000
        (mnt / "d/other").rename(mnt / "other")
        put(mnt / "other", 0, b"OTHER")
        (mnt / "d/moved").rename(mnt / "moved")
        write(mnt / "d/moved", "another")
    assert has_data(stack.upper / "other")
    with plain.mounted("redirect_dir=nofollow") as mnt:
        assert names(mnt) == ["d", "moved", "other"]
        assert (mnt / "other").read_text() == "OTHER" + "other" * 999
        assert outcome(lambda: (mnt / "moved").read_text()) == "EPERM"
        assert (mnt / "moved").stat().st_size == 5000
    with stack.mounted() as mnt:
        assert (mnt / "moved").read_text() == "lower" * 1000


def test_a_file_of_the_kernel_says_where_its_data_is_before_it_moves(stack: Stack) -> None:
    """The kernel leaves it where it is, and says so only when it moves it itself."""
    for name in ("moved", "linked", "exchanged", "within"):
        write(stack.lower / "d" / name, name * 100)
    write(stack.lower / "file", "file")
    with stack.by_kernel() as merged:
        run("chmod", "-R", "g+w", merged / "d")
        (merged / "d/within").rename(merged / "d/renamed")
    with stack.mounted() as mnt:
        (mnt / "d/moved").rename(mnt / "moved")
        (mnt / "linked").hardlink_to(mnt / "d/linked")
        rename(mnt / "d/exchanged", mnt / "file", RENAME_EXCHANGE)
        (mnt / "d/renamed").rename(mnt / "renamed")
        write(mnt / "d/moved", "another")
        (mnt / "d/linked").unlink()
        live = snapshot(mnt)
        assert (mnt / "moved").read_text() == "moved" * 100
        assert (mnt / "linked").read_text() == "linked" * 100
        assert (mnt / "renamed").read_text() == "within" * 100
        assert (mnt / "file").read_text() == "exchanged" * 100
    assert not has_data(stack.upper / "moved")
    assert not has_data(stack.upper / "linked")
    for mounted in (stack.mounted, stack.by_kernel):
        with mounted() as mnt:
            assert_same(live, snapshot(mnt))


# -- data that is not what it was ----------------------------------------------------------


def test_data_that_is_gone_is_an_error_of_its_file_alone(stack: Stack) -> None:
    for name in ("gone", "file", "other", "kept", "beneath/file"):
        write(stack.lower / "d" / name, name * 1000)
    with stack.mounted() as mnt:
        run("chmod", "-R", "g+w", mnt / "d")
        (mnt / "d/other").rename(mnt / "moved")
    (stack.lower / "d/gone").unlink()
    (stack.lower / "d/file").unlink()
    (stack.lower / "d/file").mkdir()
    run("rm", "-r", stack.lower / "d/other", stack.lower / "d/beneath")
    write(stack.lower / "d/beneath")
    with stack.mounted() as mnt:
        run("ls", "-lR", mnt)
        for name in ("d/gone", "d/file", "moved", "d/beneath/file"):
            path = mnt / name
            assert outcome(path.read_bytes) == "EIO"
            assert outcome(lambda path=path: path.open("r+b")) == "EIO"  # type: ignore[misc]  # mypy infers no lambda with a default
            assert outcome(lambda path=path: os.truncate(path, 5)) == "EIO"  # type: ignore[misc]  # mypy infers no lambda with a default
            assert path.stat().st_blocks == 0
            assert path.stat().st_size > 0
            path.chmod(0o600)
        assert (mnt / "d/kept").read_text() == "kept" * 1000
        (mnt / "d/gone").rename(mnt / "away")
        (mnt / "moved").unlink()
        run("rm", "-r", mnt / "d")
        assert names(mnt) == ["away"]


def test_data_that_became_longer_or_shorter(stack: Stack) -> None:
    """The size is the one from before; what is missing cannot be had."""
    for name in ("longer", "shorter", "copied"):
        write(stack.lower / name, "o" * 6000)
    with stack.mounted() as mnt:
        for path in mnt.iterdir():
            path.chmod(0o600)
    with (stack.lower / "longer").open("a") as file:
        file.write("more" * 100)
    os.truncate(stack.lower / "shorter", 100)
    with (stack.lower / "copied").open("a") as file:
        file.write("more" * 100)
    with stack.mounted() as mnt:
        assert (mnt / "longer").read_bytes() == b"o" * 6000
        os.truncate(mnt / "longer", 8000)
        assert (mnt / "longer").read_bytes() == (b"o" * 6000).ljust(8000, b"\0")
        assert (mnt / "shorter").stat().st_size == 6000
        assert (mnt / "shorter").read_bytes()[:100] == b"o" * 100
        put(mnt / "copied", 0, b"x")
        assert (mnt / "copied").read_bytes() == b"x" + b"o" * 5999


def test_a_killed_daemon_leaves_what_has_no_data_yet(stack: Stack) -> None:
    old = os.urandom(2 * MIB)
    write(stack.lower / "file", old)
    daemon = stack.start()
    (stack.mountpoint / "file").chmod(0o600)
    daemon.process.kill()
    daemon.wait()
    subprocess.run(["umount", stack.mountpoint], check=True)
    for mounted in (stack.mounted, stack.by_kernel):
        with mounted() as mnt:
            assert (mnt / "file").read_bytes() == old
            assert (mnt / "file").stat().st_mode == 0o100600
