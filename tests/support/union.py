"""Stacks of directories on a disk, and mounts of them that end with their test."""

import os
import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]

# How long anything that must happen may take on a busy machine, in seconds.
PATIENCE = 60


def run(*command: str | Path) -> str:
    """What *command* printed; an AssertionError with its complaint when it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stderr}"
    return done.stdout


HUNG_UP = "fuse: reading device: Software caused connection abort\n"


@dataclass(frozen=True, slots=True)
class Daemon:
    """A running ``pyoverlayfs -f``."""

    process: subprocess.Popen[bytes]
    mountpoint: Path
    log: Path

    @property
    def pid(self) -> int:
        """The process that serves the mount."""
        return self.process.pid

    def wait(self) -> int:
        """Its exit code, once it has ended."""
        return self.process.wait(PATIENCE)

    def said(self) -> str:
        """What it wrote to stderr, but for a word of libfuse's that is no complaint of ours.

        The kernel answers so when the mount goes while requests that nobody waits for are
        still queued (fuse_dev_do_read()); libfuse prints it, and everything is in order.
        """
        return self.log.read_text().replace(HUNG_UP, "")

    def descriptors(self) -> int:
        """How many files it has open."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))  # noqa: PTH208 - only the number

    def unmount(self) -> None:
        """Unmount; fails when it is busy, or when the daemon had anything to complain about."""
        run("umount", self.mountpoint)
        self.ended_well()

    def ended_well(self) -> None:
        """Wait for the end of the daemon, and look at what it left."""
        code = self.wait()
        assert (code, self.said()) == (0, "")

    def abandon(self) -> None:
        """Take the mount away whatever happens to it; for tests that have failed already."""
        subprocess.run(["umount", "--lazy", self.mountpoint], check=False, capture_output=True)
        self.process.kill()
        self.wait()


@dataclass(frozen=True, slots=True)
class Stack:
    """Directories below *base* to be mounted on each other; *lowers* are topmost first."""

    base: Path
    lowers: tuple[Path, ...]
    options: tuple[str, ...] = ()

    @classmethod
    def make(cls, base: Path, *, lowers: int = 1, options: tuple[str, ...] = ()) -> "Stack":
        """Empty directories: ``lower1`` is the base, the highest number is on top."""
        base.mkdir(exist_ok=True)
        made = cls(base, tuple(base / f"lower{number}" for number in range(lowers, 0, -1)), options)
        for folder in (*made.lowers, made.upper, made.work, made.mountpoint):
            folder.mkdir()
        return made

    @classmethod
    def of_storage(cls, base: Path, *, options: tuple[str, ...] = ()) -> "Stack":
        """Empty directories, two lower ones as containers/storage keeps those of images."""
        base.mkdir(exist_ok=True)
        made = cls(base, tuple(base / name / "diff" for name in ("top", "bottom")), options)
        for folder in (*made.lowers, made.upper, made.work, made.mountpoint):
            folder.mkdir(parents=True)
        for layer in made.lowers:
            write(layer.parent / "link", "SHORT")
        return made

    @property
    def lower(self) -> Path:
        """The base layer."""
        return self.lowers[-1]

    @property
    def upper(self) -> Path:
        """What takes the changes."""
        return self.base / "upper"

    @property
    def work(self) -> Path:
        """The work directory of the upper one."""
        return self.base / "work"

    @property
    def mountpoint(self) -> Path:
        """Where it is mounted."""
        return self.base / "mnt"

    def command(self, *options: str, read_only: bool = False) -> list[str]:
        """The command that mounts and serves it in the foreground."""
        chosen = [f"lowerdir={':'.join(str(lower) for lower in self.lowers)}"]
        if not read_only:
            chosen += [f"upperdir={self.upper}", f"workdir={self.work}"]
        words = ",".join([*chosen, *self.options, *options])
        module = [sys.executable, "-m", "overlayfs.cli.mountprogram"]
        return [*module, "-f", "-o", words, str(self.mountpoint)]

    def start(self, *options: str, read_only: bool = False) -> Daemon:
        """Mount it, and return when it is mounted."""
        return start(self.command(*options, read_only=read_only), self.mountpoint, self.base)

    @contextmanager
    def mounted(self, *options: str, read_only: bool = False) -> Iterator[Path]:
        """The mount point, mounted; the daemon must end without a complaint."""
        daemon = self.start(*options, read_only=read_only)
        try:
            yield self.mountpoint
            daemon.unmount()
        finally:
            if daemon.process.poll() is None:
                daemon.abandon()

    @contextmanager
    def by_kernel(
        self, *, read_only: bool = False, index: bool = False, shared: bool = False
    ) -> Iterator[Path]:
        """The same directories, mounted by the kernel's overlayfs at ``kernel``.

        With *index* it keeps the names of hard-linked lower files together, with *shared* in
        the work directory, and so in the index, that our mounts have.
        """
        merged, work, empty = (self.base / name for name in ("kernel", "kernel-work", "empty"))
        for folder in (merged, work, empty):
            folder.mkdir(exist_ok=True)
        # An empty layer at the bottom, as it wants two of them.
        chosen = [f"lowerdir={':'.join(str(lower) for lower in (*self.lowers, empty))}"]
        if not read_only:
            chosen += [f"upperdir={self.upper}", f"workdir={self.work if shared else work}"]
        # As pyoverlay has it: nothing that other kernels' defaults would add.  `userxattr`
        # turns the rest off, and does not take it when one says so too.
        more = () if "userxattr" in self.options else ("redirect_dir=off", "metacopy=off")
        chosen += [f"index={'on' if index else 'off'}", *more]
        chosen += [option for option in self.options if not option.startswith("index=")]
        run("mount", "-t", "overlay", "overlay", "-o", ",".join(chosen), merged)
        try:
            yield merged
        finally:
            run("umount", merged)


def start(command: list[str], mountpoint: Path, folder: Path) -> Daemon:
    """Run *command*, which serves *mountpoint*, and return when that is mounted."""
    log = folder / "daemon.log"
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=stderr,
            stderr=stderr,
            cwd="/",
            env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        )
    daemon = Daemon(process, mountpoint, log)
    if not await_mount(mountpoint, process.pid):
        raise AssertionError(f"not mounted: {daemon.wait()}\n{daemon.said()}")
    return daemon


def await_mount(mountpoint: Path, pid: int) -> bool:
    """Wait until something is mounted at *mountpoint*; False when process *pid* ended before."""
    ended = os.pidfd_open(pid)
    try:
        with open("/proc/self/mountinfo", "rb") as table:  # noqa: PTH123 - polled
            poll = select.poll()
            poll.register(table, select.POLLPRI)
            poll.register(ended, select.POLLIN)
            where = b" %s " % os.fsencode(mountpoint)
            while True:
                table.seek(0)
                if where in table.read():
                    return True
                events = poll.poll(PATIENCE * 1000)
                assert events, f"{mountpoint}: neither mounted nor refused"
                if (ended, select.POLLIN) in events:
                    return False
    finally:
        os.close(ended)


def write(path: Path, data: bytes | str = b"", *, mode: int = 0o644) -> Path:
    """A file with *data*, and the directories above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    path.chmod(mode)
    return path


def whiteout(path: Path) -> Path:
    """A whiteout, as overlayfs keeps it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    os.mknod(path, 0o020000, 0)
    return path


def opaque(path: Path, value: bytes = b"y", *, prefix: str = "trusted") -> Path:
    """A directory that hides what is below it, or that says *value* instead."""
    path.mkdir(parents=True, exist_ok=True)
    os.setxattr(path, f"{prefix}.overlay.opaque", value)
    return path


def is_whiteout(path: Path) -> bool:
    """Whether *path* in a layer hides its name."""
    found = path.lstat()
    return (found.st_mode, found.st_rdev) == (0o020000, 0)
