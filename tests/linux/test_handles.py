"""File handles, on whatever disk the tests are."""

import errno
import os
from pathlib import Path

import pytest

from overlayfs.linux import fds, handles


@pytest.fixture
def folder(tmp_path: Path, needs_root: None) -> int:
    return os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)


def test_a_handle_leads_to_the_file_wherever_it_is(tmp_path: Path, folder: int) -> None:
    (tmp_path / "file").write_text("text")
    (tmp_path / "link").symlink_to("file")
    for name in (b"file", b"link"):
        path = fds.beneath(folder, name)
        wanted = handles.handle(path)
        number = os.lstat(path).st_ino
        os.rename(name, name + b"-moved", src_dir_fd=folder, dst_dir_fd=folder)
        fd = handles.open_path(folder, wanted)
        assert os.fstat(fd).st_ino == number
        os.close(fd)
    os.close(folder)


def test_an_open_file_has_the_handle_that_its_name_has(tmp_path: Path, folder: int) -> None:
    with (tmp_path / "file").open("w") as file:
        assert handles.handle(file.fileno()) == handles.handle(fds.beneath(folder, b"file"))
    os.close(folder)


def test_a_file_that_is_gone(tmp_path: Path, folder: int) -> None:
    (tmp_path / "file").touch()
    wanted = handles.handle(fds.beneath(folder, b"file"))
    (tmp_path / "file").unlink()
    for stale in (wanted, handles.Handle(wanted.kind, bytes(200))):
        with pytest.raises(OSError, match=os.strerror(errno.ESTALE)):
            handles.open_path(folder, stale)
    os.close(folder)


def test_where_there_are_none() -> None:
    with pytest.raises(OSError, match=os.strerror(errno.EOPNOTSUPP)):
        handles.handle(b"/proc/self/status")
