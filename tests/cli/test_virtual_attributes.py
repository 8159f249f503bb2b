"""The layer that a file of a mounted image is from, asked for by name."""

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.archives import Link, Made, digest, tar_bytes, write_tar
from tests.support.archives import from_1_10 as saved
from tests.support.callers import refused
from tests.support.command import PyOverlay
from tests.support.images import run
from tests.support.plain import as_plain_user
from tests.support.union import Stack as Directories

pytestmark = pytest.mark.usefixtures("needs_root", "needs_fuse")

BASE = tar_bytes(
    [
        ("etc/", None),
        ("etc/passwd", b"root\n"),
        ("etc/hosts", b"localhost\n"),
        ("etc/link", Link("hosts")),
        ("old/", None),
        ("old/file", b"old\n"),
        ("only-base/", None),
        ("first", b"two names\n"),
        ("second", Link("first", hard=True)),
    ]
)
CHANGED = tar_bytes([("etc/", None), ("etc/passwd", b"root and me\n")])
EMPTY = tar_bytes([("old/", None), ("old/.wh..wh..opq", b""), ("old/new", b"new\n")])
IMAGE = Made(
    (BASE, CHANGED, EMPTY),
    {
        "history": [
            {"created_by": "COPY rootfs /"},
            {"created_by": "ENV A=b", "empty_layer": True},
            {"created_by": "RUN echo »me« >> /etc/passwd"},
        ]
    },
)
LAYER, DIFF_ID, CREATED_BY = (
    f"user.pyoverlay.{name}" for name in ("layer", "diff_id", "created_by")
)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """The image in a tar."""
    return write_tar(tmp_path / "image.tar", saved([(IMAGE, ["marked:latest"])]))


@pytest.fixture
def mnt(pyoverlay: PyOverlay, archive: Path, tmp_path: Path) -> Iterator[Path]:
    """The image, mounted."""
    with pyoverlay.mounted(archive, tmp_path / "mnt") as mountpoint:
        yield mountpoint


def value(path: Path, name: str) -> str | None:
    """An extended attribute, None when it is not there."""
    try:
        return os.getxattr(path, name).decode()
    except OSError as exc:
        if exc.errno != errno.ENODATA:
            raise
        return None


def told(path: Path) -> tuple[str | None, str | None, str | None]:
    """Layer, diff id and what made it."""
    return value(path, LAYER), value(path, DIFF_ID), value(path, CREATED_BY)


FROM_BASE = (digest(BASE), "COPY rootfs /")
FROM_CHANGED = (digest(CHANGED), "RUN echo »me« >> /etc/passwd")
# The history says nothing of the third layer.
FROM_EMPTY = (digest(EMPTY), None)


@pytest.mark.parametrize("options", [(), ("--read-only",)])
def test_each_file_tells_its_layer(
    pyoverlay: PyOverlay, archive: Path, tmp_path: Path, options: tuple[str, ...]
) -> None:
    with pyoverlay.mounted(archive, tmp_path / "mnt", *options) as mnt:
        assert told(mnt / "etc/hosts") == ("1", *FROM_BASE)
        assert told(mnt / "etc/passwd") == ("2", *FROM_CHANGED)
        assert told(mnt / "old/new") == ("3", *FROM_EMPTY)
        # A merged directory: the topmost layer that has it.
        assert told(mnt / "etc") == ("2", *FROM_CHANGED)
        assert told(mnt / "old") == ("3", *FROM_EMPTY)
        assert told(mnt / "only-base") == ("1", *FROM_BASE)
        assert told(mnt / "second") == ("1", *FROM_BASE)
        # To the kernel, links have no attributes of users; it does not ask.
        with pytest.raises(OSError, match="No data available"):
            os.getxattr(mnt / "etc/link", LAYER, follow_symlinks=False)
        assert value(mnt / "etc/link", LAYER) == "1"


def test_what_was_changed_in_the_mount_tells_where_it_came_from(mnt: Path) -> None:
    (mnt / "etc/passwd").write_text("other\n")
    (mnt / "etc/hosts").rename(mnt / "moved")
    (mnt / "made").write_text("new\n")
    (mnt / "only-base").chmod(0o700)
    (mnt / "first").write_text("longer\n")
    shutil.rmtree(mnt / "old")
    (mnt / "old").mkdir()
    expected = {
        "etc/passwd": ("upper", *FROM_CHANGED),
        "moved": ("upper", *FROM_BASE),
        "made": ("upper", None, None),
        "only-base": ("upper", *FROM_BASE),
        "first": ("upper", *FROM_BASE),
        "second": ("upper", *FROM_BASE),
        "old": ("upper", None, None),
        "etc": ("upper", *FROM_CHANGED),
    }
    assert {name: told(mnt / name) for name in expected} == expected


def test_so_it_is_at_the_next_mount(pyoverlay: PyOverlay, archive: Path, tmp_path: Path) -> None:
    upper = tmp_path / "upper"
    with pyoverlay.mounted(archive, tmp_path / "mnt", "--upper", upper) as mnt:
        (mnt / "etc/passwd").write_text("other\n")
        (mnt / "first").write_text("longer\n")
    with pyoverlay.mounted(archive, tmp_path / "mnt", "--upper", upper) as mnt:
        assert told(mnt / "etc/passwd") == ("upper", *FROM_CHANGED)
        assert told(mnt / "second") == ("upper", *FROM_BASE)


def test_getfattr_finds_them_by_name_only(mnt: Path) -> None:
    path = mnt / "etc/passwd"
    said = run("getfattr", "--only-values", "--absolute-names", "-n", CREATED_BY, path)
    assert said == FROM_CHANGED[1]
    assert run("getfattr", "--absolute-names", "-d", "-m", "-", path) == ""
    assert os.listxattr(path) == []


def test_copies_have_none(mnt: Path, tmp_path: Path) -> None:
    os.setxattr(mnt / "etc/passwd", "user.real", b"kept")
    run("cp", "-a", mnt / "etc", tmp_path / "copy")
    assert os.listxattr(tmp_path / "copy/passwd") == ["user.real"]
    assert os.listxattr(tmp_path / "copy") == []
    with subprocess.Popen(
        ["tar", "--xattrs", "--xattrs-include=*", "-C", mnt, "-c", "etc"], stdout=subprocess.PIPE
    ) as tar:
        assert tar.stdout is not None
        written = tar.stdout.read()
    assert b"user.real" in written
    assert b"user.pyoverlay" not in written
    # Within the mount, too.
    run("cp", "-a", mnt / "etc", mnt / "copy")
    assert told(mnt / "copy/hosts") == ("upper", None, None)


@pytest.mark.parametrize("name", [LAYER, DIFF_ID, CREATED_BY])
def test_nobody_changes_them(mnt: Path, name: str) -> None:
    before = told(mnt / "etc/hosts")
    with refused(errno.EPERM):
        os.setxattr(mnt / "etc/hosts", name, b"forged")
    with refused(errno.EPERM):
        os.removexattr(mnt / "etc/hosts", name)
    assert told(mnt / "etc/hosts") == before  # not even copied up
    os.setxattr(mnt / "etc/hosts", f"{name}s", b"an ordinary one")
    assert os.listxattr(mnt / "etc/hosts") == [f"{name}s"]


def test_an_image_cannot_forge_them(pyoverlay: PyOverlay, tmp_path: Path) -> None:
    folder = tmp_path / "forged"
    folder.mkdir()
    (folder / "file").write_text("x")
    os.setxattr(folder / "file", LAYER, b"17")
    os.setxattr(folder / "file", "user.other", b"x")
    run("tar", "--format=pax", "--xattrs", "-C", folder, "-cf", tmp_path / "layer.tar", ".")
    made = Made(((tmp_path / "layer.tar").read_bytes(),))
    archive = write_tar(tmp_path / "image.tar", saved([(made, ["forged:latest"])]))
    with pyoverlay.mounted(archive, tmp_path / "mnt", "--read-only") as mnt:
        assert value(mnt / "file", LAYER) == "1"
        assert os.listxattr(mnt / "file") == ["user.other"]


def test_a_long_history_line_is_cut(pyoverlay: PyOverlay, tmp_path: Path) -> None:
    """A value has 64 KiB at most (xattr(7))."""
    made = Made((BASE,), {"history": [{"created_by": "RUN " + "x" * 100_000}]})
    archive = write_tar(tmp_path / "image.tar", saved([(made, ["long:latest"])]))
    with pyoverlay.mounted(archive, tmp_path / "mnt", "--read-only") as mnt:
        assert os.getxattr(mnt / "first", CREATED_BY) == b"RUN " + b"x" * 65532


def test_where_there_are_no_attributes_there_are_none_of_these(
    pyoverlay: PyOverlay, archive: Path, tmp_path: Path
) -> None:
    with (
        pyoverlay.mounted(archive, tmp_path / "mnt", "-o", "noxattrs=1") as mnt,
        pytest.raises(OSError, match="not supported"),
    ):
        os.getxattr(mnt / "first", LAYER)


# The command imports what it needs when it runs, which is too late here.
ALL_OF_IT = """
import importlib, pkgutil, shutil
import overlayfs
from overlayfs.cli.main import main
for module in pkgutil.walk_packages(overlayfs.__path__, "overlayfs."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
"""


def test_a_plain_user_is_told_too(archive: Path, tmp_path: Path) -> None:
    stack = Directories.make(tmp_path / "user")
    shutil.copy(archive, stack.base / "image.tar")
    stack.base.chmod(0o777)
    said = as_plain_user(
        stack,
        f"""
        def pyoverlay(*words):
            assert main(["--root" if word == "ROOT" else str(word) for word in words]) == 0
        pyoverlay("mount", base / "image.tar", mnt, "ROOT", base / "store")
        (mnt / "etc/passwd").write_text("other")
        for name in ("etc/hosts", "etc/passwd", "etc"):
            print(*(os.getxattr(mnt / name, each).decode() for each in {[LAYER, CREATED_BY]!r}))
        print(outcome(lambda: os.setxattr(mnt, {LAYER!r}, b"1")))
        pyoverlay("umount", mnt, "ROOT", base / "store")
        """,
        imports=ALL_OF_IT,
    )
    assert said.splitlines()[-4:] == [
        "1 COPY rootfs /",
        f"upper {FROM_CHANGED[1]}",
        f"upper {FROM_CHANGED[1]}",
        "EPERM",
    ]


def test_a_mount_of_plain_directories_has_none(tmp_path: Path) -> None:
    stack = Directories.make(tmp_path / "stack")
    (stack.lower / "file").write_text("x")
    with stack.mounted() as mnt:
        assert value(mnt / "file", LAYER) is None
        os.setxattr(mnt / "file", LAYER, b"an ordinary one")
        assert os.listxattr(mnt / "file") == [LAYER]
