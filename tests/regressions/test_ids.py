"""Owners that are mapped, squashed or kept beside the files, where others got them wrong."""

import os
from pathlib import Path

import pytest

from tests.support.callers import GROUP, SOMEONE, as_someone
from tests.support.plain import USER, as_plain_user
from tests.support.tree import names
from tests.support.union import Stack, write


@pytest.fixture
def plain_stack(tmp_path: Path, needs_root: None, needs_fuse: None) -> Stack:
    """A lower directory of root's, which a plain user can read, and an upper one."""
    return Stack.make(tmp_path / "stack")


def test_root_of_the_layers_shown_as_the_plain_user_who_mounts(plain_stack: Stack) -> None:
    """New files were to be given to root, on the disk, and could not be made.

    fuse-overlayfs #299.
    """
    write(plain_stack.lower / "testfile", "old")
    said = as_plain_user(
        plain_stack,
        f"""
        with mounted("uidmapping=0:{USER}:1", "gidmapping=0:{USER}:1"):
            (mnt / "testfile2").write_text("Hello World")
            with (mnt / "testfile").open("a") as file:
                file.write(" and new")
            found = {{path.name: (path.stat().st_uid, path.read_text()) for path in mnt.iterdir()}}
            print(sorted(found.items()))
        with mounted():
            print(sorted((path.name, path.stat().st_uid) for path in mnt.iterdir()))
        """,
    )
    assert said.splitlines() == [
        str([("testfile", (USER, "old and new")), ("testfile2", (USER, "Hello World"))]),
        "[('testfile', 0), ('testfile2', 0)]",
    ]


def test_owners_beside_the_files_are_mapped_as_well(open_stack: Stack) -> None:
    """New files had the owner before mapping, as a mapping was not for owners in attributes.

    fuse-overlayfs #253, #255: xattr_permissions=2 in a container that keeps its user's id.
    """
    for folder in (*open_stack.lowers, open_stack.upper):
        os.setxattr(folder, "user.containers.override_stat", b"0:0:0777:dir")
    write(open_stack.lower / "lower")
    os.setxattr(open_stack.lower / "lower", "user.containers.override_stat", b"5:6:0644:file")
    maps = [f"{what}mapping=5:{SOMEONE}:1:0:0:5:6:2000:10" for what in ("uid", "gid")]
    with open_stack.mounted("xattr_permissions=2", *maps) as mnt:
        assert (mnt / "lower").stat().st_uid == SOMEONE
        as_someone('os.chdir(sys.argv[1]); Path("made").touch(); Path("dir").mkdir()', mnt)
        for name in ("made", "dir"):
            found = (mnt / name).stat()
            assert (found.st_uid, found.st_gid) == (SOMEONE, GROUP)
        os.chown(mnt / "lower", 0, GROUP)
        assert ((mnt / "lower").stat().st_uid, (mnt / "lower").stat().st_gid) == (0, GROUP)
    for name in ("made", "dir"):
        kept = os.getxattr(open_stack.upper / name, "user.containers.override_stat")
        assert kept.startswith(b"5:5:")
    kept = os.getxattr(open_stack.upper / "lower", "user.containers.override_stat")
    assert kept.startswith(b"0:5:")


def test_a_squashed_tree_of_roots_is_the_users_to_change(plain_stack: Stack) -> None:
    """What was shown as the user's own he could neither chmod nor write.

    fuse-overlayfs #374.
    """
    write(plain_stack.lower / "foo", "foo", mode=0o555)
    (plain_stack.lower / "sub").mkdir(mode=0o555)
    said = as_plain_user(
        plain_stack,
        f"""
        with mounted("squash_to_uid={USER}", "squash_to_gid={USER}"):
            (mnt / "test").touch()
            (mnt / "foo").chmod(0o755)
            (mnt / "sub").chmod(0o755)
            (mnt / "sub/new").touch()
            os.chown(mnt / "foo", {USER}, {USER})
            print(sorted({{path.stat().st_uid for path in (mnt, *mnt.iterdir())}}), names(mnt))
            print(oct((mnt / "foo").stat().st_mode)[-3:])
        """,
    )
    assert said.splitlines() == [f"[{USER}] ['foo', 'sub', 'test']", "755"]
    assert names(plain_stack.lower / "sub") == []
