"""Marks that the layers of an image may carry, and that mean nothing there."""

import os
from pathlib import Path

import pytest

from tests.support.callers import outcome
from tests.support.tree import names
from tests.support.union import Stack, write


@pytest.fixture
def stack(tmp_path: Path, needs_root: None, needs_fuse: None) -> Stack:
    """Two layers of an image, as containers/storage keeps them."""
    return Stack.of_storage(tmp_path / "stack")


@pytest.mark.parametrize("options", [(), ("redirect_dir=on", "metacopy=on")], ids=["plain", "on"])
@pytest.mark.parametrize("value", [b"/secret", b"secret", b"../secret", b"secret/sub"])
def test_redirects_in_lower_layers_lead_nowhere(
    stack: Stack, options: tuple[str, ...], value: bytes
) -> None:
    """One would show files under a name, and with permissions, that their owner never gave."""
    top, base = stack.lowers
    write(base / "secret/sub/file", "secret")
    (base / "secret").chmod(0o700)
    write(base / "open/file", "open")
    (top / "open").mkdir()
    os.setxattr(top / "open", "trusted.overlay.redirect", value)
    (top / "new").mkdir()
    os.setxattr(top / "new", "trusted.overlay.redirect", value)
    with stack.mounted(*options) as mnt:
        assert names(mnt) == ["new", "open", "secret"]
        assert names(mnt / "new") == []
        assert names(mnt / "open") == ["file"]
        (mnt / "open/another").touch()
        assert names(mnt / "open") == ["another", "file"]
    with stack.mounted(*options) as mnt:
        assert names(mnt / "new") == []
        assert names(mnt / "open") == ["another", "file"]


@pytest.mark.parametrize("options", [(), ("redirect_dir=on", "metacopy=on")], ids=["plain", "on"])
def test_a_lower_file_never_shows_the_data_of_another(
    stack: Stack, options: tuple[str, ...]
) -> None:
    """What says that its data is elsewhere is an empty file like others."""
    top, base = stack.lowers
    write(base / "shadow", "secret", mode=0o600)
    with write(top / "file").open("wb") as file:
        file.truncate(6)
    os.setxattr(top / "file", "trusted.overlay.metacopy", b"")
    os.setxattr(top / "file", "trusted.overlay.redirect", b"/shadow")
    with stack.mounted(*options) as mnt:
        assert (mnt / "file").read_bytes() == bytes(6)
        with (mnt / "file").open("ab") as file:
            file.write(b"new")
        assert (mnt / "file").read_bytes() == bytes(6) + b"new"
        assert os.listxattr(mnt / "file") == []
    with stack.mounted(*options) as mnt:
        assert (mnt / "file").read_bytes() == bytes(6) + b"new"


def test_an_origin_in_a_lower_layer_gives_no_number(stack: Stack) -> None:
    """Two files with one number would be one file to tar(1) and to us."""
    top, base = stack.lowers
    write(base / "one", "one")
    with stack.mounted() as mnt:
        number = (mnt / "one").stat().st_ino
    write(top / "other", "other")
    os.setxattr(top / "other", "trusted.overlay.pyoverlay.origin", b"%d" % number)
    with stack.mounted() as mnt:
        assert (mnt / "other").stat().st_ino != (mnt / "one").stat().st_ino
        assert (mnt / "other").read_text() == "other"


@pytest.mark.parametrize("value", [b"nonsense", b"0:0", b"-1:0:0644:file", b"0:0:99999:file", b""])
def test_an_owner_that_makes_no_sense_is_an_error_of_that_file_alone(
    stack: Stack, value: bytes
) -> None:
    for folder in (*stack.lowers, stack.upper):
        os.setxattr(folder, "user.containers.override_stat", b"0:0:0755:dir")
    write(stack.lower / "dir/file", "text")
    write(stack.lower / "good/file", "good")
    os.setxattr(stack.lower / "dir/file", "user.containers.override_stat", value)
    with stack.mounted() as mnt:
        assert (mnt / "good/file").read_text() == "good"
        assert outcome((mnt / "dir/file").stat) in ("done", "EIO")
        write(mnt / "dir2/new", "new")
        assert (mnt / "dir2/new").read_text() == "new"
