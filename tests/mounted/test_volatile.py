"""What is waited for, what is noted down instead, and what the next mount makes of the note."""

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.tree import names
from tests.support.union import PATIENCE, Daemon, Stack, run, start, write

NOTE = Path("work/incompat/volatile/dirty")


def refusal(stack: Stack, *options: str) -> str:
    """What a mount of *stack* that does not come about says."""
    done = subprocess.run(
        stack.command(*options), capture_output=True, text=True, check=False, timeout=PATIENCE
    )
    assert done.returncode == 32
    assert "Traceback" not in done.stderr
    return done.stderr


def restart(stack: Stack) -> None:
    """Let the note be one of before the machine was started."""
    assert (stack.work / NOTE).read_text().strip() == this_boot()
    (stack.work / NOTE).write_text("00000000-0000-0000-0000-000000000000")


def this_boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


@pytest.mark.parametrize("end", ["unmounted", "killed"])
def test_in_the_same_boot_a_volatile_mount_has_lost_nothing(stack: Stack, end: str) -> None:
    write(stack.lower / "file", "lower")
    daemon = stack.start("volatile")
    write(stack.mountpoint / "new", "new")
    with (stack.mountpoint / "file").open("a") as file:
        file.write(" and more")
    if end == "killed":
        daemon.process.kill()
        daemon.wait()
        run("umount", stack.mountpoint)
    else:
        daemon.unmount()
    assert (stack.work / NOTE).read_text() == this_boot()
    with stack.mounted("volatile") as mnt:
        assert (mnt / "file").read_text() == "lower and more"
        assert (stack.work / NOTE).exists()
    with stack.mounted() as mnt:
        assert ((mnt / "new").read_text(), names(mnt)) == ("new", ["file", "new"])
        assert not (stack.work / NOTE).exists()


@pytest.mark.parametrize("options", [(), ("volatile",)], ids=["", "volatile"])
def test_after_a_restart_of_the_machine_it_is_refused_unless_forced(
    stack: Stack, options: tuple[str, ...]
) -> None:
    with stack.mounted("volatile") as mnt:
        write(mnt / "new", "new")
    restart(stack)
    for _ in range(2):
        said = refusal(stack, *options)
        assert f"{stack.work / 'work/incompat/volatile'}: " in said
        assert "-o force" in said
    with stack.mounted(*options, "force") as mnt:
        assert (mnt / "new").read_text() == "new"
    with stack.mounted(*options) as mnt:
        assert (mnt / "new").read_text() == "new"


def test_what_others_note_down_and_is_not_known_is_refused(stack: Stack) -> None:
    """Documentation/filesystems/overlayfs.rst keeps that directory for such features."""
    (stack.work / "work/incompat/strange").mkdir(parents=True)
    assert "'strange', which is not known" in refusal(stack)


def by_kernel(stack: Stack, *options: str) -> subprocess.CompletedProcess[str]:
    """The kernel's mount of *stack*, with the work directory that we have."""
    words = [f"lowerdir={stack.lowers[0]}:{stack.lowers[1]}"]
    words += [f"upperdir={stack.upper}", f"workdir={stack.work}", *options]
    command = ["mount", "-t", "overlay", "overlay", "-o", ",".join(words), stack.mountpoint]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_note_is_the_kernels(stack: Stack, needs_kernel_overlay: None) -> None:
    """The kernel heeds ours, whatever the boot, and we heed the kernel's."""
    with stack.mounted("volatile") as mnt:
        write(mnt / "new", "new")
    assert by_kernel(stack).returncode != 0
    with stack.mounted() as mnt:
        assert names(mnt) == ["new"]
    done = by_kernel(stack, "volatile")
    assert done.returncode == 0, done.stderr
    run("umount", stack.mountpoint)
    # It writes down no boot, so nobody knows whether the machine crashed meanwhile.
    assert "-o force" in refusal(stack)
    with stack.mounted("force") as mnt:
        assert names(mnt) == ["new"]
    assert by_kernel(stack).returncode == 0
    run("umount", stack.mountpoint)


@contextmanager
def traced(stack: Stack, log: Path, *options: str) -> Iterator[Daemon]:
    """A mount of *stack* whose syncing and renaming is written to *log*."""
    tracer = ["strace", "--quiet=all", "--follow-forks", "--decode-fds=path"]
    tracer += [f"--output={log}", "--trace=fsync,fdatasync,syncfs,rename,renameat,renameat2"]
    daemon = start([*tracer, *stack.command(*options)], stack.mountpoint, stack.base)
    try:
        yield daemon
        daemon.unmount()
    finally:
        if daemon.process.poll() is None:
            daemon.abandon()


def test_the_next_mount_brings_to_the_disk_what_a_volatile_one_wrote(
    stack: Stack, tmp_path: Path
) -> None:
    with stack.mounted("volatile") as mnt:
        write(mnt / "new", "new")
    with traced(stack, tmp_path / "log"):
        before = (tmp_path / "log").read_text()
    assert "syncfs(" in before
    assert f"<{stack.upper}>" in before


COPIES: dict[str, Callable[[Path], object]] = {
    "small": lambda mnt: (mnt / "small").open("r+b").close(),
    "large": lambda mnt: (mnt / "large").open("r+b").close(),
    "attributes": lambda mnt: (mnt / "small").chmod(0o600),
    "rename": lambda mnt: (mnt / "small").rename(mnt / "moved"),
}


@pytest.mark.parametrize("options", [(), ("sync=strict",)], ids=["lazy", "strict"])
@pytest.mark.parametrize("copy", COPIES)
def test_a_copy_is_on_the_disk_before_it_is_seen_when_asked_for(
    stack: Stack, tmp_path: Path, copy: str, options: tuple[str, ...]
) -> None:
    write(stack.lower / "small", "text")
    write(stack.lower / "large", os.urandom(1 << 20))
    log = tmp_path / "log"
    with traced(stack, log, *options):
        COPIES[copy](stack.mountpoint)
        calls = [line.split(maxsplit=1)[1] for line in log.read_text().splitlines()]
    drafts = [call for call in calls if f"<{stack.work}/work" in call and "upper" in call]
    assert drafts, calls
    published = next(at for at, call in enumerate(calls) if call in drafts)
    synced = [at for at, call in enumerate(calls) if call.startswith(("fsync(", "fdatasync("))]
    if options:
        assert synced
        assert min(synced) < published
        assert f"<{stack.work}/work/#" in calls[min(synced)]
    else:
        assert synced == []
