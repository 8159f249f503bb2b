"""Mounts that hung, ended or grew elsewhere."""

import fcntl
import mmap
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.tree import names
from tests.support.union import PATIENCE, REPOSITORY, Daemon, Stack, run, start, write

WAITING = """
import fcntl, sys
with open(sys.argv[1], "r+") as file:
    print("waiting", flush=True)
    fcntl.flock(file, fcntl.LOCK_EX)
    print("mine", flush=True)
"""


def test_who_waits_for_a_lock_keeps_nobody_else_waiting(stack: Stack) -> None:
    """Two processes that wanted one lock stopped the whole file system.

    fuse-overlayfs #80.
    """
    write(stack.lower / "dir/lock")
    with stack.mounted() as mnt, (mnt / "dir/lock").open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        waiting = [
            subprocess.Popen(
                [sys.executable, "-c", WAITING, mnt / "dir/lock"], stdout=subprocess.PIPE
            )
            for _ in range(2)
        ]
        for process in waiting:
            assert process.stdout is not None
            assert process.stdout.readline() == b"waiting\n"
        write(mnt / "dir/another", "text")
        (mnt / "dir/another").unlink()
        assert [process.poll() for process in waiting] == [None, None]
        fcntl.flock(file, fcntl.LOCK_UN)
        assert [process.communicate(timeout=PATIENCE)[0] for process in waiting] == [b"mine\n"] * 2


def memory(pid: int) -> int:
    """The resident memory of process *pid* that is its own, in KiB."""
    status = Path(f"/proc/{pid}/status").read_text().split()
    return int(status[status.index("RssAnon:") + 1])


def test_memory_does_not_grow_with_what_came_and_went(stack: Stack) -> None:
    """After weeks of work a daemon held gigabytes.

    fuse-overlayfs #222, #238.
    """
    for number in range(300):
        write(stack.lower / f"dir{number % 10}/lower{number}")
    daemon = stack.start()
    try:
        mnt = stack.mountpoint

        def work(first: int) -> None:
            for number in range(first, first + 400):
                folder = mnt / f"dir{number % 10}/new{number}"
                folder.mkdir()
                (folder / "file").write_text("text")
                os.setxattr(folder / "file", "user.note", b"v" * 1000)
                os.getxattr(folder / "file", "user.note")
                shutil.rmtree(folder)
            run("ls", "-lR", mnt)
            Path("/proc/sys/vm/drop_caches").write_text("2")

        work(0)
        work(400)
        before = memory(daemon.pid)
        for round_ in range(2, 5):
            work(400 * round_)
        # Each of the 1200 directories took more than 2 KiB while it was there.
        assert memory(daemon.pid) - before < 600
        daemon.unmount()
    finally:
        end(daemon)


def end(daemon: Daemon) -> None:
    if daemon.process.poll() is None:
        daemon.abandon()


def test_a_mount_bound_over_its_own_layer_still_reads_it(stack: Stack) -> None:
    """Asked for a file, the server asked itself, and both waited for ever.

    fuse-overlayfs #277.
    """
    write(stack.lower / "dir/file", "text")
    os.mknod(stack.lower / "device", 0o020600, os.makedev(240, 7))
    with stack.mounted() as mnt:
        run("mount", "--bind", mnt, stack.lower)
        try:
            run("ls", "-lR", stack.lower)
            assert (stack.lower / "dir/file").read_text() == "text"
            (stack.lower / "dir/file").write_text("changed")
            assert os.listxattr(stack.lower / "device") == []
            (stack.lower / "device").chmod(0o640)
            (stack.lower / "dir/new").touch()
            assert names(mnt / "dir") == ["file", "new"]
        finally:
            run("umount", stack.lower)
    assert (stack.lower / "dir/file").read_text() == "text"
    assert names(stack.lower / "dir") == ["file"]


def test_attributes_of_layers_below_the_mount_point(
    tmp_path: Path, needs_root: None, needs_fuse: None
) -> None:
    """Attributes were asked for by path, and that led into the mount itself: a deadlock.

    fuse-overlayfs #364.
    """
    base = tmp_path / "covered"
    base.mkdir()
    made = Stack.make(base / "inside")
    write(made.lower / "dir/file", "text")
    os.setxattr(made.lower / "dir/file", "user.note", b"v")
    os.mknod(made.lower / "device", 0o020600, os.makedev(240, 7))
    (made.lower / "link").symlink_to("dir")
    daemon = start([*made.command()[:-1], str(base)], base, tmp_path)
    try:
        run("ls", "-lR", base)
        assert os.listxattr(base / "dir/file") == ["user.note"]
        for name in ("device", "link", "dir"):
            assert os.listxattr(base / name, follow_symlinks=False) == []
            os.chown(base / name, 5, 6, follow_symlinks=False)
        os.setxattr(base / "device", "trusted.note", b"v")
        daemon.unmount()
    finally:
        end(daemon)
    assert (made.upper / "link").lstat().st_uid == 5


def test_files_that_are_mapped_may_be_many(stack: Stack) -> None:
    """A linker maps thousands of files, and each keeps a descriptor of the server.

    fuse-overlayfs #378: it ran out of them at the soft limit, and gave none back.  Here a
    quarter of the hard limit at most stays open.
    """
    count, hard = 600, 1024
    for number in range(count):
        write(stack.lower / f"{number}.o", f"object {number}")
    command = ["prlimit", f"--nofile=256:{hard}", *stack.command()]
    daemon = start(command, stack.mountpoint, stack.base)
    try:
        mnt = stack.mountpoint

        def map_and_close(number: int) -> mmap.mmap:
            with (mnt / f"{number}.o").open("rb") as file:
                return mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)

        map_and_close(0).close()
        before = daemon.descriptors()
        mapped = [map_and_close(number) for number in range(count)]
        assert all(each[:] == f"object {number}".encode() for number, each in enumerate(mapped))
        assert daemon.descriptors() > count
        for each in mapped:
            each.close()
        # The kernel does not wait for the answers to its releases; but they come in turn.
        for number in range(20 * count):
            if daemon.descriptors() <= before + hard // 4:
                break
            assert not (mnt / f"missing{number}").exists()
        assert daemon.descriptors() <= before + hard // 4
        daemon.unmount()
    finally:
        end(daemon)


SAME: dict[str, Callable[[Stack], Path]] = {
    "upper": lambda stack: stack.upper,
    "lower": lambda stack: stack.lower,
    "work": lambda stack: stack.work,
    "inside-upper": lambda stack: stack.upper / "dir",
}


@pytest.mark.parametrize("place", SAME.values(), ids=SAME.keys())
def test_a_layer_is_no_mount_point(stack: Stack, place: Callable[[Stack], Path]) -> None:
    """Two trees at one place: programs saw now the one, now the other, or nothing at all.

    fuse-overlayfs #393 (the upper directory), #344 (a lower one, which hung).
    """
    (stack.upper / "dir").mkdir()
    where = place(stack)
    done = subprocess.run(
        [*stack.command()[:-1], str(where)],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert done.returncode == 32
    assert str(where) in done.stderr
    assert "Traceback" not in done.stderr
    assert b" %s " % os.fsencode(where) not in Path("/proc/self/mountinfo").read_bytes()
