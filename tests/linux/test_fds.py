"""Descriptors beneath a root: nothing outside is reached, and no path is too long."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from overlayfs.linux import fds
from tests.support.union import run

READ = os.O_RDONLY


@pytest.fixture
def root(tmp_path: Path) -> Iterator[int]:
    """A descriptor of ``root``, beside which there is a secret."""
    folder = tmp_path / "root"
    (folder / "a/b").mkdir(parents=True)
    (folder / "a/b/file").write_text("inside")
    (tmp_path / "secret").write_text("outside")
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)
    run("rm", "-rf", folder)  # pytest removes a directory of directories by recursion


def read(root: int, path: bytes) -> bytes:
    fd = fds.open_beneath(root, path, READ)
    try:
        return os.read(fd, 100)
    finally:
        os.close(fd)


def test_a_file_inside_is_opened(root: int) -> None:
    assert read(root, b"a/b/file") == b"inside"


def test_the_empty_path_is_the_root(root: int) -> None:
    fd = fds.open_beneath(root, b"", os.O_RDONLY | os.O_DIRECTORY)
    try:
        assert os.path.samestat(os.fstat(fd), os.fstat(root))
        assert not os.get_inheritable(fd)
    finally:
        os.close(fd)


@pytest.mark.parametrize(
    ("path", "code"),
    [
        pytest.param(b"../secret", errno.EXDEV, id="dot-dot"),
        pytest.param(b"a/../../secret", errno.EXDEV, id="dot-dot-on-the-way"),
        pytest.param(b"/etc/passwd", errno.EXDEV, id="absolute"),
        pytest.param(b"nothing", errno.ENOENT, id="missing"),
        pytest.param(b"a/b/file/x", errno.ENOTDIR, id="below-a-file"),
    ],
)
def test_what_is_refused(root: int, path: bytes, code: int) -> None:
    with pytest.raises(OSError, match=r".+") as caught:
        read(root, path)
    assert caught.value.errno == code


@pytest.mark.parametrize(
    ("target", "path"),
    [
        pytest.param("../secret", b"link", id="last-leads-outside"),
        pytest.param("a/b/file", b"link", id="last-stays-inside"),
        pytest.param("a", b"link/b/file", id="on-the-way"),
        pytest.param("/proc/self/root", b"link/etc/passwd", id="magic"),
    ],
)
def test_no_symbolic_link_is_followed(root: int, tmp_path: Path, target: str, path: bytes) -> None:
    (tmp_path / "root/link").symlink_to(target)
    with pytest.raises(OSError, match=r".+") as caught:
        read(root, path)
    assert caught.value.errno == errno.ELOOP


def deep_directory(at: int, names: list[bytes]) -> None:
    """Directories within each other, each made relative to the one above it."""
    at = os.dup(at)
    for name in names:
        os.mkdir(name, dir_fd=at)
        below = os.open(name, os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    fd = os.open(b"file", os.O_CREAT | os.O_WRONLY, dir_fd=at)
    os.write(fd, b"deep")
    os.close(fd)
    os.close(at)


@pytest.mark.parametrize("length", [1, 99, 199, 255])
def test_a_path_longer_than_path_max_is_walked(root: int, length: int) -> None:
    names = [b"n" * length] * (9000 // (length + 1))
    deep_directory(root, names)
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - only the number
    assert read(root, b"/".join([*names, b"file"])) == b"deep"
    with pytest.raises(FileNotFoundError):
        read(root, b"/".join([*names, b"nothing"]))
    with pytest.raises(FileNotFoundError):
        read(root, b"/".join([*names[:-1], b"nothing", *names]))
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def test_no_symbolic_link_is_followed_in_a_long_path_either(root: int, tmp_path: Path) -> None:
    names = [b"n" * 200] * 30
    deep_directory(root, names)
    (tmp_path / "root/link").symlink_to(os.fsdecode(names[0]))
    with pytest.raises(OSError, match=r".+") as caught:
        read(root, b"/".join([b"link", *names[1:], b"file"]))
    assert caught.value.errno == errno.ELOOP


def test_paths_by_descriptor_lead_to_the_directory_wherever_it_moved(
    root: int, tmp_path: Path
) -> None:
    fd = fds.open_beneath(root, b"a/b", os.O_RDONLY | os.O_DIRECTORY)
    try:
        (tmp_path / "root/a").rename(tmp_path / "moved")
        assert Path(os.fsdecode(fds.beneath(fd, b"file"))).read_text() == "inside"
        assert os.path.samestat(os.stat(fds.itself(fd)), os.fstat(fd))  # noqa: PTH116 - bytes
    finally:
        os.close(fd)
