"""Who may do what, and to whom new files belong."""

import errno
import os
import stat
import struct
from pathlib import Path

import pytest

from tests.support.callers import GROUP, SOMEONE, as_someone, refused
from tests.support.tree import names
from tests.support.union import Stack, run, write


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


# u::rwx, u:1234:r-x, g::r-x, m::rwx, o::r-x
LIST = struct.pack("<I", 2) + b"".join(
    struct.pack("<HHI", tag, allowed, who)
    for tag, allowed, who in (
        (0x01, 7, 0xFFFFFFFF),
        (0x02, 5, 1234),
        (0x04, 5, 0xFFFFFFFF),
        (0x10, 7, 0xFFFFFFFF),
        (0x20, 5, 0xFFFFFFFF),
    )
)
SET_LIST = 'os.setxattr(sys.argv[1], "system.posix_acl_access", bytes.fromhex(sys.argv[2]))'


@pytest.mark.parametrize("where", ["lower", "upper"])
@pytest.mark.parametrize(("groups", "kept"), [((), False), ((2000,), True)])
def test_an_access_list_takes_the_sgid_bit_of_a_foreign_group(
    open_stack: Stack, where: str, groups: tuple[int, ...], kept: bool
) -> None:
    disk = write(open_stack.base / "disk")
    layer = {"lower": open_stack.lower, "upper": open_stack.upper}[where]
    for path in (disk, write(layer / "file")):
        os.chown(path, SOMEONE, 2000)
        path.chmod(0o6755)
    with open_stack.mounted() as mnt:
        for path in (disk, mnt / "file"):
            assert as_someone(SET_LIST, path, LIST.hex(), groups=groups) == ""
        assert oct((mnt / "file").stat().st_mode) == oct(disk.stat().st_mode)
        assert bool(disk.stat().st_mode & stat.S_ISGID) is kept


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


@pytest.mark.parametrize("how", ["os.truncate(sys.argv[1], 1)", "os.open(sys.argv[1], 0o1001)"])
@pytest.mark.parametrize("mode", [0o2666, 0o2676, 0o6666, 0o6777])
@pytest.mark.parametrize("groups", [(), (3000,)])
def test_a_truncation_by_another_user_takes_bits_as_on_a_disk(
    open_stack: Stack, groups: tuple[int, ...], mode: int, how: str
) -> None:
    disk = open_stack.base / "disk"
    for path in (disk, open_stack.lower / "file"):
        write(path, "text")
        os.chown(path, 0, 3000)
        path.chmod(mode)
    with open_stack.mounted() as mnt:
        for path in (disk, mnt / "file"):
            assert as_someone(how, path, groups=groups) == ""
        assert oct((mnt / "file").stat().st_mode) == oct(disk.stat().st_mode)
