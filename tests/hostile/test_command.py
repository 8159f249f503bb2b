"""Hostile images, given to `pyoverlay mount`: a mount with the right tree, or one clear line."""

import os
import stat
from pathlib import Path

import pytest

from overlayfs.store.drafts import remove_path
from overlayfs.union.attrs import Kind
from overlayfs.union.names import Format
from tests.hostile.case import Case, Ground
from tests.hostile.corpus.every import FAMILIES
from tests.hostile.doors import COMMAND_MEMORY, LINE, MOST_LINES, by_command, described, untouched

# Some of each family; all of them take a quarter of an hour.
STEP = 1 if os.environ.get("PYOVERLAY_HOSTILE") == "all" else 8
CHOSEN = [case for cases in FAMILIES.values() for case in cases[::STEP]]
# Names that programs cannot reach, and attributes of ours that a mount has in their place.
OTHERWISE_ON_A_MOUNT = frozenset({"path-longer-than-4096", "own-attributes"})
# A warning, before it is refused for something else.
SAYS_MORE = frozenset({"hard-link-to-fake-whiteout"})


@pytest.mark.parametrize("case", CHOSEN, ids=lambda case: case.name)
def test_mount(case: Case, tmp_path: Path, needs_root: None, needs_fuse: None) -> None:
    ground = Ground.make(tmp_path / "ground")
    spec = case.build(ground)
    expected = case.expected(ground, Format.KERNEL)
    mountpoint = ground.base / "mnt"
    mountpoint.mkdir()
    try:
        with untouched(ground):
            code, errors, memory = by_command(
                ground, case.env, "mount", "--read-only", spec, mountpoint
            )
            mounted = mountpoint.is_mount()
            try:
                tree = tree_below(mountpoint) if mounted else {}
            finally:
                if mounted:  # with our own, which waits until the daemon has ended
                    assert by_command(ground, {}, "umount", mountpoint)[0] == 0
        said = errors.splitlines()
        lines = [line for line in said if not line.startswith("pyoverlay: unpacking")]
        if case.name in SAYS_MORE:
            del lines[0]
        assert memory < COMMAND_MEMORY
        assert "Traceback" not in errors
        assert max((len(line) for line in lines), default=0) <= LINE + len(str(spec))
        if isinstance(expected, str):
            assert code == 1
            assert not mounted
            assert expected in errors
            assert lines[0].startswith("pyoverlay: ")
            assert len(lines) <= MOST_LINES
            assert all(line.startswith("  ") for line in lines[1:])
        else:
            assert code == 0, errors
            if case.name not in OTHERWISE_ON_A_MOUNT:
                assert tree == expected
        assert not any((ground.base / "store/tmp").iterdir())
        assert not any((ground.base / "store/scratch").iterdir())
    finally:
        remove_path(ground.base / "store")


@pytest.mark.parametrize("case", CHOSEN[::4], ids=lambda case: case.name)
def test_load(case: Case, tmp_path: Path, needs_root: None) -> None:
    ground = Ground.make(tmp_path / "ground")
    spec = case.build(ground)
    expected = case.expected(ground, Format.KERNEL)
    try:
        with untouched(ground):
            code, errors, memory = by_command(ground, case.env, "load", "-q", spec)
        assert memory < COMMAND_MEMORY
        assert "Traceback" not in errors
        if isinstance(expected, str):
            # Of several images all are taken, where `mount` wants to know which.
            assert code == 0 if "several" in expected else expected in errors
        else:
            assert code == 0, errors
        assert not any((ground.base / "store/tmp").iterdir())
        assert not any((ground.base / "store/scratch").iterdir())
    finally:
        remove_path(ground.base / "store")


def tree_below(root: Path) -> dict[str, str]:
    """All that a mount shows, but for the root itself where that is as usual."""
    found = {}
    left = [b""]
    while left:
        path = left.pop()
        place = os.fsencode(root) + b"/" + path
        if len(place) > 4000:
            continue  # programs cannot go there by name
        info = os.lstat(place)
        kind = Kind.of(info.st_mode)
        body = b""
        if kind is Kind.SYMLINK:
            body = os.readlink(place)  # noqa: PTH115  # bytes
        elif kind is Kind.FILE:
            with open(place, "rb") as file:  # noqa: PTH123  # bytes
                body = file.read(65)
        elif kind is Kind.DIRECTORY:
            above = path + b"/" if path else b""
            left += [above + os.fsencode(entry.name) for entry in os.scandir(place)]
        found[path.decode("utf-8", "surrogateescape")] = described(
            str(kind),
            stat.S_IMODE(info.st_mode),
            (info.st_uid, info.st_gid),
            info.st_rdev,
            info.st_mtime_ns,
            info.st_nlink,
            body,
            info.st_size,
            {
                os.fsencode(name): os.getxattr(place, name, follow_symlinks=False)
                for name in os.listxattr(place, follow_symlinks=False)
            },
        )
    if found[""].startswith("dir mtime=") or found[""] == "dir":  # of no layer, it is of now
        del found[""]
    return found
