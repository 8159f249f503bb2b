"""The daemon of a mount is killed amid a change: the next mount finds the tree before or after.

Killed by strace(1), before each system call that could change something.  ``tests/tree`` does
it to all changes; this is the whole way: a caller who is told, a dead mount that can be
unmounted, and two file systems that read what is left.
"""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.tree import Tree, assert_same, names, snapshot
from tests.support.union import Daemon, Stack, run, write

CALLS = ",".join(
    [
        *("rename", "renameat", "renameat2", "link", "linkat", "symlink", "symlinkat"),
        *("unlink", "unlinkat", "rmdir", "mkdir", "mkdirat", "mknod", "mknodat"),
        *("setxattr", "lsetxattr", "fsetxattr", "removexattr", "lremovexattr", "fremovexattr"),
        *("chown", "lchown", "fchown", "fchownat", "chmod", "fchmod", "fchmodat", "utimensat"),
        *("ftruncate", "copy_file_range", "pwrite64"),
    ]
)


CHANGES: dict[str, Callable[[Path], object]] = {
    "truncate": lambda mnt: os.truncate(mnt / "dir/file", 3),
    "rename": lambda mnt: (mnt / "dir/file").rename(mnt / "deep/er/moved"),
    "rename-directory": lambda mnt: (mnt / "new").rename(mnt / "emptied"),
    "unlink": lambda mnt: (mnt / "dir/copied").unlink(),
    "create-over-whiteout": lambda mnt: (mnt / "gone").touch(mode=0o640),
    "mkdir-over-whiteout": lambda mnt: (mnt / "gone").mkdir(),
}
# With metacopy.
CHANGES_IN_PLACE: dict[str, Callable[[Path], object]] = {
    "bring-data": lambda mnt: (mnt / "deep/er/large").open("r+b").close(),
    "bring-data-to-names": lambda mnt: (mnt / "deep/er/names").open("r+b").close(),
}
CASES = [
    *(("kernel", change) for change in CHANGES),
    *(("user", "truncate"), ("user", "unlink")),
    *(("in-place", change) for change in CHANGES_IN_PLACE),
]


def make(stack: Stack, fmt: str) -> None:
    """Layers with something for each change, and an upper directory of an earlier mount."""
    if fmt == "user":
        for folder in (*stack.lowers, stack.upper):
            os.setxattr(folder, "user.containers.override_stat", b"0:0:0755:dir")
    write(stack.lower / "dir/file", "the lower file", mode=0o4750)
    os.setxattr(stack.lower / "dir/file", "user.note", b"v")
    os.utime(stack.lower / "dir/file", ns=(5, 1_234_567_890_123_456_789))
    write(stack.lower / "dir/copied", "old")
    write(stack.lower / "gone", "gone")
    write(stack.lower / "emptied/file", "gone")
    for name in ("large", "names"):
        write(stack.lower / "deep/er" / name, bytes(range(1, 251)) * 1000, mode=0o640)
    with stack.mounted() as mnt:
        (mnt / "gone").unlink()
        (mnt / "emptied/file").unlink()
        (mnt / "dir/copied").write_text("new")
        write(mnt / "new/file", "text")
        if fmt == "in-place":
            for name in ("large", "names"):
                (mnt / "deep/er" / name).chmod(0o4710)
            (mnt / "new/names").hardlink_to(mnt / "deep/er/names")


@contextmanager
def served(stack: Stack) -> Iterator[Daemon]:
    """*stack* mounted and looked at, as in a mount that is in use."""
    daemon = stack.start()
    try:
        snapshot(stack.mountpoint)
        yield daemon
        if daemon.process.poll() is None:
            daemon.unmount()
    finally:
        if daemon.process.poll() is None:
            daemon.abandon()


@contextmanager
def traced(daemon: Daemon, log: Path, *inject: str) -> Iterator[None]:
    """Each of ``CALLS`` of *daemon* is written to *log*."""
    tracer = ["strace", "-f", "-e", "signal=none", "-o", str(log), "-e", f"trace={CALLS}", *inject]
    with subprocess.Popen([*tracer, "-p", str(daemon.pid)], stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        assert b"attached" in process.stderr.readline()
        try:
            yield
        finally:
            process.terminate()


def calls(log: Path) -> list[str]:
    """The names of the calls in *log*, in order."""
    return [line.split()[1].partition("(")[0] for line in log.read_text().splitlines()]


def copy(stack: Stack, base: Path) -> Stack:
    """The same lower directories beneath a copy of what changes."""
    base.mkdir()
    for folder in (stack.upper, stack.work):
        run("cp", "-a", folder, base)
    made = Stack(base, stack.lowers, stack.options)
    made.mountpoint.mkdir()
    return made


def by_us(stack: Stack) -> Tree:
    with stack.mounted() as mnt:
        assert names(stack.work / "work") == []
        return timeless(mnt)


def by_kernel(stack: Stack) -> Tree:
    with stack.by_kernel() as merged:
        return timeless(merged)


def timeless(root: Path) -> Tree:
    """The tree without the times that the clock set."""
    return {
        path: replace(entry, mtime_ns=min(entry.mtime_ns, 1_700_000_000 * 10**9))
        for path, entry in snapshot(root, ignore=()).items()
    }


@pytest.mark.parametrize(("fmt", "change"), CASES)
def test_a_daemon_killed_at_any_step_leaves_each_file_old_or_new(
    tmp_path: Path, needs_kernel_overlay: None, needs_fuse: None, fmt: str, change: str
) -> None:
    act = (CHANGES | CHANGES_IN_PLACE)[change]
    options = ("redirect_dir=on", "metacopy=on") if fmt == "in-place" else ()
    start_ = Stack.make(tmp_path / "start", options=options)
    make(start_, fmt)
    lower = snapshot(start_.lower, ignore=())
    readers = {"us": by_us} | ({"kernel": by_kernel} if fmt != "user" else {})

    ended, log = copy(start_, tmp_path / "ended"), tmp_path / "log"
    with served(ended) as daemon:
        with traced(daemon, log):
            act(ended.mountpoint)
        steps = calls(log)
    known = {*snapshot(start_.upper), *snapshot(ended.upper)}
    legal = {
        name: [read(copy(each, tmp_path / f"{name}-{each.base.name}")) for each in (start_, ended)]
        for name, read in readers.items()
    }

    assert steps
    for number, call in enumerate(steps):
        crashed = copy(start_, tmp_path / f"crashed{number}")
        time = steps[: number + 1].count(call)
        inject = f"inject={call}:signal=KILL:when={time}"
        with served(crashed) as daemon, traced(daemon, log, "-e", inject):
            with pytest.raises(OSError, match=r".+"):
                act(crashed.mountpoint)
            assert daemon.wait() == -signal.SIGKILL
            # The mount is dead and can be taken away.
            with pytest.raises(OSError, match="not connected"):
                crashed.mountpoint.stat()
            run("umount", crashed.mountpoint)
        assert snapshot(crashed.upper).keys() <= known
        for name, read in readers.items():
            found = read(copy(crashed, tmp_path / f"{name}{number}"))
            assert found in legal[name], f"killed before {call}, step {number} of {steps}"
    assert_same(lower, snapshot(start_.lower, ignore=()))
