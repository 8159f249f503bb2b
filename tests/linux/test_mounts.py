"""What is mounted, and unmounting it."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from overlayfs.linux.mounts import Mount, mounted, read_ahead, unmount
from tests.support.union import run


@contextmanager
def tmpfs(path: Path, source: str = "none") -> Iterator[Path]:
    """A small file system at *path*, which is made."""
    path.mkdir()
    run("mount", "-t", "tmpfs", source, path)
    yield path
    if any(mount.mountpoint == path for mount in mounted()):
        run("umount", path)


def device(path: Path) -> str:
    number = path.stat().st_dev
    return f"{os.major(number)}:{os.minor(number)}"


@pytest.mark.parametrize(
    "name",
    [
        "plain",
        "carriage\rreturn",
        "with space",
        "tab\there",
        "new\nline",
        "back\\slash",
        "\\040",
        "ünï",
        "#hash",
        " - ",
    ],
)
def test_a_mount_is_found_whatever_its_name(tmp_path: Path, needs_root: None, name: str) -> None:
    path = tmp_path / name
    assert not [mount for mount in mounted() if mount.mountpoint == path]
    with tmpfs(path, "the source"):
        options = frozenset({"rw", "relatime"})
        assert mounted()[-1] == Mount(path, device(path), "tmpfs", "the source", options)


def test_a_name_that_is_no_text(tmp_path: Path, needs_root: None) -> None:
    path = tmp_path / os.fsdecode(b"\xff \xfe")
    with tmpfs(path):
        assert [mount.mountpoint for mount in mounted()][-1] == path


def test_only_what_is_mounted_can_be_read_ahead_of(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nothing is mounted there"):
        read_ahead(tmp_path, 512)


def test_unmount(tmp_path: Path, needs_root: None) -> None:
    with tmpfs(tmp_path / "mnt") as path:
        unmount(path)
        assert not [mount for mount in mounted() if mount.mountpoint == path]
        with pytest.raises(OSError, match=r".+") as caught:
            unmount(path)
        assert caught.value.errno == errno.EINVAL


def test_what_is_in_use_stays_mounted(tmp_path: Path, needs_root: None) -> None:
    with tmpfs(tmp_path / "mnt") as path, (path / "file").open("w") as file:
        with pytest.raises(OSError, match=r".+") as caught:
            unmount(path)
        assert caught.value.errno == errno.EBUSY
        unmount(path, lazy=True)
        assert not [mount for mount in mounted() if mount.mountpoint == path]
        file.write("goes on working")


def test_a_symbolic_link_is_not_followed(tmp_path: Path, needs_root: None) -> None:
    with tmpfs(tmp_path / "mnt") as path:
        link = tmp_path / "link"
        link.symlink_to(path)
        with pytest.raises(OSError, match=r".+"):
            unmount(link)
        assert [mount for mount in mounted() if mount.mountpoint == path]
