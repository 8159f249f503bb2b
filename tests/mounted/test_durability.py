"""Waiting for the disk, or saying that nobody did."""

import subprocess
from pathlib import Path

import pytest

from tests.mounted.test_beneath import syncs
from tests.support.callers import outcome
from tests.support.tree import names
from tests.support.union import PATIENCE, Stack, is_whiteout, run, write


def mark(stack: Stack) -> Path:
    """Where overlayfs.rst, "Volatile mount", has the note."""
    return stack.work / "work/incompat/volatile"


def refusal(stack: Stack, *options: str) -> str:
    done = subprocess.run(
        stack.command(*options),
        env={"PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert done.returncode == 32
    assert "Traceback" not in done.stderr
    return done.stderr


def killed_amid_volatile(stack: Stack) -> None:
    daemon = stack.start("volatile")
    write(stack.mountpoint / "file", "text")
    assert mark(stack).is_dir()
    daemon.process.kill()
    daemon.wait()
    run("umount", stack.mountpoint)


def test_a_crash_of_the_machine_amid_volatile_is_told(stack: Stack) -> None:
    killed_amid_volatile(stack)
    (mark(stack) / "dirty").write_text("another boot\n")
    for options in ((), ("volatile",)):
        said = refusal(stack, *options)
        assert str(mark(stack)) in said
        assert "force" in said
    assert names(stack.upper) == ["file"]
    with stack.mounted("force") as mnt:
        assert (mnt / "file").read_text() == "text"
    with stack.mounted() as mnt:
        assert (mnt / "file").read_text() == "text"


def test_a_daemon_killed_amid_volatile_has_lost_nothing(stack: Stack, tmp_path: Path) -> None:
    """The machine went on, so all is in its memory; the next mount brings it to the disk."""
    killed_amid_volatile(stack)
    assert mark(stack).is_dir()
    with stack.mounted() as mnt:
        assert (mnt / "file").read_text() == "text"
        assert not mark(stack).exists()


def test_the_kernel_knows_the_note(stack: Stack, needs_kernel_overlay: None) -> None:
    killed_amid_volatile(stack)
    options = f"lowerdir={stack.lower},upperdir={stack.upper},workdir={stack.work}"
    done = subprocess.run(
        ["mount", "-t", "overlay", "overlay", "-o", options, stack.mountpoint], check=False
    )
    assert done.returncode == 32


@pytest.mark.parametrize("option", ["sync=strict", "sync=lazy"])
def test_a_copy_is_on_the_disk_before_it_is_seen(stack: Stack, tmp_path: Path, option: str) -> None:
    """Only if one asks for it: it costs milliseconds a file."""
    write(stack.lower / "small", "text")
    write(stack.lower / "large", b"x" * 200_000)
    daemon, log = stack.start(option), tmp_path / "log"
    try:
        with syncs(daemon, log):
            for name in ("small", "large"):
                (stack.mountpoint / name).open("r+b").close()
                synced = log.read_text()
                assert (f"{stack.work}/work/" in synced) == (option == "sync=strict")
                log.write_text("")
            daemon.unmount()
    finally:
        if daemon.process.poll() is None:
            daemon.abandon()


def test_markers_where_the_disk_has_neither_devices_nor_attributes(stack: Stack) -> None:
    """The last way of hiding a name: what a tar would have, in place of what it hides."""
    write(stack.lower / "dir/a", "a")
    write(stack.lower / "dir/b", "b")
    write(stack.lower / "gone", "gone")
    with stack.mounted("whiteouts=oci") as mnt:
        (mnt / "gone").unlink()
        (mnt / "dir/a").unlink()
        (mnt / "dir/b").rename(mnt / "moved")
        run("rm", "-r", mnt / "dir")
        (mnt / "dir").mkdir()
        (mnt / "gone").touch()
        assert names(mnt) == ["dir", "gone", "moved"]
        assert names(mnt / "dir") == []
        assert outcome(lambda: (mnt / ".wh.moved").touch()) == "EINVAL"
        (mnt / "gone").unlink()
    assert not any(is_whiteout(path) for path in stack.upper.rglob("*"))
    with stack.mounted("whiteouts=oci") as mnt:
        assert names(mnt) == ["dir", "moved"]
        assert names(mnt / "dir") == []
