"""Copying up, as other union file systems got it wrong."""

import os
import stat
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.plain import as_plain_user
from tests.support.tree import assert_same, names, snapshot
from tests.support.union import REPOSITORY, Stack, is_whiteout, write

OLD_NS = (1_234_567_890_123_456_789, 1_000_000_000_000_000_007)


@pytest.fixture
def plain_stack(tmp_path: Path, needs_root: None, needs_fuse: None) -> Stack:
    """A lower directory of root's, which a plain user can read, and an upper one."""
    return Stack.make(tmp_path / "stack")


def test_read_only_files_are_changed_moved_and_removed_by_a_plain_user(
    plain_stack: Stack,
) -> None:
    """The copy had the lower file's mode from the start, and could not be finished.

    fuse-overlayfs #307, #377.
    """
    for name in ("changed", "moved", "removed", "replaced", "linked"):
        write(plain_stack.lower / name, name, mode=0o444)
    said = as_plain_user(
        plain_stack,
        """
        with mounted():
            (mnt / "changed").chmod(0o644)
            (mnt / "moved").rename(mnt / "moved0")
            (mnt / "removed").unlink()
            (mnt / "linked").with_name("again").hardlink_to(mnt / "linked")
            (mnt / "replaced").unlink()
            (mnt / "replaced").write_text("new")
        with mounted():
            for path in sorted(mnt.iterdir()):
                print(path.name, oct(path.stat().st_mode)[-3:], path.read_text())
        """,
    )
    assert said.splitlines() == [
        "again 444 linked",
        "changed 644 changed",
        "linked 444 linked",
        "moved0 444 moved",
        "replaced 644 new",
    ]


def test_files_of_others_are_written_by_a_plain_user(plain_stack: Stack) -> None:
    """The copy was to belong to the lower file's owner, which a plain user cannot give.

    fuse-overlayfs #428.
    """
    write(plain_stack.lower / "dir/of-root", "old", mode=0o644)
    os.chown(plain_stack.lower / "dir", 12, 13)
    said = as_plain_user(
        plain_stack,
        """
        with mounted():
            with (mnt / "dir/of-root").open("r+") as file:
                file.write("new")
            (mnt / "dir/another").touch()
            (mnt / "dir/of-root").chmod(0o600)
            before = (mnt / "dir/of-root").stat(), (mnt / "dir").stat()
        with mounted():
            after = (mnt / "dir/of-root").stat(), (mnt / "dir").stat()
            print((mnt / "dir/of-root").read_text(), [each.st_uid for each in after])
            print([each.st_uid for each in before], names(mnt / "dir"))
        """,
    )
    assert said.splitlines() == ["new [0, 12]", "[0, 12] ['another', 'of-root']"]
    assert (plain_stack.lower / "dir/of-root").read_text() == "old"


def test_a_directory_without_write_permission_is_made_by_a_plain_user(
    plain_stack: Stack,
) -> None:
    """It was made with its final mode, and then could not be given its attributes.

    fuse-overlayfs #414, #135 (one made unreadable could not be removed).
    """
    said = as_plain_user(
        plain_stack,
        """
        with mounted():
            (mnt / "closed").mkdir(0o555)
            os.close(os.open(mnt / "none", os.O_CREAT | os.O_WRONLY, 0o000))
            (mnt / "blind").mkdir()
            (mnt / "blind/file").touch()
            (mnt / "blind").chmod(0o111)
        with mounted():
            print({path.name: oct(path.stat().st_mode)[-3:] for path in sorted(mnt.iterdir())})
            subprocess.run(["rm", "-rf", *mnt.iterdir()], check=True)
            print(names(mnt))
        """,
    )
    assert said.splitlines() == ["{'blind': '111', 'closed': '555', 'none': '000'}", "[]"]


def test_sed_in_place_by_a_plain_user(plain_stack: Stack) -> None:
    """chown(2) of a new file that its own mode kept from being opened failed.

    fuse-overlayfs #265.
    """
    write(plain_stack.lower / "hello.txt", "hello\n", mode=0o777)
    said = as_plain_user(
        plain_stack,
        """
        with mounted():
            subprocess.run(["sed", "-i", "s/hello/HELLO/", mnt / "hello.txt"], check=True)
            print((mnt / "hello.txt").read_text(), oct((mnt / "hello.txt").stat().st_mode)[-3:])
        """,
    )
    assert said == "HELLO\n 777"


SPECIAL = {
    "fifo": stat.S_IFIFO | 0o620,
    "socket": stat.S_IFSOCK | 0o700,
    # Nobody drives these numbers: whoever opens them gets ENXIO.
    "char": stat.S_IFCHR | 0o666,
    "block": stat.S_IFBLK | 0o600,
}


@pytest.mark.parametrize("kind", SPECIAL)
def test_special_files_are_copied_without_being_opened(stack: Stack, kind: str) -> None:
    """Attributes were read from an open file, but opening a device or fifo fails or waits.

    fuse-overlayfs #312; fifos and devices could be neither copied up nor removed.
    """
    for name in ("kept", "moved", "removed", "linked"):
        os.mknod(stack.lower / name, SPECIAL[kind], os.makedev(240, 7))
        os.setxattr(stack.lower / name, "trusted.note", b"v")
        os.utime(stack.lower / name, ns=OLD_NS)
    with stack.mounted() as mnt:
        assert os.listxattr(mnt / "kept") == ["trusted.note"]
        assert os.getxattr(mnt / "kept", "trusted.note") == b"v"
        (mnt / "kept").chmod(0o640)
        os.chown(mnt / "kept", 5, 6)
        os.setxattr(mnt / "kept", "trusted.more", b"w")
        (mnt / "moved").rename(mnt / "new")
        (mnt / "again").hardlink_to(mnt / "linked")
        (mnt / "removed").unlink()
        live = snapshot(mnt)
    assert is_whiteout(stack.upper / "removed")
    with stack.mounted() as mnt:
        assert_same(live, snapshot(mnt))
        found = (mnt / "kept").lstat()
        assert (stat.S_IFMT(found.st_mode), found.st_mode & 0o777) == (
            stat.S_IFMT(SPECIAL[kind]),
            0o640,
        )
        assert found.st_rdev == ((stack.lower / "kept").lstat().st_rdev)
        assert found.st_mtime_ns == OLD_NS[1]
        assert os.getxattr(mnt / "new", "trusted.note") == b"v"
        assert (mnt / "again").lstat().st_nlink == 2


# Version 3 of vfs_cap_data (linux/capability.h): valid in the namespace whose root is 5555.
FOREIGN_CAPABILITY = struct.pack("<IIIIII", 0x03000001, 1 << 13, 0, 0, 0, 5555)

IN_A_USER_NAMESPACE = """
import os, subprocess, sys
from pathlib import Path

top = Path(sys.argv[1])
try:
    os.getxattr(top / "lower1/file", "security.capability")
except OSError as exc:
    print(exc.strerror)
command = [sys.executable, "-m", "overlayfs.cli.mountprogram", "-o"]
words = f"lowerdir={top}/lower1,upperdir={top}/upper,workdir={top}/work"
subprocess.run([*command, words, top / "mnt"], check=True)
(top / "mnt/file").chmod(0o600)
with (top / "mnt/file").open("a") as file:
    file.write(" and new")
print(os.listxattr(top / "mnt/file"), (top / "mnt/file").read_text())
subprocess.run(["umount", top / "mnt"], check=True)
"""


def test_capabilities_of_another_namespace_do_not_keep_a_file_from_being_copied(
    plain_stack: Stack,
) -> None:
    """Reading them gives EOVERFLOW, and with it each change of the file failed.

    fuse-overlayfs #352.
    """
    write(plain_stack.lower / "file", "old")
    os.setxattr(plain_stack.lower / "file", "security.capability", FOREIGN_CAPABILITY)
    namespace = ["unshare", "--user", "--map-root-user", "--mount"]
    done = subprocess.run(
        [*namespace, sys.executable, "-c", IN_A_USER_NAMESPACE, plain_stack.base],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "Value too large for defined data type",
        "[] old and new",
    ]


def test_tar_finds_nothing_changed_that_it_reads(stack: Stack) -> None:
    """`tar` into a lower directory complained that its root had changed meanwhile.

    fuse-overlayfs #384: the times that were told moved by themselves after the copy up.
    """
    (stack.lower / "tmp").mkdir()
    write(stack.lower / "etc/file", "text")
    with stack.mounted() as mnt:
        command: list[str | Path] = ["tar", "-cf", mnt / "tmp/flash.tar", "--one-file-system"]
        done = subprocess.run(
            [*command, "--exclude=./tmp/*", "-C", mnt, "."], capture_output=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, b"")
        told = [path.stat() for path in (mnt, mnt / "tmp", mnt / "etc", mnt / "etc/file")]
        Path("/proc/sys/vm/drop_caches").write_text("2")
        again = [path.stat() for path in (mnt, mnt / "tmp", mnt / "etc", mnt / "etc/file")]
        assert [st.st_mtime_ns for st in told] == [st.st_mtime_ns for st in again]
        assert [st.st_ctime_ns for st in told] == [st.st_ctime_ns for st in again]


def test_long_attributes_are_read_whole(stack: Stack) -> None:
    """Values of more than 256 bytes could not be read.

    fuse-overlayfs #284, #286.
    """
    write(stack.lower / "file")
    value = os.urandom(3000)
    os.setxattr(stack.lower / "file", "user.long", value)
    os.setxattr(stack.lower / "file", "trusted.long", value[:256])
    with stack.mounted() as mnt:
        for _ in range(2):
            assert os.getxattr(mnt / "file", "user.long") == value
            assert os.getxattr(mnt / "file", "trusted.long") == value[:256]
            (mnt / "file").chmod(0o600)


def test_the_suid_bit_set_after_writing_stays(stack: Stack) -> None:
    """Data written before a chmod(2) reached the file after it, and took the suid bit.

    fuse-overlayfs #127.
    """
    with stack.mounted() as mnt:
        for size in (1, 300_000):
            fd = os.open(mnt / f"suid{size}", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
            os.write(fd, b"1" * size)
            os.fchown(fd, 0, 0)
            os.fchmod(fd, 0o4755)
            os.close(fd)
            os.sync()
            assert stat.S_IMODE((mnt / f"suid{size}").stat().st_mode) == 0o4755
    with stack.mounted() as mnt:
        assert {stat.S_IMODE(path.stat().st_mode) for path in mnt.iterdir()} == {0o4755}


def test_every_name_tells_of_a_chmod_at_once(stack: Stack) -> None:
    """After a chmod(2) the old mode was still told.

    fuse-overlayfs #124.
    """
    write(stack.lower / "uconfig.h", mode=0o444)
    (stack.lower / "other.h").hardlink_to(stack.lower / "uconfig.h")
    with stack.mounted() as mnt:
        assert stat.S_IMODE((mnt / "other.h").stat().st_mode) == 0o444
        (mnt / "uconfig.h").chmod(0o644)
        assert {stat.S_IMODE(path.stat().st_mode) for path in mnt.iterdir()} == {0o644}
        assert names(mnt) == ["other.h", "uconfig.h"]
