"""Attributes and permissions: what a local file system does, a union does."""

import errno
import fcntl
import os
import stat
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.tree import names
from tests.support.union import Stack, run, write

SOMEONE = 1000
GROUP = 1000


@contextmanager
def refused(code: int) -> Iterator[None]:
    """The block must fail with errno *code*."""
    with pytest.raises(OSError, match=r".+") as caught:
        yield
    assert errno.errorcode[caught.value.errno or 0] == errno.errorcode[code]


def as_someone(script: str, *arguments: str | Path, groups: tuple[int, ...] = ()) -> str:
    """What the Python *script* prints as another user; the name of the errno if it fails.

    The process becomes that user by itself: the interpreter may lie where only root goes.
    """
    wrapped = f"""
import errno, os, socket, subprocess, sys
from pathlib import Path
os.umask(0o022)
os.setgroups({list(groups)})
os.setresgid({GROUP}, {GROUP}, {GROUP})
os.setresuid({SOMEONE}, {SOMEONE}, {SOMEONE})
try:
{textwrap.indent(script.strip(), "    ")}
except OSError as exc:
    print(errno.errorcode[exc.errno])
"""
    return run(sys.executable, "-c", wrapped, *arguments).strip()


def by_root(script: str, *arguments: str | Path) -> str:
    """What the Python *script* prints as this user."""
    return run(sys.executable, "-c", f"import os, sys\n{script}", *arguments).strip()


@pytest.fixture
def open_stack(tmp_path: Path, stack: Stack) -> Stack:
    """A stack whose mount point other users can reach."""
    for folder in (tmp_path, *tmp_path.parents[:2]):
        if folder != Path("/tmp"):
            folder.chmod(folder.stat().st_mode | 0o011)
    return stack


# -- creation ------------------------------------------------------------------------------


def test_new_files_belong_to_their_maker(open_stack: Stack) -> None:
    (open_stack.lower / "dir").mkdir()
    (open_stack.lower / "dir").chmod(0o777)
    with open_stack.mounted() as mnt:
        as_someone(
            """
os.chdir(sys.argv[1])
Path("file").touch()
Path("folder").mkdir()
Path("link").symlink_to("file")
os.mkfifo("fifo")
socket.socket(socket.AF_UNIX).bind("socket")
os.close(os.open("suid", os.O_CREAT, 0o4755))
os.mkdir("sticky", 0o1777)
""",
            mnt / "dir",
        )
        modes = {path.name: path.lstat() for path in (mnt / "dir").iterdir()}
        assert {(st.st_uid, st.st_gid) for st in modes.values()} == {(SOMEONE, GROUP)}
        assert {name: oct(st.st_mode & 0o7777) for name, st in modes.items()} == {
            "file": "0o644",
            "folder": "0o755",
            "link": "0o777",
            "fifo": "0o644",
            "socket": "0o755",
            "suid": "0o4755",
            "sticky": "0o1755",
        }


@pytest.mark.parametrize("where", ["lower", "upper"])
def test_a_setgid_directory_hands_on_its_group(open_stack: Stack, where: str) -> None:
    with open_stack.mounted() as mnt:
        folder = {"lower": open_stack.lower, "upper": mnt}[where] / "dir"
        folder.mkdir()
        os.chown(folder, 0, 2000)
        folder.chmod(0o2777)
    with open_stack.mounted() as mnt:
        as_someone(
            """
os.chdir(sys.argv[1])
Path("file").touch()
Path("folder").mkdir()
Path("folder/below").touch()
Path("link").symlink_to("file")
""",
            mnt / "dir",
        )
        (mnt / "dir/of-root").touch()
        for name in ("file", "folder", "folder/below", "link", "of-root"):
            assert (mnt / "dir" / name).lstat().st_gid == 2000, name
        assert stat.S_IMODE((mnt / "dir/folder").stat().st_mode) == 0o2755
        assert stat.S_IMODE((mnt / "dir/file").stat().st_mode) == 0o644


@pytest.mark.parametrize("where", ["lower", "upper"])
def test_a_default_list_is_inherited_as_on_a_disk(stack: Stack, where: str) -> None:
    def fill(top: Path) -> dict[str, tuple[int, str]]:
        folder = top / "dir"
        before = os.umask(0)
        try:
            os.close(os.open(folder / "file", os.O_CREAT | os.O_WRONLY, 0o664))
            os.close(os.open(folder / "private", os.O_CREAT | os.O_WRONLY, 0o600))
            (folder / "sub").mkdir(0o770)
            (folder / "sub/sub").mkdir(0o777)
            os.mkfifo(folder / "fifo", 0o666)
            (folder / "link").symlink_to("file")
        finally:
            os.umask(before)
        return {
            str(path.relative_to(top)): (
                path.lstat().st_mode,
                run("getfacl", "-cnpP", path) if not path.is_symlink() else "",
            )
            for path in sorted(folder.rglob("*"))
        }

    def make(top: Path) -> None:
        (top / "dir").mkdir()
        run("setfacl", "-d", "-m", "u:5:rwx,g:6:rx,o::---", top / "dir")

    disk = stack.base / "disk"
    disk.mkdir()
    make(disk)
    expected = fill(disk)
    if where == "lower":
        make(stack.lower)
    with stack.mounted() as mnt:
        if where == "upper":
            make(mnt)
        assert fill(mnt) == expected


# -- set-user-id bits ----------------------------------------------------------------------

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


# -- extended attributes -------------------------------------------------------------------


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


# -- permissions ---------------------------------------------------------------------------

TRY = {
    "read": "open(sys.argv[1]).read()",
    "write": "open(sys.argv[1], 'a')",
    "chmod": "os.chmod(sys.argv[1], 0o777)",
    "utime": "os.utime(sys.argv[1], (1, 1))",
    "unlink": "os.unlink(sys.argv[1])",
    "rename": "os.rename(sys.argv[1], sys.argv[1] + '-new')",
    "link": "os.link(sys.argv[1], sys.argv[1] + '-new')",
}


@pytest.mark.parametrize("where", ["lower", "upper"])
def test_another_user_may_do_what_modes_allow(open_stack: Stack, where: str) -> None:
    layer = open_stack.lower if where == "lower" else open_stack.upper
    (layer / "closed").mkdir(0o700)
    write(layer / "closed/file", "text", mode=0o777)
    for mode in (0o600, 0o644, 0o640, 0o666):
        write(layer / f"{mode:o}", "text", mode=mode)
        os.chown(layer / f"{mode:o}", 0, 3000)
    write(layer / "listed", "text", mode=0o600)
    run("setfacl", "-m", f"u:{SOMEONE}:rw", layer / "listed")
    answers = {}
    with open_stack.mounted() as mnt:
        for name in ("600", "644", "640", "666", "listed", "closed/file"):
            answers[name] = [
                as_someone(TRY[how], mnt / name, groups=(3000,)) or "done"
                for how in ("read", "write", "chmod", "unlink", "rename")
            ]
    no = "EACCES"
    assert answers == {
        "600": [no, no, "EPERM", no, no],
        "644": ["done", no, "EPERM", no, no],
        "640": ["done", no, "EPERM", no, no],
        "666": ["done", "done", "EPERM", no, no],
        "listed": ["done", "done", "EPERM", no, no],
        "closed/file": [no] * 5,
    }


def test_a_sticky_directory_keeps_files_from_others(open_stack: Stack) -> None:
    (open_stack.lower / "tmp").mkdir()
    (open_stack.lower / "tmp").chmod(0o1777)
    for name, owner in (("theirs", 0), ("mine", SOMEONE), ("mine-too", SOMEONE)):
        write(open_stack.lower / "tmp" / name, "text", mode=0o666)
        os.chown(open_stack.lower / "tmp" / name, owner, owner)
    with open_stack.mounted() as mnt:
        tmp = mnt / "tmp"
        assert as_someone(TRY["unlink"], tmp / "theirs") == "EPERM"
        assert as_someone(TRY["rename"], tmp / "theirs") == "EPERM"
        assert as_someone(TRY["unlink"], tmp / "mine") == ""
        assert as_someone(TRY["rename"], tmp / "mine-too") == ""
        assert names(tmp) == ["mine-too-new", "theirs"]


def test_a_mount_without_suid_ignores_suid_bits(open_stack: Stack) -> None:
    """Root's mounts honour them, as the root file system of a container must."""
    run("cp", "/usr/bin/id", open_stack.lower / "id")
    os.chown(open_stack.lower / "id", 0, 0)
    (open_stack.lower / "id").chmod(0o4755)
    who = "print(subprocess.check_output([sys.argv[1], '-u']).decode())"
    with open_stack.mounted() as mnt:
        assert as_someone(who, mnt / "id") == "0"
    with open_stack.mounted("nosuid") as mnt:
        assert as_someone(who, mnt / "id") == str(SOMEONE)


def test_devices_work(stack: Stack) -> None:
    with stack.mounted() as mnt:
        os.mknod(mnt / "zero", stat.S_IFCHR | 0o666, os.makedev(1, 5))
        with (mnt / "zero").open("rb") as file:
            assert file.read(4) == bytes(4)
    with stack.mounted("nodev") as mnt, refused(errno.EACCES):
        (mnt / "zero").open("rb")


# -- times ---------------------------------------------------------------------------------


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


# -- bytes ---------------------------------------------------------------------------------


def test_appenders_at_once_lose_nothing(stack: Stack) -> None:
    write(stack.lower / "log", "begin\n")
    code = (
        "import os, sys\n"
        "fd = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND)\n"
        "for number in range(300):\n"
        "    os.write(fd, f'{sys.argv[2]} {number} '.encode().ljust(57, b'.') + b'\\n')\n"
    )
    with stack.mounted() as mnt:
        processes = [
            subprocess.Popen([sys.executable, "-c", code, mnt / "log", str(number)])
            for number in range(4)
        ]
        assert [process.wait() for process in processes] == [0] * 4
        first, *lines = (mnt / "log").read_text().splitlines()
        assert first == "begin"
        told = [tuple(int(word) for word in line.rstrip(".").split()) for line in lines]
        assert sorted(told) == [(who, number) for who in range(4) for number in range(300)]
        for who in range(4):
            assert [number for each, number in told if each == who] == list(range(300))


def test_locks_between_processes(stack: Stack) -> None:
    write(stack.lower / "file")
    code = (
        "import fcntl, sys\n"
        "with open(sys.argv[1], 'r+') as file:\n"
        "    for lock in (fcntl.flock, fcntl.lockf):\n"
        "        try:\n"
        "            lock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)\n"
        "            print('mine')\n"
        "        except BlockingIOError:\n"
        "            print('taken')\n"
    )
    with stack.mounted() as mnt:

        def other() -> list[str]:
            return run(sys.executable, "-c", code, mnt / "file").split()

        with (mnt / "file").open("r+") as file:
            assert other() == ["mine", "mine"]
            fcntl.flock(file, fcntl.LOCK_EX)
            assert other() == ["taken", "mine"]
            fcntl.lockf(file, fcntl.LOCK_EX)
            assert other() == ["taken", "taken"]
            fcntl.flock(file, fcntl.LOCK_UN)
            assert other() == ["mine", "taken"]
        assert other() == ["mine", "mine"]


def test_fsync_of_files_and_directories(stack: Stack) -> None:
    write(stack.lower / "dir/file", "text")
    with stack.mounted() as mnt:
        for path in (mnt / "dir", mnt / "dir/file"):
            fd = os.open(path, os.O_RDONLY)
            os.fsync(fd)
            os.fdatasync(fd)
            os.close(fd)
        assert list(stack.upper.iterdir()) == []
        with (mnt / "dir/file").open("r+") as file:
            file.write("more")
            file.flush()
            os.fsync(file.fileno())
            os.fdatasync(file.fileno())
        fd = os.open(mnt / "dir", os.O_RDONLY)
        os.fsync(fd)
        os.close(fd)


def test_statfs_tells_of_the_upper_file_system(stack: Stack) -> None:
    def numbers(path: Path) -> tuple[int, ...]:
        found = os.statvfs(path)
        return found.f_bsize, found.f_frsize, found.f_blocks, found.f_files, found.f_namemax

    expected = numbers(stack.upper)
    with stack.mounted() as mnt:
        assert numbers(mnt) == expected
        assert os.statvfs(mnt).f_bavail > 0
    with stack.mounted(read_only=True) as mnt:
        assert numbers(mnt) == expected
        found = os.statvfs(mnt)
        assert (found.f_bavail, found.f_bfree, found.f_favail) == (0, 0, 0)


# -- read-only -----------------------------------------------------------------------------

CHANGES: dict[str, Callable[[Path], object]] = {
    "write": lambda top: (top / "file").open("a"),
    "truncate": lambda top: os.truncate(top / "file", 0),
    "create": lambda top: (top / "new").touch(),
    "mkdir": lambda top: (top / "new").mkdir(),
    "mknod": lambda top: os.mkfifo(top / "new"),
    "symlink": lambda top: (top / "new").symlink_to("x"),
    "link": lambda top: (top / "new").hardlink_to(top / "file"),
    "unlink": lambda top: (top / "file").unlink(),
    "rmdir": lambda top: (top / "dir").rmdir(),
    "rename": lambda top: (top / "file").rename(top / "new"),
    "chmod": lambda top: (top / "file").chmod(0o600),
    "chown": lambda top: os.chown(top / "file", 1, 1),
    "utime": lambda top: os.utime(top / "file"),
    "setxattr": lambda top: os.setxattr(top / "file", "user.a", b""),
    "removexattr": lambda top: os.removexattr(top / "file", "user.there"),
}


@pytest.mark.parametrize("how", ["no-upper", "ro"])
def test_a_read_only_mount_changes_nothing(stack: Stack, how: str) -> None:
    write(stack.lower / "file", "text")
    os.setxattr(stack.lower / "file", "user.there", b"")
    (stack.lower / "dir").mkdir()
    write(stack.upper / "mine")
    options = ("ro",) if how == "ro" else ()
    with stack.mounted(*options, read_only=how == "no-upper") as mnt:
        for change in CHANGES.values():
            with refused(errno.EROFS):
                change(mnt)
        assert (mnt / "file").read_text() == "text"
        # With an upper directory and `ro` that is the topmost layer.
        assert (mnt / "mine").exists() == (how == "ro")
    assert names(stack.upper) == ["mine"]
