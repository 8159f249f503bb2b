"""Lower files stay open for the next who opens them; nothing else does."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from overlayfs.serving import Stack, native_format
from overlayfs.tree.bodies import Bodies
from tests.support.live import Live
from tests.support.union import write


def is_open(fd: int) -> bool:
    return Path(f"/proc/self/fd/{fd}").exists()


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Live]:
    lower = tmp_path / "lower"
    write(lower / "file", "lower")
    write(lower / "other", "other")
    stack = Stack((lower,), tmp_path / "upper", tmp_path / "work", native_format())
    fs = stack.open()
    yield Live(fs)
    fs.close()


def test_a_lower_file_is_opened_once(live: Live) -> None:
    first = live.open("file", os.O_RDONLY).fd
    live.fs.files.release(live.node("file"))
    again = live.open("file", os.O_RDONLY)
    assert again.fd == first
    assert live.read("other") == b"other"
    assert os.pread(again.fd, 10, 0) == b"lower"
    live.fs.files.release(again)


def test_a_copy_is_read_and_not_what_was_kept(live: Live) -> None:
    assert live.read("file") == b"lower"
    live.write("file", b"upper")
    assert live.read("file") == b"upper"


def test_no_file_of_the_upper_layer_stays_open(live: Live) -> None:
    live.create("new", 0o644, b"new")
    node = live.open("new", os.O_RDONLY)
    fd = node.fd
    assert is_open(fd)
    live.fs.files.release(node)
    assert not is_open(fd)


def test_what_the_kernel_forgets_is_closed(live: Live) -> None:
    node = live.open("file", os.O_RDONLY)
    fd = node.fd
    live.fs.files.release(node)
    assert is_open(fd)
    live.fs.forget(node.ino, node.lookups)
    assert not is_open(fd)


def test_a_removed_file_is_closed_with_its_last_reference(live: Live) -> None:
    node = live.open("file", os.O_RDONLY)
    fd = node.fd
    live.fs.files.release(node)
    live.unlink("file")
    live.fs.forget(node.ino, node.lookups)
    assert not is_open(fd)


def test_the_least_recently_released_goes_first() -> None:
    bodies = Bodies(2)
    one, two, three = (os.open(os.devnull, os.O_RDONLY) for _ in range(3))
    bodies.keep(1, one)
    bodies.keep(2, two)
    assert bodies.take(1) == one
    bodies.keep(1, one)
    bodies.keep(3, three)
    assert [is_open(fd) for fd in (one, two, three)] == [True, False, True]
    assert bodies.take(2) == -1
    bodies.drop(1)
    assert not is_open(one)
    bodies.close()
    assert not is_open(three)
    assert bodies.take(3) == -1
