"""Layers whose owners are shown as others: ``uidmapping`` and ``gidmapping``."""

import errno
import os

import pytest

from tests.support.callers import refused
from tests.support.union import Stack, write


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
