"""File systems that can do more, or less, than the usual one."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.callers import outcome
from tests.support.union import Stack, is_whiteout, run, write

MIB = 1 << 20


@contextmanager
def on(kind: str, base: Path, *options: str) -> Iterator[None]:
    """A fresh file system of *kind* at *base*, which is made."""
    base.mkdir()
    image = base.with_suffix(".img")
    if kind in ("tmpfs", "ramfs"):
        source: str | Path = "none"
    else:
        with image.open("wb") as file:
            file.truncate(300 * MIB)
        run(f"mkfs.{kind}", "-q", image)
        source, options = image, ("loop", *options)
    run("mount", "-t", kind, *(["-o", ",".join(options)] if options else []), source, base)
    try:
        yield
    finally:
        run("umount", base)
        image.unlink(missing_ok=True)


def test_a_copy_shares_its_blocks_where_the_disk_can(
    tmp_path: Path, needs_root: None, needs_fuse: None
) -> None:
    with on("btrfs", tmp_path / "disk"):
        stack = Stack.make(tmp_path / "disk/stack")
        data = os.urandom(20 * MIB)
        write(stack.lower / "large", data)
        run("sync", "-f", stack.lower)
        with stack.mounted() as mnt:
            with (mnt / "large").open("r+b") as file:
                file.write(b"new")
            assert (mnt / "large").read_bytes() == b"new" + data[3:]
        told = run("filefrag", "-v", stack.upper / "large")
        shared = sum(int(line.split(":")[3]) for line in told.splitlines() if "shared" in line)
        assert shared * 4096 > 19 * MIB


def test_attributes_that_do_not_fit_keep_a_file_from_being_copied(
    stack: Stack, tmp_path: Path
) -> None:
    """All of it or nothing: a copy without a part of its attributes would be another file."""
    with on("tmpfs", tmp_path / "disk"):
        below = Stack(stack.base, (tmp_path / "disk",))
        write(tmp_path / "disk/dir/file", "text")
        # More than ext4 keeps, and less than tmpfs does.
        os.setxattr(tmp_path / "disk/dir/file", "user.much", b"v" * 30_000)
        with below.mounted() as mnt:
            for act in (
                lambda: (mnt / "dir/file").chmod(0o600),
                lambda: (mnt / "dir/file").open("r+b"),
                lambda: (mnt / "dir/file").rename(mnt / "dir/moved"),
            ):
                assert outcome(act) == "ENOSPC"
            assert os.getxattr(mnt / "dir/file", "user.much") == b"v" * 30_000
            assert list((stack.work / "work").iterdir()) == []
            (mnt / "dir/file").unlink()
        assert is_whiteout(stack.upper / "dir/file")
        assert not list((stack.upper / "dir").glob("m*"))


def test_labels_that_the_upper_file_system_cannot_keep_are_left_behind(
    tmp_path: Path, stack: Stack
) -> None:
    """What is security.* or trusted.*; the rest of the file is worth more."""
    write(stack.lower / "file", "text")
    os.setxattr(stack.lower / "file", "trusted.label", b"v")
    os.setxattr(
        stack.lower / "file", "security.capability", bytes.fromhex("0100000200200000" + "00" * 12)
    )
    write(stack.lower / "noted", "text")
    os.setxattr(stack.lower / "noted", "user.note", b"v")
    with on("ramfs", tmp_path / "disk"):
        made = Stack.make(tmp_path / "disk/stack")
        above = Stack(made.base, stack.lowers)
        with above.mounted() as mnt:
            with (mnt / "file").open("a") as file:
                file.write(" and more")
            assert (mnt / "file").read_text() == "text and more"
            assert os.listxattr(mnt / "file") == []
            # What a user set is data, and its loss is told.
            assert outcome(lambda: (mnt / "noted").open("a")) == "ENOTSUP"
            assert (mnt / "noted").read_text() == "text"
            assert list((above.work / "work").iterdir()) == []
