"""A peer with its mount, measured from outside: seconds, the daemon's processor time, memory."""

import contextlib
import errno
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from scripts.lib.bench.peers import Directories, Peer
from scripts.lib.bench.results import Sample
from tests.support import mounts

PATIENCE = 60.0  # seconds for a mount or an unmount, which take one at most


class Failed(Exception):
    """Something cannot be done on a mount."""


@dataclass(slots=True)
class Session:
    """A peer that is mounted at *root*.  Its upper directory was empty at first."""

    peer: Peer
    root: Path
    client: Path
    mount_seconds: float
    daemon: subprocess.Popen[bytes] | None

    def timed(
        self,
        row: str,
        command: Sequence[str | Path],
        *,
        accept: tuple[int, ...] = (0,),
        environment: dict[str, str] | None = None,
    ) -> Sample:
        """The seconds that *command* takes; it runs in the root of the mount."""
        with self._measured(row) as measured:
            self._run(command, accept=accept, environment=environment, keep=False)
        return measured[0]

    def timed_together(self, row: str, command: Sequence[str | Path], count: int) -> Sample:
        """The seconds until *count* of *command*, started at once, have ended."""
        with self._measured(row) as measured, ThreadPoolExecutor(count) as threads:
            waiting = [threads.submit(self._run, command, keep=False) for _ in range(count)]
            for each in waiting:
                each.result()
        return measured[0]

    def called(
        self, row: str, *words: object, names: Sequence[str] = (), whole: bool = False
    ) -> Sample:
        """Microseconds per call, as the client tells them, and the daemon's seconds per call.

        With *whole*, the seconds of all calls.  *names* are what it reads.
        """
        with self._measured(row) as measured:
            said = self._run(
                [self.client, *map(str, words)], stdin="".join(f"{name}\n" for name in names)
            )
        seconds, count = float(said.split()[0]), int(said.split()[1])
        sample = measured[0]
        if whole:
            return replace(sample, value=seconds)
        cpu = None if sample.cpu is None else sample.cpu / count
        return replace(sample, value=seconds / count * 1e6, cpu=cpu)

    def do(self, *command: str | Path) -> None:
        """What is not measured."""
        self._run(command, keep=False)

    def cpu(self) -> float | None:
        """Seconds that the daemon has run, user and system: utime + stime, but in nanoseconds.

        The clock's number is MAKE_PROCESS_CPUCLOCK of include/linux/posix-timers.h.
        """
        return None if self.daemon is None else time.clock_gettime((~self.daemon.pid << 3) | 2)

    def memory(self) -> tuple[int | None, int | None]:
        """The daemon's Pss and Rss in bytes, as proc(5) has them in smaps_rollup."""
        if self.daemon is None:
            return None, None
        found = {}
        try:
            text = Path(f"/proc/{self.daemon.pid}/smaps_rollup").read_text()
        except OSError as exc:
            # A process that has ended has no memory; its clock is there until it is waited for.
            raise Failed("the daemon has ended") from exc
        for line in text.splitlines()[1:]:
            name, value, *_ = line.split()
            found[name] = int(value) * 1024
        return found["Pss:"], found["Rss:"]

    @contextmanager
    def _measured(self, row: str) -> Iterator[list[Sample]]:
        """The sample is there when the block has ended."""
        found: list[Sample] = []
        before = self.cpu()
        started = time.perf_counter()
        yield found
        seconds = time.perf_counter() - started
        after = self.cpu()
        cpu = None if before is None or after is None else after - before
        found.append(Sample(row, seconds, cpu, *self.memory()))

    def _run(
        self,
        command: Sequence[str | Path],
        *,
        accept: tuple[int, ...] = (0,),
        environment: dict[str, str] | None = None,
        stdin: str = "",
        keep: bool = True,
    ) -> str:
        try:
            done = subprocess.run(
                command,
                cwd=self.root,
                input=stdin,
                env=None if environment is None else os.environ | environment,
                stdout=subprocess.PIPE if keep else subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                check=False,
            )
        except OSError as exc:
            raise Failed(f"{Path(command[0]).name}: {exc.strerror}") from exc
        if done.returncode not in accept:
            said = "".join(done.stderr.strip().splitlines()[-1:])
            raise Failed(f"{Path(command[0]).name}: exit code {done.returncode} {said}".rstrip())
        return done.stdout or ""


@contextmanager
def mounted(
    peer: Peer, layers: Path, lowers: tuple[str, ...], place: Path, client: Path
) -> Iterator[Session]:
    """*peer* on *layers*, with a mount point and a work directory of its own in *place*.

    The upper directory there is used again when there is one.
    """
    directories = Directories(layers, lowers, place / "upper", place / "work", place / "root")
    # The kernel wants no work directory of an earlier volatile mount.
    shutil.rmtree(directories.work, ignore_errors=True)
    for folder in (directories.upper, directories.work, directories.mountpoint):
        folder.mkdir(parents=True, exist_ok=True)
    with (place / "log").open("ab") as log:
        started = time.perf_counter()
        try:
            daemon = peer.start(directories, log.fileno())
        except OSError as exc:
            raise Failed(f"mount: {exc.strerror}") from exc
        try:
            if daemon is not None:
                _wait_for(directories.mountpoint, daemon, place / "log")
            seconds = time.perf_counter() - started
            yield Session(peer, directories.mountpoint, client, seconds, daemon)
        finally:
            _unmount(directories.mountpoint, daemon)


def _wait_for(mountpoint: Path, daemon: subprocess.Popen[bytes], log: Path) -> None:
    device = mountpoint.parent.stat().st_dev
    deadline = time.monotonic() + PATIENCE
    # Once there is a mount, stat(2) waits for the daemon.
    while mountpoint.stat().st_dev == device:
        if daemon.poll() is not None:
            said = log.read_text(errors="replace").splitlines()[-1:]
            raise Failed(f"mount: exit code {daemon.returncode} {''.join(said)}")
        if time.monotonic() > deadline:
            raise Failed(f"mount: nothing in {PATIENCE:.0f} s")
        time.sleep(0.001)


def _unmount(mountpoint: Path, daemon: subprocess.Popen[bytes] | None) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            mounts.unmount(mountpoint, lazy=time.monotonic() > deadline)
            break
        except OSError as exc:
            if exc.errno == errno.EINVAL:
                break  # umount(2): it is no mount point
            if exc.errno != errno.EBUSY:
                raise
            # A command that was killed is still on its way out.
            time.sleep(0.01)
    if daemon is not None:
        try:
            daemon.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()


@contextmanager
def on_one_core(*, wanted: bool) -> Iterator[None]:
    """This process, and all that it starts meanwhile, on one processor if that is *wanted*."""
    before = os.sched_getaffinity(0)
    with contextlib.ExitStack() as undo:
        if wanted:
            undo.callback(os.sched_setaffinity, 0, before)
            # The first one has most of the interrupts.
            os.sched_setaffinity(0, {max(before)})
        yield
