"""The life of a mount: how it ends, what stays, and what it holds meanwhile."""

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.tree import assert_same, names, snapshot
from tests.support.union import PATIENCE, REPOSITORY, Daemon, Stack, await_mount, run, start, write


@contextmanager
def daemon_of(stack: Stack, *options: str) -> Iterator[Daemon]:
    """A mount of *stack* that the test ends in a way of its own."""
    daemon = stack.start(*options)
    try:
        yield daemon
    finally:
        if daemon.process.poll() is None:
            daemon.abandon()


def is_mounted(path: Path) -> bool:
    return b" %s " % os.fsencode(path) in Path("/proc/self/mountinfo").read_bytes()


# -- ends ----------------------------------------------------------------------------------

# The daemon collects garbage once it has mounted, just before its event loop begins.
SIGNALLED_EARLY = """
import gc, os, signal, sys
from pathlib import Path
from overlayfs.fuse.session import serve
from overlayfs.serving import Stack
from overlayfs.union.names import Format

lower, upper, work, mountpoint = (Path(word) for word in sys.argv[1:])
filesystem = Stack((lower,), upper, work, Format.KERNEL).open()
gc.disable()  # only the collection that it asks for
gc.callbacks.append(lambda phase, info: os.kill(os.getpid(), signal.SIGTERM))
serve(filesystem, mountpoint, ["default_permissions"], gc.callbacks.clear)
filesystem.close()
print("closed")
"""


def test_a_signal_between_mounting_and_serving_unmounts(stack: Stack) -> None:
    places = (stack.lower, stack.upper, stack.work, stack.mountpoint)
    done = subprocess.run(
        [sys.executable, "-c", SIGNALLED_EARLY, *places],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "closed\n", "")
    assert not is_mounted(stack.mountpoint)


def test_lower_layers_are_let_go_before_the_upper_one_is_synced(stack: Stack) -> None:
    """So that they can be unmounted, in turn, right after the union."""
    trace = stack.base / "trace"
    daemon = start_traced(stack, f"--output={trace}", "--trace=close,syncfs")
    write(stack.mountpoint / "file", "text")
    daemon.unmount()
    calls = trace.read_text().splitlines()
    synced = next(at for at, call in enumerate(calls) if "syncfs(" in call)
    for lower in stack.lowers:
        assert any(f"<{lower}>" in call for call in calls[:synced]), lower
        assert not any(f"<{lower}>" in call for call in calls[synced:]), lower
    assert f"<{stack.upper}>" in calls[synced]


def test_the_next_mount_does_not_wait_until_the_last_one_is_synced(stack: Stack) -> None:
    slow = ("--trace=syncfs", "--inject=syncfs:delay_enter=2000000")
    daemon = start_traced(stack, f"--output={stack.base}/trace", *slow)
    write(stack.mountpoint / "file", "text")
    run("umount", stack.mountpoint)
    with stack.mounted() as mnt:
        assert (mnt / "file").read_text() == "text"
    daemon.ended_well()


def start_traced(stack: Stack, *options: str) -> Daemon:
    """A mount of *stack*, by a process that strace looks at."""
    tracer = ["strace", "--quiet=all", "--follow-forks", "--decode-fds=path", *options]
    return start([*tracer, *stack.command()], stack.mountpoint, stack.base)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_unmounts(stack: Stack, number: signal.Signals) -> None:
    with daemon_of(stack) as daemon:
        write(stack.mountpoint / "file", "text")
        daemon.process.send_signal(number)
        daemon.ended_well()
        assert not is_mounted(stack.mountpoint)
    assert (stack.upper / "file").read_text() == "text"


def test_a_mount_in_use_goes_on_for_those_who_use_it(stack: Stack) -> None:
    write(stack.lower / "dir/lower", "text")
    with daemon_of(stack) as daemon:
        folder = os.open(stack.mountpoint / "dir", os.O_RDONLY)
        with (stack.mountpoint / "file").open("w+") as file:
            daemon.process.terminate()
            # It disappears from the tree; that wakes whoever polls the table of mounts.
            await_unmounted(stack.mountpoint)
            file.write("after the signal")
            file.flush()
            os.fsync(file.fileno())
            file.seek(0)
            assert file.read() == "after the signal"
            fd = os.open("lower", os.O_RDWR, dir_fd=folder)
            os.write(fd, b"TEXT")
            os.close(fd)
            assert daemon.process.poll() is None
            os.close(folder)
            assert daemon.process.poll() is None
        assert daemon.wait() == 0
        said = daemon.said()
        assert said.count("\n") == 1
        assert "busy" in said
        assert "unmounting lazily" in said
    assert (stack.upper / "file").read_text() == "after the signal"
    assert (stack.upper / "dir/lower").read_text() == "TEXT"


def await_unmounted(mountpoint: Path) -> None:
    with open("/proc/self/mountinfo", "rb") as table:  # noqa: PTH123 - polled
        poll = select.poll()
        poll.register(table, select.POLLPRI)
        while True:
            table.seek(0)
            if b" %s " % os.fsencode(mountpoint) not in table.read():
                return
            assert poll.poll(PATIENCE * 1000)


def test_a_second_signal_ends_it_at_once(stack: Stack) -> None:
    with daemon_of(stack) as daemon:
        fd = os.open(stack.mountpoint / "file", os.O_CREAT | os.O_WRONLY)
        daemon.process.terminate()
        await_unmounted(stack.mountpoint)
        daemon.process.terminate()
        assert daemon.wait() == 0
        with pytest.raises(OSError, match="not connected"):
            os.write(fd, b"x")
        with pytest.raises(OSError, match="not connected"):
            os.close(fd)


def test_a_severed_connection_ends_it(stack: Stack, tmp_path: Path) -> None:
    """Whoever aborts the connection gets the daemon out of the way, and loses nothing written."""
    control = tmp_path / "control"
    control.mkdir()
    run("mount", "-t", "fusectl", "none", control)
    try:
        with daemon_of(stack) as daemon:
            write(stack.mountpoint / "file", "text")
            number = os.minor(stack.mountpoint.stat().st_dev)
            (control / f"{number}/abort").write_text("1")
            assert daemon.wait() == 0
            assert "Traceback" not in daemon.said()
            run("umount", stack.mountpoint)
    finally:
        run("umount", control)
    assert (stack.upper / "file").read_text() == "text"


def test_umount_refuses_while_a_file_is_open(stack: Stack) -> None:
    with daemon_of(stack) as daemon:
        with (stack.mountpoint / "file").open("w"):
            done = subprocess.run(["umount", stack.mountpoint], capture_output=True, check=False)
            assert done.returncode != 0
            (stack.mountpoint / "file").stat()
        daemon.unmount()


def test_a_killed_daemon_loses_nothing(stack: Stack) -> None:
    write(stack.lower / "dir/one", "lower")
    write(stack.lower / "dir/two", "lower")
    with daemon_of(stack) as daemon:
        mnt = stack.mountpoint
        write(mnt / "new/file", "text" * 10000)
        (mnt / "dir/one").write_text("changed")
        (mnt / "dir/two").unlink()
        (mnt / "dir/two").mkdir()
        (mnt / "new").rename(mnt / "moved")
        before = snapshot(mnt)
        daemon.process.kill()
        daemon.wait()
        with pytest.raises(OSError, match="not connected"):
            (mnt / "moved").stat()
        run("umount", mnt)
    with stack.mounted() as mnt:
        assert_same(before, snapshot(mnt))


# Prints each name once its bytes are written and synced; ends when it cannot go on.
WRITER = """
import os, sys
top, who = sys.argv[1:]
os.mkdir(f"{top}/{who}")
try:
    for number in range(100000):
        name = f"{who}/{number}"
        fd = os.open(f"{top}/{name}", os.O_CREAT | os.O_WRONLY)
        os.write(fd, name.encode() * 100)
        os.fsync(fd)
        os.close(fd)
        print(name, flush=True)
except OSError as exc:
    print(exc.errno, file=sys.stderr)
"""


@pytest.mark.parametrize("end", ["kill", "terminate"])
def test_under_load_nothing_is_lost_that_was_acknowledged(stack: Stack, end: str) -> None:
    with daemon_of(stack) as daemon:
        writers = [
            subprocess.Popen(
                [sys.executable, "-c", WRITER, stack.mountpoint, f"w{number}"],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for number in range(2)
        ]
        told = []
        for writer in writers:
            assert writer.stdout is not None
            told += [writer.stdout.readline().strip() for _ in range(50)]
        if end == "kill":
            daemon.process.kill()
            daemon.wait()
            for writer in writers:
                told += writer.communicate()[0].split()
            run("umount", "--lazy", stack.mountpoint)
        else:
            # Unmounted under their feet: new paths lead below the mount point.
            daemon.process.terminate()
            await_unmounted(stack.mountpoint)
            for writer in writers:
                out, err = writer.communicate()
                told += out.split()
                assert err.strip() == "2"
            assert daemon.wait() == 0
    with stack.mounted() as mnt:
        assert len(told) >= 100
        for name in told:
            assert (mnt / name).read_text() == name * 100


def test_the_work_directory_is_emptied_at_the_next_mount(stack: Stack) -> None:
    write(stack.work / "work/#1", "a draft")
    write(stack.work / "work/#2/with/files")
    (stack.work / "work/#3").symlink_to(stack.lower)
    write(stack.lower / "file")
    with stack.mounted():
        assert list((stack.work / "work").iterdir()) == []
    assert names(stack.lower) == ["file"]


# -- refusals ------------------------------------------------------------------------------


def refusal(command: list[str]) -> str:
    """What a mount that must not come about says."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert done.returncode not in (0, None)
    assert "Traceback" not in done.stderr
    return done.stderr


def test_an_upper_directory_has_one_mount(stack: Stack) -> None:
    second = stack.base / "second"
    second.mkdir()
    with stack.mounted() as mnt:
        command = [*stack.command()[:-1], str(second)]
        assert f"{stack.upper}: in use by another mount" in refusal(command)
        other = str(stack.base / "other-upper")
        Path(other).mkdir()
        command[-2] = command[-2].replace(f"upperdir={stack.upper}", f"upperdir={other}")
        assert f"{stack.work}: in use by another mount" in refusal(command)
        assert not is_mounted(second)
        write(mnt / "file")


OVERLAPS: dict[str, Callable[[Stack], dict[str, Path]]] = {
    "upper-in-lower": lambda s: {"upperdir": s.lower / "sub"},
    "lower-in-upper": lambda s: {"upperdir": s.lower.parent},
    "upper-is-lower": lambda s: {"upperdir": s.lower},
    "work-in-upper": lambda s: {"workdir": s.upper / "sub"},
    "work-is-upper": lambda s: {"workdir": s.upper},
    "upper-in-work": lambda s: {"workdir": s.base},
}


@pytest.mark.parametrize("overlap", OVERLAPS.values(), ids=OVERLAPS.keys())
def test_directories_that_overlap_are_refused(
    stack: Stack, overlap: Callable[[Stack], dict[str, Path]]
) -> None:
    (stack.lower / "sub").mkdir()
    (stack.upper / "sub").mkdir()
    chosen = {"lowerdir": stack.lower, "upperdir": stack.upper, "workdir": stack.work}
    chosen |= overlap(stack)
    command = stack.command()
    command[-2] = ",".join(f"{name}={path}" for name, path in chosen.items())
    assert "overlaps" in refusal(command)
    assert not is_mounted(stack.mountpoint)


def test_a_mount_point_inside_a_layer_is_refused(stack: Stack) -> None:
    inside = stack.lower / "sub"
    inside.mkdir()
    assert str(inside) in refusal([*stack.command()[:-1], str(inside)])


def test_a_work_directory_on_another_file_system_is_refused(stack: Stack) -> None:
    run("mount", "-t", "tmpfs", "none", stack.work)
    try:
        assert f"{stack.work}: not on the file system" in refusal(stack.command())
    finally:
        run("umount", stack.work)


# -- leaks ---------------------------------------------------------------------------------


def test_no_descriptor_stays_open(stack: Stack) -> None:
    write(stack.lower / "dir/file", "text")

    def round_of_everything(mnt: Path, number: int) -> None:
        folder = mnt / f"dir/new{number}"
        folder.mkdir()
        write(folder / "file", "text")
        list(folder.iterdir())
        (folder / "file").rename(folder / "other")
        (folder / "other").read_text()
        run_errors(mnt)
        (folder / "other").unlink()
        folder.rmdir()

    def run_errors(mnt: Path) -> None:
        for wrong in (
            lambda: (mnt / "dir").rename(mnt / "elsewhere"),
            lambda: (mnt / "dir").rmdir(),
            lambda: os.link(mnt / "dir/file", mnt / "dir/file"),
        ):
            with pytest.raises(OSError, match=r".+"):
                wrong()

    with daemon_of(stack) as daemon:
        round_of_everything(stack.mountpoint, 0)
        before = daemon.descriptors()
        for number in range(500):
            round_of_everything(stack.mountpoint, number)
        Path("/proc/sys/vm/drop_caches").write_text("2")
        assert daemon.descriptors() <= before
        daemon.unmount()


COUNTING = """
import os, signal, sys
from pathlib import Path
from overlayfs.fuse.session import serve
from overlayfs.serving import Stack
from overlayfs.union.names import Format

lower, upper, work, mountpoint = (Path(word) for word in sys.argv[1:])
filesystem = Stack((lower,), upper, work, Format.KERNEL).open()
signal.signal(signal.SIGUSR1, lambda *_: print(len(filesystem.tree.nodes), flush=True))
serve(filesystem, mountpoint, ["default_permissions", "allow_other"], lambda: None)
filesystem.close()
"""


def test_what_the_kernel_forgets_is_forgotten(stack: Stack) -> None:
    for number in range(1000):
        write(stack.lower / f"dir{number % 30}/sub{number % 3}/file{number}")
    folders = (stack.lower, stack.upper, stack.work, stack.mountpoint)
    command = [sys.executable, "-c", COUNTING, *folders]
    with subprocess.Popen(
        command,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:

        def nodes() -> int:
            process.send_signal(signal.SIGUSR1)
            assert process.stdout is not None
            return int(process.stdout.readline())

        assert await_mount(stack.mountpoint, process.pid)
        try:
            mnt = stack.mountpoint
            for _ in range(3):
                for number in range(20):
                    write(mnt / f"dir1/new{number}")
                run("ls", "-lR", mnt)
                # The root, thirty directories, what each has, and the files.
                assert nodes() >= 1 + 30 + 30 + 1000 + 20
                for number in range(20):
                    (mnt / f"dir1/new{number}").unlink()
                # What the kernel drops in one go depends on the order of its lists.
                for _ in range(3):
                    Path("/proc/sys/vm/drop_caches").write_text("2")
                    mnt.stat()
                # It tells of them after the requests that somebody waits for.
                deadline = time.monotonic() + PATIENCE
                while nodes() > 1 + 30 and time.monotonic() < deadline:
                    mnt.stat()
                assert nodes() <= 1 + 30
        finally:
            run("umount", "--lazy", stack.mountpoint)
            assert process.wait(PATIENCE) == 0
