"""Reading a union: what the kernel's overlayfs shows of the same directories is the law."""

import os
import stat
from pathlib import Path

import pytest

from tests.support.tree import assert_same, names, snapshot
from tests.support.union import Stack, opaque, run, start, whiteout, write

# The kernel counts the links of a merged directory as 1, and so does pyoverlay; the sizes of
# directories are those of the topmost part in both.


def equal_to_the_kernel(stack: Stack, *, read_only: bool) -> None:
    """Both show the same of *stack*."""
    with stack.by_kernel(read_only=read_only) as merged:
        expected = snapshot(merged)
    with stack.mounted(read_only=read_only) as mnt:
        assert_same(expected, snapshot(mnt))


def rich(stack: Stack) -> None:
    """Fill the layers of *stack* with one of everything."""
    top, base = stack.lowers
    for folder in ("both", "cut", "hidden", "opaque/sub", "replaced", "untouched/a/b"):
        write(base / folder / "base", f"base of {folder}")
    for folder in ("both", "opaque/sub"):
        write(top / folder / "top", f"top of {folder}")
    opaque(top / "opaque")
    whiteout(top / "hidden")
    write(top / "replaced", "a file over a directory")
    write(base / "was-file", "hidden")
    write(top / "was-file/now", "a directory over a file")
    whiteout(top / "cut")
    write(stack.upper / "cut/upper", "merges with nothing")
    write(stack.upper / "both/upper", "third part")
    whiteout(stack.upper / "both/base")
    whiteout(stack.upper / "pointless")
    (base / "symlink").symlink_to("both/top")
    (base / "dangling").symlink_to("/nowhere")
    (top / "loop").symlink_to("loop")
    os.mkfifo(base / "fifo", 0o640)
    os.mknod(base / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mknod(top / "disk", stat.S_IFBLK | 0o660, os.makedev(259, 70000))
    write(base / "suid", "x", mode=0o4755)
    write(base / "nobody", "x", mode=0o000)
    os.chown(base / "nobody", 1000, 70000)
    os.link(base / "suid", base / "suid-too")
    os.setxattr(base / "suid", "user.note", b"\0\xff")
    os.setxattr(base / "both", "user.of", b"base")
    os.setxattr(top / "both", "trusted.of", b"top")
    run("setfacl", "-m", "u:5:rw", base / "was-file", base / "both/base", top / "both")
    os.utime(top / "both", ns=(1, -5_000_000_001))
    os.utime(base / "symlink", ns=(2, 3), follow_symlinks=False)


@pytest.mark.parametrize("read_only", [False, True], ids=["with-upper", "read-only"])
def test_a_union_of_everything(stack: Stack, needs_kernel_overlay: None, read_only: bool) -> None:
    rich(stack)
    equal_to_the_kernel(stack, read_only=read_only)


def test_the_parts_of_a_merged_directory(stack: Stack) -> None:
    rich(stack)
    with stack.mounted() as mnt:
        assert names(mnt / "both") == ["top", "upper"]
        assert names(mnt / "cut") == ["upper"]
        assert names(mnt / "opaque") == ["sub"]
        assert names(mnt / "opaque/sub") == ["top"]
        assert (mnt / "replaced").read_text() == "a file over a directory"
        assert names(mnt / "was-file") == ["now"]
        assert not (mnt / "hidden").exists()
        assert not (mnt / "pointless").exists()


def test_a_file_or_whiteout_in_the_middle_cuts_a_merge(
    tmp_path: Path, needs_kernel_overlay: None, needs_fuse: None
) -> None:
    stack = Stack.make(tmp_path / "stack", lowers=5)
    bottom, above, middle, upwards, top = reversed(stack.lowers)
    for name in ("by-file", "by-whiteout", "by-opaque", "by-symlink", "not"):
        write(bottom / name / "sub/bottom")
        write(above / name / "sub/above")
        write(upwards / name / "sub/upwards")
        write(top / name / "sub/top")
    write(middle / "by-file")
    whiteout(middle / "by-whiteout")
    opaque(middle / "by-opaque")
    (middle / "by-symlink").symlink_to("not")
    equal_to_the_kernel(stack, read_only=True)
    with stack.mounted(read_only=True) as mnt:
        assert names(mnt / "by-file/sub") == ["top", "upwards"]
        assert names(mnt / "by-opaque/sub") == ["top", "upwards"]
        assert names(mnt / "not/sub") == ["above", "bottom", "top", "upwards"]


def attribute_whiteout(path: Path, data: str = "") -> None:
    os.setxattr(write(path, data), "trusted.overlay.whiteout", b"")


def test_whiteouts_made_of_an_attribute(stack: Stack, needs_kernel_overlay: None) -> None:
    """overlayfs.rst, "Whiteouts and opaque directories": honoured where opaque is ``x``."""
    top, base = stack.lowers
    for name in ("gone", "kept"):
        write(base / "dir" / name)
    opaque(top / "dir", b"x")
    attribute_whiteout(top / "dir/gone")
    attribute_whiteout(top / "dir/kept", "only an empty file can be one")
    equal_to_the_kernel(stack, read_only=True)
    with stack.mounted(read_only=True) as mnt:
        assert names(mnt / "dir") == ["kept"]


def test_an_attribute_is_no_whiteout_where_the_directory_does_not_say_so(stack: Stack) -> None:
    write(stack.lowers[1] / "dir/file", "base")
    attribute_whiteout(stack.lowers[0] / "dir/file")
    with stack.mounted(read_only=True) as mnt:
        assert (mnt / "dir/file").read_text() == ""


@pytest.mark.parametrize("value", [b"n", b"", b"yes", b"Y"])
def test_other_values_are_not_opaque(
    stack: Stack, needs_kernel_overlay: None, value: bytes
) -> None:
    write(stack.lowers[1] / "dir/base")
    opaque(stack.lowers[0] / "dir", value)
    equal_to_the_kernel(stack, read_only=True)


STRANGE_NAMES = [
    b"\xff\xfe",
    b"caf\xc3\xa9",
    b"caf\xe9",
    b"new\nline",
    b" ",
    b"\x01\x7f",
    b"...",
    b"-rf",
    b"\\",
    b"%s%n",
    b".wh.",
    b".wh.file",
    b".wh..wh..opq",
    b"x" * 255,
    b"\xff" * 255,
    "ü".encode() * 127,
]


def test_names_are_bytes(stack: Stack, needs_kernel_overlay: None) -> None:
    for layer, place in zip(stack.lowers, (b"top", b"base"), strict=True):
        for name in STRANGE_NAMES:
            for path in (name, b"dir-" + name[:250] + b"/" + name):
                full = os.path.join(os.fsencode(layer), path)  # noqa: PTH118 - bytes
                os.makedirs(os.path.dirname(full), exist_ok=True)  # noqa: PTH103, PTH120
                with open(full, "wb") as file:  # noqa: PTH123
                    file.write(place + name)
    equal_to_the_kernel(stack, read_only=True)


def test_a_name_that_is_too_long(mnt: Path) -> None:
    with pytest.raises(OSError, match="File name too long"):
        (mnt / ("x" * 256)).stat()
    with pytest.raises(OSError, match="File name too long"):
        (mnt / ("x" * 256)).mkdir()
    (mnt / ("x" * 255)).mkdir()


def test_paths_longer_than_path_max(stack: Stack, needs_kernel_overlay: None) -> None:
    names = [b"%03d-" % level + b"n" * 196 for level in range(40)]
    for number, layer in enumerate(stack.lowers):
        at = os.open(layer, os.O_RDONLY)
        for name in names:
            os.mkdir(name, dir_fd=at)
            at, above = os.open(name, os.O_RDONLY, dir_fd=at), at
            os.close(above)
        fd = os.open(b"layer%d" % number, os.O_CREAT | os.O_RDWR, dir_fd=at)
        os.write(fd, b"deep %d" % number)
        os.close(fd)
        os.close(at)
    with stack.mounted() as mnt:
        at = os.open(mnt, os.O_RDONLY)
        for name in names:
            at, above = os.open(name, os.O_RDONLY, dir_fd=at), at
            os.close(above)
        for number in (0, 1):
            fd = os.open(b"layer%d" % number, os.O_RDWR, dir_fd=at)
            assert os.read(fd, 100) == b"deep %d" % number
            os.write(fd, b" and changed")
            os.close(fd)
        assert sorted(os.listdir(at)) == ["layer0", "layer1"]  # noqa: PTH208 - a descriptor
        os.close(at)
    with stack.by_kernel() as merged:
        run("bash", "-c", f'cd "{merged}"; while cd ./0*; do :; done; cat layer0 | grep changed')
        # In pieces, which pytest would not.
        run("rm", "-rf", merged / os.fsdecode(names[0]))


def test_listing_tells_the_numbers_and_kinds_that_stat_tells(stack: Stack) -> None:
    rich(stack)
    with stack.mounted() as mnt:
        for folder, _, _ in os.walk(mnt):
            with os.scandir(folder) as found:
                for entry in found:
                    st = entry.stat(follow_symlinks=False)
                    assert entry.inode() == st.st_ino, entry.path
                    assert entry.is_dir(follow_symlinks=False) == stat.S_ISDIR(st.st_mode)
                    assert entry.is_file(follow_symlinks=False) == stat.S_ISREG(st.st_mode)
                    assert entry.is_symlink() == stat.S_ISLNK(st.st_mode)


def raw_listing(folder: Path) -> list[tuple[str, int]]:
    """Names and numbers as readdir(3) gives them, the two dots included."""
    shown = run("ls", "-1aiU", folder)
    return [(name, int(number)) for number, name in (line.split() for line in shown.splitlines())]


def test_dot_and_dot_dot(stack: Stack) -> None:
    write(stack.lower / "a/b/file")
    with stack.mounted() as mnt:
        listed = raw_listing(mnt / "a/b")
        assert [name for name, _ in listed] == [".", "..", "file"]
        assert dict(listed)["."] == (mnt / "a/b").stat().st_ino
        assert dict(listed)[".."] == (mnt / "a").stat().st_ino
        here = mnt / "a/b/.." / "b/./file"
        assert here.stat().st_ino == (mnt / "a/b/file").stat().st_ino


def test_one_device_and_no_number_twice(tmp_path: Path, needs_root: None, needs_fuse: None) -> None:
    """Layers on two file systems have the same numbers; the union must not."""
    stack = Stack.make(tmp_path / "stack", lowers=3)
    for number, layer in enumerate(stack.lowers):
        run("mount", "-t", "tmpfs", "none", layer)
        for each in range(50):
            write(layer / f"d{number}/f{number}-{each}")
    try:
        with stack.mounted() as mnt:
            found = [path.lstat() for path in mnt.rglob("*")]
            assert len({st.st_dev for st in found}) == 1
            assert len({st.st_ino for st in found}) == len(found) == 153
    finally:
        for layer in stack.lowers:
            run("umount", layer)


def test_numbers_are_the_same_at_the_next_mount(stack: Stack) -> None:
    rich(stack)

    def numbers(mnt: Path) -> dict[Path, int]:
        return {path: path.lstat().st_ino for path in mnt.rglob("*")}

    with stack.mounted() as mnt:
        before = numbers(mnt)
    with stack.mounted() as mnt:
        assert numbers(mnt) == before


def test_a_listing_goes_on_where_it_was_while_names_come_and_go(stack: Stack) -> None:
    for number in range(500):
        write(stack.lower / f"dir/lower{number:03}")
    with stack.mounted() as mnt:
        folder = mnt / "dir"
        seen = []
        with os.scandir(folder) as found:
            for position, entry in enumerate(found):
                seen.append(entry.name)
                (folder / entry.name).unlink()
                (folder / f"new{position:03}").touch()
                if position >= 499:
                    break
        # Each old name once: none was skipped because others went.
        assert sorted(name for name in seen if name.startswith("lower")) == [
            f"lower{number:03}" for number in range(500)
        ]
        assert len(names(folder)) == 500


def test_seeking_in_a_directory(stack: Stack) -> None:
    for number in range(300):
        write(stack.lower / f"dir/f{number}")
    with stack.mounted() as mnt:
        fd = os.open(mnt / "dir", os.O_RDONLY)
        try:
            first = os.listdir(fd)  # noqa: PTH208 - a descriptor
            (mnt / "dir/another").touch()
            # listdir(3) rewinds, and a rewound directory is read anew.
            assert sorted(os.listdir(fd)) == sorted([*first, "another"])  # noqa: PTH208
        finally:
            os.close(fd)


def test_layers_below_the_mount_point_are_still_read(
    tmp_path: Path, needs_root: None, needs_fuse: None
) -> None:
    """The layers may lie in the directory that the mount covers."""
    base = tmp_path / "covered"
    base.mkdir()
    made = Stack.make(base / "inside")
    write(made.lower / "file", "text")
    command = [*made.command()[:-1], str(base)]
    daemon = start(command, base, tmp_path)
    try:
        assert names(base) == ["file"]
        (base / "file").write_text("changed")
        (base / "dir").mkdir()
        daemon.unmount()
    finally:
        if daemon.process.poll() is None:
            daemon.abandon()
    assert (made.upper / "file").read_text() == "changed"
    assert (made.lower / "file").read_text() == "text"
