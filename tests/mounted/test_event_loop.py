"""How requests are waited for: nobody starves, every end comes, and who is idle does nothing."""

import contextlib
import errno
import os
import select
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from overlayfs.linux.mounts import unmount
from tests.mounted.test_life import await_unmounted, daemon_of
from tests.support.union import PATIENCE, Daemon, Stack, run, start, write

LOOPS = ["busy_poll=auto", "busy_poll=off", "busy_poll=1000", "event_loop=plain"]

# Asks as fast as it can until the mount is gone; says so when it has begun.  Nothing of this
# is answered from the kernel's cache.
HAMMER = """
import errno, os, sys
path, how = sys.argv[1:]
what = os.open(path, os.O_RDONLY) if how == "held" else path
asked = False
try:
    while True:
        try:
            os.getxattr(what, "user.none")
        except OSError as exc:
            if exc.errno != errno.ENODATA:
                raise
        if not asked:
            asked = True
            print("asked", flush=True)
except OSError:
    pass
"""


@contextmanager
def hammered(
    path: Path, *, times: int = 2, held: bool = False
) -> Iterator[list["subprocess.Popen[str]"]]:
    """Programs that ask for *path* without a pause; *held* keeps the mount in use for ever."""
    command = [sys.executable, "-S", "-c", HAMMER, str(path), "held" if held else "by name"]
    with ExitStack() as ends:
        hammers = [
            ends.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
            for _ in range(times)
        ]
        for hammer in hammers:
            ends.callback(hammer.kill)
        for hammer in hammers:
            assert hammer.stdout is not None
            assert hammer.stdout.readline() == "asked\n"
        yield hammers


def start_with_slow_fsync(stack: Stack, option: str) -> Daemon:
    """A mount where fsync(2) takes two seconds."""
    slow = ("--trace=fsync", "--inject=fsync:delay_enter=2000000", "--seccomp-bpf")
    tracer = ["strace", "--quiet=all", "--follow-forks", f"--output={stack.base}/trace", *slow]
    return start([*tracer, *stack.command(option)], stack.mountpoint, stack.base)


# -- nobody starves ------------------------------------------------------------------------


@pytest.mark.parametrize("option", LOOPS)
def test_a_slow_request_holds_up_nobody_else(stack: Stack, option: str) -> None:
    write(stack.lower / "file")
    daemon = start_with_slow_fsync(stack, option)
    try:
        with (stack.mountpoint / "new").open("wb") as file:
            syncing = [threading.Thread(target=os.fsync, args=(file.fileno(),)) for _ in range(3)]
            for thread in syncing:
                thread.start()
            for _ in range(100):
                with pytest.raises(OSError, match="No data"):
                    os.getxattr(stack.mountpoint / "file", "user.none")
            assert all(thread.is_alive() for thread in syncing)
            for thread in syncing:
                thread.join(PATIENCE)
                assert not thread.is_alive()
        daemon.unmount()
    finally:
        if daemon.process.poll() is None:
            daemon.abandon()


@pytest.mark.parametrize("option", LOOPS)
def test_requests_that_wait_for_threads_get_on_beside_a_stream_of_others(
    stack: Stack, option: str
) -> None:
    """Copies are made in a thread; what that says must be heard while others ask and ask."""
    write(stack.lower / "hammered")
    for number in range(50):
        write(stack.lower / f"file{number}", b"data" * 5000)
    with stack.mounted(option) as mnt, hammered(mnt / "hammered"):
        for number in range(50):
            fd = os.open(mnt / f"file{number}", os.O_RDWR)
            os.fsync(fd)
            os.close(fd)
            assert (stack.upper / f"file{number}").stat().st_size == 20_000


# -- every end comes -----------------------------------------------------------------------


def end_by_umount(daemon: Daemon) -> None:
    """As soon as nobody is amid a request."""
    while True:
        try:
            unmount(daemon.mountpoint)
            return
        except OSError as exc:
            if exc.errno != errno.EBUSY:
                raise


def end_lazily(daemon: Daemon) -> None:
    unmount(daemon.mountpoint, lazy=True)


def end_by_signal(daemon: Daemon) -> None:
    daemon.process.terminate()


def end_by_two_signals(daemon: Daemon) -> None:
    """The second one ends it whoever uses it, so there must be somebody."""
    daemon.process.terminate()
    await_unmounted(daemon.mountpoint)
    daemon.process.terminate()


def end_by_force(daemon: Daemon) -> None:
    """The connection is cut, and the mount point stays."""
    with fuse_control(daemon.log.parent) as control:
        number = os.minor(daemon.mountpoint.stat().st_dev)
        (control / f"{number}/abort").write_text("1")
        daemon.wait()
    run("umount", daemon.mountpoint)


@contextmanager
def fuse_control(folder: Path) -> Iterator[Path]:
    control = folder / "control"
    control.mkdir(exist_ok=True)
    run("mount", "-t", "fusectl", "none", control)
    try:
        yield control
    finally:
        run("umount", control)


ENDS = [end_by_umount, end_lazily, end_by_signal, end_by_force]
ENDS_IN_USE = [end_by_two_signals, end_by_force]


@pytest.mark.parametrize("option", LOOPS)
@pytest.mark.parametrize("end", ENDS)
def test_it_ends_under_load(stack: Stack, end: Callable[[Daemon], None], option: str) -> None:
    write(stack.lower / "file")
    for times in (1, 2):
        with (
            daemon_of(stack, option) as daemon,
            hammered(stack.mountpoint / "file", times=times) as hammers,
        ):
            end(daemon)
            assert daemon.wait() == 0
            for hammer in hammers:
                hammer.wait(PATIENCE)
            assert "Traceback" not in daemon.said()


@pytest.mark.parametrize("option", LOOPS)
@pytest.mark.parametrize("end", ENDS_IN_USE)
def test_it_ends_while_it_is_in_use(
    stack: Stack, end: Callable[[Daemon], None], option: str
) -> None:
    write(stack.lower / "file")
    with (
        daemon_of(stack, option) as daemon,
        hammered(stack.mountpoint / "file", held=True) as hammers,
    ):
        end(daemon)
        assert daemon.wait() == 0
        for hammer in hammers:
            hammer.wait(PATIENCE)
        assert "Traceback" not in daemon.said()


@pytest.mark.parametrize("option", LOOPS)
def test_it_ends_with_its_last_user(stack: Stack, option: str) -> None:
    write(stack.lower / "file")
    with (
        daemon_of(stack, option) as daemon,
        hammered(stack.mountpoint / "file", held=True) as hammers,
    ):
        end_lazily(daemon)
        for hammer in hammers:
            assert daemon.process.poll() is None
            hammer.kill()
        assert daemon.wait() == 0


@pytest.mark.parametrize("option", LOOPS)
@pytest.mark.parametrize("end", ENDS)
def test_it_ends_at_rest(stack: Stack, end: Callable[[Daemon], None], option: str) -> None:
    write(stack.lower / "file")
    with daemon_of(stack, option) as daemon:
        (stack.mountpoint / "file").stat()
        end(daemon)
        assert daemon.wait() == 0


@pytest.mark.parametrize("option", LOOPS)
@pytest.mark.parametrize("end", [end_lazily, *ENDS_IN_USE])
def test_it_ends_while_something_slow_is_done(
    stack: Stack, end: Callable[[Daemon], None], option: str
) -> None:
    """Copies are being made, and their handlers have not answered."""
    for number in range(4):
        write(stack.lower / f"large{number}", os.urandom(1 << 20) * 30)
    with daemon_of(stack, option) as daemon:
        held = os.open(stack.mountpoint, os.O_RDONLY) if end is end_by_two_signals else -1
        opening = [threading.Thread(target=open_to_write, args=(path,)) for path in large(stack)]
        for thread in opening:
            thread.start()
        while not list((stack.work / "work").iterdir()):
            pass  # the first draft appears within milliseconds
        end(daemon)
        assert daemon.wait() == 0
        for thread in opening:
            thread.join(PATIENCE)
            assert not thread.is_alive()
        if held >= 0:
            os.close(held)


def large(stack: Stack) -> list[Path]:
    return [stack.mountpoint / f"large{number}" for number in range(4)]


def open_to_write(path: Path) -> None:
    """Succeeds, or learns that the mount has ended."""
    with contextlib.suppress(OSError):
        path.open("r+b").close()


# -- who is idle does nothing --------------------------------------------------------------


def times_run(pid: int) -> int:
    """How often any thread of *pid* got a processor (linux/Documentation/scheduler/sched-stats)."""
    folder = Path(f"/proc/{pid}/task")
    return sum(int((thread / "schedstat").read_text().split()[2]) for thread in folder.iterdir())


@pytest.mark.parametrize("option", LOOPS)
def test_an_idle_mount_takes_no_processor_time(stack: Stack, option: str) -> None:
    """It is not even woken."""
    write(stack.lower / "file")
    with daemon_of(stack, option) as daemon:
        with pytest.raises(OSError, match="No data"):
            os.getxattr(stack.mountpoint / "file", "user.none")
        ended = os.pidfd_open(daemon.pid)
        try:
            for _ in range(PATIENCE):
                before = times_run(daemon.pid)
                # Half a second in which nothing may happen has to pass: this waits for an
                # end that must not come.
                assert select.select([ended], [], [], 0.5)[0] == []
                if times_run(daemon.pid) == before:
                    break
            else:
                raise AssertionError("it goes on")
        finally:
            os.close(ended)
        daemon.unmount()


def test_after_a_request_it_polls_for_as_long_as_it_was_told(stack: Stack) -> None:
    """Processor time of the daemon for each request, with the longest polling and without."""
    write(stack.lower / "file")
    spent = {}
    for option in ("busy_poll=1000", "busy_poll=off"):
        with daemon_of(stack, option) as daemon:
            before = processor_time(daemon.pid)
            for _ in range(50):
                with pytest.raises(OSError, match="No data"):
                    os.getxattr(stack.mountpoint / "file", "user.none")
                await_sleep(daemon.pid)
            spent[option] = (processor_time(daemon.pid) - before) / 50
            daemon.unmount()
    assert spent["busy_poll=off"] < spent["busy_poll=1000"] < spent["busy_poll=off"] + 1.5e-3


def processor_time(pid: int) -> float:
    """Seconds, of all threads."""
    folder = Path(f"/proc/{pid}/task")
    return sum(int((task / "schedstat").read_text().split()[0]) for task in folder.iterdir()) / 1e9


def await_sleep(pid: int) -> None:
    """Wait until the daemon sleeps: it calls nothing that sleeps between requests."""
    while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "S":
        pass


# -- where it cannot be done ---------------------------------------------------------------

# As if somebody else were in the place of trio in pyfuse3 already.
TAKEN = """
import logging, sys, types
import pyfuse3, trio
from overlayfs.cli import mountprogram

vars(pyfuse3)["trio"] = types.SimpleNamespace(**vars(trio))
logging.basicConfig(level=logging.INFO)
sys.argv[0] = "pyoverlayfs"
mountprogram.main()
"""


def test_a_pyfuse3_that_does_not_fit_is_served_its_own_way(stack: Stack) -> None:
    write(stack.lower / "file", "text")
    interpreter, *_, foreground, flag, words, mountpoint = stack.command()
    command = [interpreter, "-c", TAKEN, foreground, flag, words, mountpoint]
    daemon = start(command, stack.mountpoint, stack.base)
    try:
        assert (stack.mountpoint / "file").read_text() == "text"
        write(stack.mountpoint / "new", "text")
        run("umount", stack.mountpoint)
        assert daemon.wait() == 0
    finally:
        if daemon.process.poll() is None:
            daemon.abandon()
    (line,) = daemon.said().splitlines()
    assert line.startswith("INFO:overlayfs.fuse.session:event loop: plain, as pyfuse3 ")
