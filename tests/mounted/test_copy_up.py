"""Copy up: a file of a lower layer changes, and nobody but the change can tell."""

import mmap
import os
import stat
from pathlib import Path

import pytest

from tests.support.tree import Tree, assert_same, snapshot
from tests.support.union import Stack, run, start, write

MIB = 1 << 20
OLD_NS = (1_234_567_890_123_456_789, -987_654_321_098_765_432)

# A file capability as setcap(8) writes it: version 2, cap_net_raw effective and permitted.
CAPABILITY = bytes.fromhex("0100000200200000000000000000000000000000")


def make_kinds(layer: Path) -> None:
    """One of each kind of file, with everything a file can have."""
    write(layer / "plain", "text")
    write(layer / "suid", "text", mode=0o6755)
    write(layer / "read-only", "text", mode=0o444)
    write(layer / "no-permission", "text", mode=0o000)
    write(layer / "empty")
    write(layer / "large", os.urandom(3 * MIB + 7))
    write(layer / "owned", "text", mode=0o4711)
    os.chown(layer / "owned", 1234, 70000)
    (layer / "owned").chmod(0o4711)
    write(layer / "capable", "text", mode=0o755)
    os.setxattr(layer / "capable", "security.capability", CAPABILITY)
    write(layer / "noted", "text")
    os.setxattr(layer / "noted", "user.empty", b"")
    os.setxattr(layer / "noted", b"user.\xff", os.urandom(1000))
    os.setxattr(layer / "noted", "trusted.mine", b"t")
    os.setxattr(layer / "noted", "trusted.overlay.overlay.escaped", b"e")
    write(layer / "listed", "text", mode=0o640)
    run("setfacl", "-m", "u:5:rw,g:6:r", layer / "listed")
    (layer / "dir").mkdir(mode=0o1751)
    (layer / "dir").chmod(0o3751)
    os.chown(layer / "dir", 0, 60000)
    (layer / "dir").chmod(0o3751)
    run("setfacl", "-d", "-m", "u:5:rwx", layer / "dir")
    (layer / "symlink").symlink_to("/no/where")
    os.chown(layer / "symlink", 1, 2, follow_symlinks=False)
    os.mkfifo(layer / "fifo", 0o620)
    os.mknod(layer / "device", stat.S_IFCHR | 0o666, os.makedev(10, 200))
    os.mknod(layer / "disk", stat.S_IFBLK | 0o600, os.makedev(8, 300))
    os.mknod(layer / "socket", stat.S_IFSOCK | 0o755)
    for path in layer.iterdir():
        os.utime(path, ns=OLD_NS, follow_symlinks=False)


KINDS = ["plain", "suid", "read-only", "no-permission", "empty", "large", "owned", "capable"]
KINDS += ["noted", "listed", "dir", "symlink", "fifo", "device", "disk", "socket"]


def only(tree: Tree, name: str) -> Tree:
    return {path: entry for path, entry in tree.items() if path == name.encode()}


def test_every_kind_of_file_keeps_what_it_has(stack: Stack) -> None:
    """A link to another name copies up and changes nothing; for a directory it is a new file."""
    make_kinds(stack.lower)
    with stack.mounted() as mnt:
        before = snapshot(mnt)
        for name in KINDS:
            if name == "dir":
                (mnt / name / "new").touch()
                (mnt / name / "new").unlink()
                os.utime(mnt / name, ns=OLD_NS)
            else:
                os.link(mnt / name, mnt / "again", follow_symlinks=False)
                (mnt / "again").unlink()
            assert os.path.lexists(stack.upper / name)
        after = snapshot(mnt)
        names = [name.encode() for name in KINDS]
        assert_same({n: before[n] for n in names}, {n: after[n] for n in names})
    upper = snapshot(stack.upper)
    assert_same({n: before[n] for n in names}, {n: upper[n] for n in names})
    with stack.mounted() as mnt:
        again = snapshot(mnt)
        assert_same({n: before[n] for n in names}, {n: again[n] for n in names})


def test_lower_layers_never_change(stack: Stack) -> None:
    make_kinds(stack.lower)
    before = snapshot(stack.lower, ignore=())
    with stack.mounted() as mnt:
        for path in sorted(mnt.iterdir()):
            if path.is_symlink():
                os.chown(path, 5, 5, follow_symlinks=False)
            else:
                path.chmod(0o700)
        run("rm", "-rf", mnt / "large", mnt / "dir")
    assert_same(before, snapshot(stack.lower, ignore=()))


CHANGES = {
    "chmod": lambda path: path.chmod(0o600),
    "chown": lambda path: os.chown(path, 3, 4),
    "utime": lambda path: os.utime(path, ns=(1, 2)),
    "setxattr": lambda path: os.setxattr(path, "user.new", b"v"),
    "open for writing": lambda path: os.close(os.open(path, os.O_WRONLY)),
    "open for both": lambda path: os.close(os.open(path, os.O_RDWR)),
    "append": lambda path: path.open("a").close(),
    "truncate": lambda path: os.truncate(path, 2),
    "rename": lambda path: path.rename(path.with_name("moved")),
    "link": lambda path: path.with_name("linked").hardlink_to(path),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_what_copies_up(stack: Stack, change) -> None:  # type: ignore[no-untyped-def]
    write(stack.lower / "a/b/file", "text")
    for folder in ("a/b", "a"):
        os.utime(stack.lower / folder, ns=OLD_NS)
    with stack.mounted() as mnt:
        change(mnt / "a/b/file")
    assert any((stack.upper / "a/b").iterdir())
    # A copy moves no time of the directories above; a new name those of its own only.
    assert (stack.upper / "a").stat().st_mtime_ns == OLD_NS[1]
    if change not in (CHANGES["rename"], CHANGES["link"]):
        assert (stack.upper / "a/b").stat().st_mtime_ns == OLD_NS[1]


READS = {
    "read": lambda path: path.read_bytes(),
    "stat": lambda path: path.stat(),
    "list attributes": lambda path: os.listxattr(path),
    "open for reading": lambda path: os.close(os.open(path, os.O_RDONLY)),
    "access": lambda path: os.access(path, os.W_OK),
    "list the directory": lambda path: list(path.parent.iterdir()),
}


@pytest.mark.parametrize("look", READS.values(), ids=READS.keys())
def test_what_does_not(stack: Stack, look) -> None:  # type: ignore[no-untyped-def]
    write(stack.lower / "a/file", "text")
    with stack.mounted() as mnt:
        look(mnt / "a/file")
    assert list(stack.upper.iterdir()) == []


def test_times_of_directories_above_stay(stack: Stack) -> None:
    write(stack.lower / "a/b/file", "text")
    os.utime(stack.lower / "a/b", ns=OLD_NS)
    with stack.mounted() as mnt:
        (mnt / "a/b/file").write_text("changed")
        assert (mnt / "a/b").stat().st_mtime_ns == OLD_NS[1]
    with stack.mounted() as mnt:
        assert (mnt / "a/b").stat().st_mtime_ns == OLD_NS[1]


def test_sparse_files_stay_sparse(stack: Stack) -> None:
    with (stack.lower / "sparse").open("wb") as file:
        file.truncate(200 * MIB)
        file.seek(100 * MIB)
        file.write(b"data")
    with stack.mounted() as mnt:
        with (mnt / "sparse").open("r+b") as file:
            file.write(b"start")
        found = (mnt / "sparse").stat()
        assert (found.st_size, found.st_blocks * 512 < 64 << 10) == (200 * MIB, True)
        with (mnt / "sparse").open("rb") as file:
            assert file.read(6) == b"start\0"
            file.seek(100 * MIB)
            assert file.read(5) == b"data\0"


def bytes_read(pid: int) -> int:
    """How much process *pid* read and copied, by any call."""
    fields = Path(f"/proc/{pid}/io").read_text().split()
    return int(fields[fields.index("rchar:") + 1])


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        pytest.param(lambda path: path.open("wb").close(), 0, id="open-with-trunc"),
        pytest.param(lambda path: os.truncate(path, 0), 0, id="truncate"),
        pytest.param(lambda path: os.truncate(path, 5000), 5000, id="truncate-in-the-middle"),
    ],
)
def test_what_is_cut_off_is_not_copied(stack: Stack, how, expected: int) -> None:  # type: ignore[no-untyped-def]
    write(stack.lower / "large", os.urandom(50 * MIB))
    daemon = stack.start()
    try:
        (stack.mountpoint / "large").stat()
        before = bytes_read(daemon.pid)
        how(stack.mountpoint / "large")
        assert (stack.mountpoint / "large").stat().st_size == expected
        assert bytes_read(daemon.pid) - before < MIB
        with (stack.lower / "large").open("rb") as lower:
            assert (stack.mountpoint / "large").read_bytes() == lower.read(expected)
        daemon.unmount()
    finally:
        if daemon.process.poll() is None:
            daemon.abandon()


@pytest.mark.parametrize("size", [10, 200_000])
def test_descriptors_and_mappings_from_before_see_what_is_written_after(
    stack: Stack, size: int
) -> None:
    write(stack.lower / "file", b"o" * size)
    with stack.mounted() as mnt, (mnt / "file").open("rb", buffering=0) as reader:
        mapped = mmap.mmap(reader.fileno(), size, mmap.MAP_SHARED, mmap.PROT_READ)
        assert mapped[:3] == b"ooo"
        with (mnt / "file").open("r+b", buffering=0) as writer:
            writer.write(b"new")
            assert mapped[:4] == b"newo"
            assert os.pread(reader.fileno(), 4, 0) == b"newo"
            writer.truncate(5)
            assert os.fstat(reader.fileno()).st_size == 5
            assert os.pread(reader.fileno(), 10, 0) == b"newoo"
        mapped.close()


def test_a_shared_mapping_writes_into_the_copy(stack: Stack) -> None:
    write(stack.lower / "file", b"o" * 10000)
    with stack.mounted() as mnt:
        with (mnt / "file").open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
            mapped[5000:5003] = b"new"
            mapped.flush()
        assert (mnt / "file").read_bytes()[4999:5004] == b"onewo"
    assert (stack.upper / "file").read_bytes()[4999:5004] == b"onewo"


def test_the_number_stays_through_a_copy_and_the_next_mount(stack: Stack) -> None:
    make_kinds(stack.lower)

    def numbers(mnt: Path) -> dict[str, int]:
        return {name: (mnt / name).lstat().st_ino for name in KINDS}

    with stack.mounted() as mnt:
        before = numbers(mnt)
        for name in KINDS:
            os.utime(mnt / name, ns=(5, 6), follow_symlinks=False)
        assert numbers(mnt) == before
    with stack.mounted() as mnt:
        assert numbers(mnt) == before
        (mnt / "plain").rename(mnt / "moved")
    with stack.mounted() as mnt:
        assert (mnt / "moved").stat().st_ino == before["plain"]


@pytest.mark.parametrize("how", ["setgid", "default-list"])
def test_a_work_directory_hands_nothing_to_what_is_drafted_in_it(stack: Stack, how: str) -> None:
    write(stack.lower / "dir/file", "old")
    if how == "setgid":
        os.chown(stack.work, 0, 50)
        stack.work.chmod(0o2775)
    else:
        run("setfacl", "-d", "-m", "u:5:rwx", stack.work)
    with stack.mounted() as mnt:
        before = snapshot(mnt)
        (mnt / "dir/again").hardlink_to(mnt / "dir/file")
        (mnt / "dir/again").unlink()
        assert_same(before, snapshot(mnt), but=frozenset({"mtime_ns"}))


def test_a_full_disk_leaves_the_lower_file_as_it_is(stack: Stack) -> None:
    write(stack.lower / "large", b"o" * (4 * MIB))
    run("mount", "-t", "tmpfs", "-o", "size=2m", "none", stack.upper)
    upper = stack.upper / "upper"
    small = Stack(stack.base, stack.lowers)
    for folder in ("upper", "work"):
        (stack.upper / folder).mkdir()
    command = small.command()
    words = command[-2].replace(f"upperdir={stack.upper}", f"upperdir={upper}")
    words = words.replace(f"workdir={stack.work}", f"workdir={stack.upper}/work")
    daemon = start([*command[:-2], words, command[-1]], stack.mountpoint, stack.base)
    try:
        mnt = stack.mountpoint
        with pytest.raises(OSError, match="No space left"):
            (mnt / "large").open("r+b")
        with pytest.raises(OSError, match="No space left"):
            (mnt / "large").chmod(0o600)
        assert (mnt / "large").read_bytes() == b"o" * (4 * MIB)
        assert list(upper.iterdir()) == []
        assert list((stack.upper / "work/work").iterdir()) == []
        (mnt / "large").write_bytes(b"short")
        daemon.unmount()
    finally:
        if daemon.process.poll() is None:
            daemon.abandon()
        run("umount", stack.upper)
