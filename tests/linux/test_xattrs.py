"""Extended attributes by path, without following links, and by descriptor."""

import errno
import os
from pathlib import Path

import pytest

from overlayfs.linux import xattrs


def test_by_path_and_by_descriptor(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    place = os.fsencode(path)
    xattrs.put(place, b"user.\xff", b"\0value")
    with path.open("rb") as file:
        assert xattrs.get(file.fileno(), b"user.\xff") == b"\0value"
        assert xattrs.names(file.fileno()) == xattrs.names(place) == [b"user.\xff"]
        xattrs.remove(file.fileno(), b"user.\xff")
    assert xattrs.get(place, b"user.\xff") is None
    with pytest.raises(OSError, match=r".+") as caught:
        xattrs.remove(place, b"user.\xff")
    assert caught.value.errno == errno.ENODATA


def test_a_link_has_attributes_of_its_own(tmp_path: Path, needs_root: None) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.touch()
    link.symlink_to(target)
    xattrs.put(os.fsencode(link), b"trusted.a", b"link")
    assert xattrs.get(os.fsencode(link), b"trusted.a") == b"link"
    assert xattrs.names(os.fsencode(target)) == []


def test_where_none_can_be_there_are_none() -> None:
    assert xattrs.get(b"/proc/self/status", b"user.a") is None
    assert xattrs.names(b"/proc/self/status") == []


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        xattrs.get(os.fsencode(tmp_path / "missing"), b"user.a")
    with pytest.raises(FileNotFoundError):
        xattrs.names(os.fsencode(tmp_path / "missing"))
