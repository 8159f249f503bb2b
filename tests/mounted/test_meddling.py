"""Layers that somebody changes while they are mounted: an errno at worst, and life goes on."""

import os
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from tests.support.callers import outcome
from tests.support.tree import names
from tests.support.union import Stack, run, write

MIB = 1 << 20


def outside(layer: Path) -> Path:
    """Where links may lead: whoever works in the mount follows them, as root, and changes that."""
    return layer.parents[1] / "outside"


def no_file(layer: Path) -> None:
    (layer / "dir/file").unlink()


def another_file(layer: Path) -> None:
    (layer / "dir/file").unlink()
    write(layer / "dir/file", "another")


def shorter(layer: Path) -> None:
    os.truncate(layer / "dir/file", 10)


def longer(layer: Path) -> None:
    with (layer / "dir/file").open("ab") as file:
        file.write(b"more" * MIB)


def link_outside(layer: Path) -> None:
    (layer / "dir/file").unlink()
    (layer / "dir/file").symlink_to(outside(layer) / "file")


def pipe(layer: Path) -> None:
    (layer / "dir/file").unlink()
    os.mkfifo(layer / "dir/file")


def directory(layer: Path) -> None:
    (layer / "dir/file").unlink()
    (layer / "dir/file").mkdir()


def no_directory(layer: Path) -> None:
    shutil.rmtree(layer / "dir")


def another_directory(layer: Path) -> None:
    (layer / "dir").rename(layer / "was-dir")
    write(layer / "dir/new", "new")


def file_for_directory(layer: Path) -> None:
    shutil.rmtree(layer / "dir")
    write(layer / "dir", "a file")


def link_for_directory(layer: Path) -> None:
    shutil.rmtree(layer / "dir")
    (layer / "dir").symlink_to(outside(layer))


def nothing_left(layer: Path) -> None:
    for path in layer.iterdir():
        run("rm", "-rf", path)


def new_names(layer: Path) -> None:
    write(layer / "dir/new", "new")
    write(layer / "dir/sub/made", "new")
    (layer / "dir/other").rename(layer / "dir/moved")


def read(path: Path) -> None:
    """Not waiting for the other end, where the file is a fifo by now."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        while os.read(fd, MIB):
            pass
    finally:
        os.close(fd)


MEDDLING = [
    *(no_file, another_file, shorter, longer, link_outside, pipe, directory),
    *(no_directory, another_directory, file_for_directory, link_for_directory),
    *(nothing_left, new_names),
]

STEPS: dict[str, Callable[[Path], object]] = {
    "list": lambda mnt: names(mnt / "dir"),
    "list deep": lambda mnt: names(mnt / "dir/sub"),
    "stat": lambda mnt: (mnt / "dir/file").lstat(),
    "read": lambda mnt: read(mnt / "dir/file"),
    "read the attribute": lambda mnt: os.getxattr(mnt / "dir/file", "user.note"),
    "read the link": lambda mnt: (mnt / "dir/link").readlink(),
    "make": lambda mnt: (mnt / "dir/made").touch(),
    "make a directory": lambda mnt: (mnt / "dir/sub/made").mkdir(),
    "link": lambda mnt: (mnt / "linked").hardlink_to(mnt / "dir/file"),
    "chmod": lambda mnt: (mnt / "dir/file").chmod(0o600),
    "write": lambda mnt: os.close(os.open(mnt / "dir/file", os.O_RDWR)),
    "truncate": lambda mnt: os.truncate(mnt / "dir/file", 20),
    "move": lambda mnt: (mnt / "dir/other").rename(mnt / "moved"),
    "move the directory": lambda mnt: (mnt / "dir").rename(mnt / "elsewhere"),
    "remove": lambda mnt: (mnt / "dir/file").unlink(),
    "remove the directory": lambda mnt: (mnt / "dir/sub").rmdir(),
    "find nothing": lambda mnt: (mnt / "dir/nothing").lstat(),
    "statfs": os.statvfs,
}

# What a program can make sense of.  EIO is the kernel's, for a number that is another kind of
# file than it was; where it stands for a bug, the daemon writes a traceback, which fails the test.
LEGAL = {
    *("done", "ENOENT", "ENOTDIR", "EISDIR", "ELOOP", "ESTALE", "EEXIST", "ENOTEMPTY"),
    *("ENODATA", "EINVAL", "EXDEV", "EPERM", "ESPIPE", "ENOTSUP", "EIO"),
}


USED = ("file", "other")


def fill(layer: Path) -> None:
    write(layer / "dir/file", b"text" * 50_000)
    os.setxattr(layer / "dir/file", "user.note", b"v")
    write(layer / "dir/other", "other")
    write(layer / "dir/sub/deep", "deep")
    (layer / "dir/link").symlink_to("file")
    write(layer / "apart/file", "apart")


@pytest.mark.parametrize("when", ["fresh", "seen", "in-use", "forgotten"])
@pytest.mark.parametrize("where", ["lower", "upper"])
def test_an_errno_at_worst(stack: Stack, where: str, when: str) -> None:
    """In whatever state of knowledge the mount is when it happens."""
    layer = stack.lower if where == "lower" else stack.upper
    folders = {meddle.__name__: meddle for meddle in MEDDLING}
    for folder in folders:
        fill(layer / folder)
        write(stack.lowers[0] / folder / "dir/between", "between")
    fill(stack.base / "decoy")
    (stack.base / "decoy/dir").rename(stack.base / "outside")
    with stack.mounted() as mnt, ExitStack() as files:
        opened = []
        if when != "fresh":
            run("ls", "-lR", mnt)
        if when == "in-use":
            paths = [mnt / folder / "dir" / name for folder in folders for name in USED]
            opened = [files.enter_context(path.open("rb", buffering=0)) for path in paths]
            assert {len(file.read(5)) for file in opened} == {5}
        if when == "forgotten":
            Path("/proc/sys/vm/drop_caches").write_text("2")
        for folder, meddle in folders.items():
            meddle(layer / folder)
        for folder in folders:
            told = {name: outcome(partial(step, mnt / folder)) for name, step in STEPS.items()}
            strange = {name: said for name, said in told.items() if said not in LEGAL}
            assert not strange, folder
        for file in opened:
            assert outcome(partial(file.read, MIB)) in LEGAL
        # What nobody touched works, and so does what is new.
        for folder in folders.keys() - {"nothing_left"}:
            assert (mnt / folder / "apart/file").read_text() == "apart"
        assert write(mnt / "fresh/file", "fresh").read_text() == "fresh"
        assert (mnt / "fresh/file").stat().st_nlink == 1
        assert list((stack.work / "work").iterdir()) == []


def test_nothing_outside_is_read_through_a_link_that_came_later(stack: Stack) -> None:
    secret = write(stack.base / "outside/secret", "secret")
    write(stack.lower / "file", "text")
    write(stack.lower / "dir/secret", "text")
    with stack.mounted() as mnt:
        run("ls", "-lR", mnt)
        (stack.lower / "file").unlink()
        (stack.lower / "file").symlink_to(secret)
        shutil.rmtree(stack.lower / "dir")
        (stack.lower / "dir").symlink_to(secret.parent)
        for path in (mnt / "file", mnt / "dir/secret"):
            assert outcome(path.read_bytes) in ("ELOOP", "ENOTDIR", "ENOENT")
            assert outcome(lambda path=path: path.open("r+b")) in ("ELOOP", "ENOTDIR", "ENOENT")
        (mnt / "new").touch()
    assert secret.read_text() == "secret"
    assert names(stack.upper) == ["new"]


def test_a_file_that_becomes_shorter_while_it_is_copied(stack: Stack) -> None:
    """The copy has what there was, and the holes that are left, or it is refused."""
    size = 3 * MIB
    write(stack.lower / "file", b"o" * size)
    with stack.mounted() as mnt:
        assert (mnt / "file").stat().st_size == size
        os.truncate(stack.lower / "file", 100)
        said = outcome(lambda: (mnt / "file").open("r+b").close())
        assert said in ("done", "EIO")
        (mnt / "other").touch()
        assert (mnt / "other").exists()
        assert list((stack.work / "work").iterdir()) == []
        if said == "done":
            assert (mnt / "file").read_bytes().startswith(b"o" * 100)


def test_a_file_that_somebody_moves_hides_nothing_beside_its_new_name(stack: Stack) -> None:
    """Its number is known under a name that is gone; the rest of the directory still shows."""
    write(stack.upper / "one/moved", "moved")
    write(stack.upper / "two/untouched", "untouched")
    with stack.mounted() as mnt:
        assert names(mnt / "one") == ["moved"]
        (stack.upper / "one/moved").rename(stack.upper / "two/here")
        assert names(mnt / "two") == ["here", "untouched"]
        assert (mnt / "two/untouched").read_text() == "untouched"
        assert (mnt / "two/here").read_text() == "moved"
        write(mnt / "two/new", "new")
    assert names(stack.upper / "two") == ["here", "new", "untouched"]
