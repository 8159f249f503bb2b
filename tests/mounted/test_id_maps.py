"""Layers whose owners are shown as others: ``uidmapping`` and ``gidmapping``."""

import errno
import os

import pytest

from tests.support.callers import GROUP, SOMEONE, as_someone, refused
from tests.support.mounts import idmapped
from tests.support.union import Stack, run, write


@pytest.fixture
def mapped(stack: Stack) -> Stack:
    """A stack whose ids 0 to 9 are shown as 1000 to 1009."""
    return Stack(
        stack.base, stack.lowers, ("uidmapping=0:1000:10", "gidmapping=:0:1000:10:20:2000:1")
    )


def test_owners_are_shown_mapped_and_kept_unmapped(mapped: Stack) -> None:
    os.chown(write(mapped.lower / "file"), 3, 20)
    os.chown(write(mapped.lower / "other"), 77, 77)
    with mapped.mounted() as mnt:
        shown = [(mnt / name).stat() for name in ("file", "other")]
        assert [(each.st_uid, each.st_gid) for each in shown] == [(1003, 2000), (65534, 65534)]
        os.chown(mnt / "file", 1005, 1006)
        assert (mnt / "file").stat().st_uid == 1005
    assert (mapped.upper / "file").stat().st_uid == 5
    assert (mapped.upper / "file").stat().st_gid == 6


def test_files_of_a_caller_without_an_id_belong_to_nobody(mapped: Stack) -> None:
    """Podman's root makes mount points in a container that maps other users."""
    with mapped.mounted() as mnt:
        write(mnt / "new")
        (mnt / "link").symlink_to("new")
        assert [(mnt / name).lstat().st_uid for name in ("new", "link")] == [65534, 65534]


def test_no_file_is_given_to_who_has_no_id(mapped: Stack) -> None:
    with mapped.mounted() as mnt:
        os.chown(write(mnt / "new"), 1001, 1001)
        with refused(errno.EOVERFLOW):  # as in the kernel's idmapped mounts
            os.chown(mnt / "new", 5, 5)
        assert (mnt / "new").stat().st_uid == 1001


# ids 0 to 9 of the layers are 1000 to 1009
AS_OTHERS = ("uidmapping=0:1000:10", "gidmapping=0:1000:10")


def test_what_a_mapped_user_makes_is_kept_as_the_layers_have_it(open_stack: Stack) -> None:
    """With the group of a directory that hands it on, and the access lists of one that has some."""
    lower = open_stack.lower
    for name in ("open", "sgid", "listed"):
        (lower / name).mkdir()
        (lower / name).chmod(0o777)
    os.chown(lower / "sgid", 0, 7)
    (lower / "sgid").chmod(0o2777)
    run("setfacl", "-m", "u:3:rwx,g:4:rx,u:77:rwx", lower / "listed")
    run("setfacl", "-d", "-m", "u:3:rwx,g:4:rx", lower / "listed")
    with Stack(open_stack.base, open_stack.lowers, AS_OTHERS).mounted() as mnt:
        script = "os.chdir(sys.argv[1]); Path('file').touch(); Path('dir').mkdir()"
        for name in ("open", "sgid", "listed"):
            as_someone(script, mnt / name)
        shown = [(mnt / name).stat() for name in ("open/file", "sgid/file", "sgid/dir")]
        assert [each.st_uid for each in shown] == [SOMEONE] * 3
        assert [each.st_gid for each in shown] == [GROUP, 1007, 1007]
        assert shown[2].st_mode & 0o7777 == 0o2755
        entries = run("getfacl", "-np", mnt / "listed")
        assert all(e in entries for e in ("user:1003:rwx", "group:1004:r-x", "user:65534:rwx"))
        assert "user:1003:rwx" in run("getfacl", "-np", mnt / "listed/dir")
        run("setfacl", "-m", "u:1005:r,d:u:1006:r", mnt / "listed/dir")
        with pytest.raises(AssertionError, match="Value too large"):
            run("setfacl", "-m", "u:5:r", mnt / "listed/dir")
    kept = [(open_stack.upper / name).stat() for name in ("open/file", "sgid/file", "sgid/dir")]
    assert [(each.st_uid, each.st_gid) for each in kept] == [(0, 0), (0, 7), (0, 7)]
    entries = run("getfacl", "-np", open_stack.upper / "listed/dir")
    assert all(e in entries for e in ("user:5:r--", "default:user:6:r--", "default:user:3:rwx"))
    # What has no counterpart is kept when its file is copied.
    assert "user:77:rwx" in run("getfacl", "-np", open_stack.upper / "listed")


def test_who_may_do_what_is_said_by_the_owners_that_are_shown(open_stack: Stack) -> None:
    for name, owner in (("mine", 0), ("roots", 1), ("nobodys", 77)):
        os.chown(write(open_stack.lower / name, "text", mode=0o600), owner, owner)
    with Stack(open_stack.base, open_stack.lowers, AS_OTHERS).mounted() as mnt:
        read = "print(Path(sys.argv[1]).read_text())"
        tried = [as_someone(read, mnt / name) for name in ("mine", "roots", "nobodys")]
        assert tried == ["text", "EACCES", "EACCES"]


@pytest.mark.parametrize(
    ("options", "shown", "kept"),
    [
        ("squash_to_root", (0, 0), (0, 0)),
        ("squash_to_uid=1000", (1000, 6), (0, 6)),
        ("squash_to_gid=1000", (5, 1000), (5, 0)),
        ("squash_to_uid=7,squash_to_gid=8", (7, 8), (0, 0)),
    ],
)
def test_everything_belongs_to_one(
    stack: Stack, options: str, shown: tuple[int, int], kept: tuple[int, int]
) -> None:
    """And giving it away changes nothing; new files are the daemon's on the disk."""
    os.chown(write(stack.lower / "file"), 5, 6)
    run("setfacl", "-m", "u:9:rw,g:9:rw", stack.lower / "file")
    os.chown(stack.lower, 5, 6)
    with Stack(stack.base, stack.lowers, (options,)).mounted() as mnt:
        write(mnt / "new")
        (mnt / "dir").mkdir()
        os.chown(mnt / "new", 5, 6)
        os.chown(mnt / "dir", 5, 6)
        for path in (mnt / "file", mnt / "new", mnt / "dir"):
            found = path.stat()
            assert (found.st_uid, found.st_gid) == shown
        os.chown(mnt / "file", 77, 78)
        assert ((mnt / "file").stat().st_uid, (mnt / "file").stat().st_gid) == (
            77 if shown[0] == 5 else shown[0],
            78 if shown[1] == 6 else shown[1],
        )
    new = (stack.upper / "new").stat()
    assert (new.st_uid, new.st_gid) == kept
    copied = (stack.upper / "file").stat()
    assert (copied.st_uid, copied.st_gid) == (
        5 if "uid" in options or "root" in options else 77,
        6 if "gid" in options or "root" in options else 78,
    )


def test_a_layer_on_a_mapped_mount_is_shown_as_it_is_there(
    open_stack: Stack, needs_root: None
) -> None:
    """Podman's root maps the layers so, and wants the upper directory mapped besides."""
    stack = open_stack
    on_disk, mapped = stack.base / "disk", stack.base / "mapped"
    mapped.mkdir()
    for name, owner in (("roots", 0), ("users", 5), ("nobodys", 5000)):
        os.chown(write(on_disk / f"layer/{name}", name), owner, owner)
    os.setxattr(write(on_disk / "beside/file"), "user.containers.override_stat", b"8:8:0644:file")
    os.setxattr(on_disk / "beside", "user.containers.override_stat", b"0:0:0755:dir")
    run("setfacl", "-m", "u:3:rw", on_disk / "layer/users")
    (on_disk / "layer/dir").mkdir()
    three = (mapped / "layer", mapped / "beside", stack.lower)
    os.chown(write(stack.lower / "dir/plain"), 7, 7)
    maps = ("uidmapping=:0:100000:1000", "gidmapping=:0:100000:1000")
    with idmapped(on_disk, mapped, "0 100000 1000"):
        daemon = Stack(stack.base, three, maps).start()
    try:  # the mapped mount is gone by now
        mnt = stack.mountpoint
        owners = {path.name: path.stat().st_uid for path in mnt.iterdir()}
        assert owners.pop("nobodys") == 65534
        assert owners == {"roots": 100000, "users": 100005, "file": 100008, "dir": 100000}
        assert (mnt / "dir/plain").stat().st_uid == 100007
        assert "user:100003:rw-" in run("getfacl", "-np", mnt / "users")
        os.chown(mnt / "roots", 100001, 100002)
        (mnt / "users").chmod(0o600)
        (mnt / "nobodys").chmod(0o600)
        write(mnt / "dir/new")
        os.chown(mnt / "dir/new", 100009, 100009)
        assert "user:100003:rw-" in run("getfacl", "-np", mnt / "users")
    finally:
        daemon.unmount()
    kept = {path.name: path.stat().st_uid for path in stack.upper.rglob("*")}
    assert kept == {"roots": 1, "users": 5, "nobodys": 65534, "dir": 0, "new": 9}
    assert "user:3:rw-" in run("getfacl", "-np", stack.upper / "users")
    assert (on_disk / "layer/roots").stat().st_uid == 0
