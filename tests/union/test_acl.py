"""Access control lists, held against what a real file system does with them."""

import os
import stat
from pathlib import Path

import pytest

from overlayfs.union import acl
from tests.support.union import run

LISTS = {
    "plain": "u::rwx,g::r-x,o::---",
    "named-user": "u::rwx,u:1:rwx,g::r-x,m::rwx,o::r--",
    "named-group": "u::rw-,g::rw-,g:2:r--,m::rw-,o::---",
    "narrow-mask": "u::rwx,u:1:rwx,g::rwx,m::r--,o::rwx",
    "mask-alone": "u::rwx,g::rwx,m::r-x,o::r-x",
    "nothing-at-all": "u::---,g::---,o::---",
}
MODES = [0o777, 0o666, 0o640, 0o600, 0o000, 0o1777, 0o4755, 0o2711]


@pytest.fixture(params=LISTS.values(), ids=LISTS.keys())
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A directory with a default access control list, on a real file system."""
    made = tmp_path / "folder"
    made.mkdir()
    run("setfacl", "-d", "-m", request.param, made)
    return made


def listed(path: Path, name: bytes) -> bytes | None:
    """The list that *path* has under *name*."""
    return os.getxattr(path, name) if os.fsdecode(name) in os.listxattr(path) else None


@pytest.mark.parametrize("mode", MODES, ids=oct)
def test_a_file_inherits_what_the_kernel_gives_it(folder: Path, mode: int) -> None:
    default = os.getxattr(folder, acl.DEFAULT)
    path = folder / "file"
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY, mode))
    expected = stat.S_IMODE(path.stat().st_mode), listed(path, acl.ACCESS)
    assert acl.inherit(default, mode) == expected


@pytest.mark.parametrize("mode", [mode & 0o1777 for mode in MODES], ids=oct)
def test_a_directory_inherits_what_the_kernel_gives_it(folder: Path, mode: int) -> None:
    default = os.getxattr(folder, acl.DEFAULT)
    path = folder / "directory"
    path.mkdir(mode)
    expected = stat.S_IMODE(path.stat().st_mode), listed(path, acl.ACCESS)
    assert acl.inherit(default, mode) == expected
    assert listed(path, acl.DEFAULT) == default


@pytest.mark.parametrize("mode", MODES, ids=oct)
@pytest.mark.parametrize("text", LISTS.values(), ids=LISTS.keys())
def test_chmod_changes_a_list_as_the_kernel_does(tmp_path: Path, text: str, mode: int) -> None:
    path = tmp_path / "file"
    path.touch()
    run("setfacl", "-m", text, path)
    before = listed(path, acl.ACCESS)
    path.chmod(mode)
    after = listed(path, acl.ACCESS)
    assert (None if before is None else acl.with_permissions(before, mode)) == after
    if after is not None:
        assert acl.permissions(after) == mode & 0o777


@pytest.mark.parametrize("text", LISTS.values(), ids=LISTS.keys())
def test_the_kernel_keeps_exactly_the_lists_that_are_not_plain(tmp_path: Path, text: str) -> None:
    sample = tmp_path / "sample"
    sample.mkdir()
    run("setfacl", "-d", "-m", text, sample)
    value = os.getxattr(sample, acl.DEFAULT)
    path = tmp_path / "file"
    path.touch()
    os.setxattr(path, acl.ACCESS, value)
    assert acl.is_plain(value) == (listed(path, acl.ACCESS) is None)
    assert acl.permissions(value) == path.stat().st_mode & 0o777


@pytest.mark.parametrize("value", [b"", b"\x02\0\0", b"\x01\0\0\0", b"\x02\0\0\0\x01"])
def test_what_is_no_list_is_refused(value: bytes) -> None:
    with pytest.raises(ValueError, match="not an access control list"):
        acl.permissions(value)
