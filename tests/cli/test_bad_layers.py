"""Directories that `pyoverlayfs` cannot use: one line with path and reason, exit code 32."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.plain import USER
from tests.support.tree import names
from tests.support.union import PATIENCE, REPOSITORY, Stack, run, write

NONE = "No such file or directory"
NO_DIRECTORY = "ot a directory"


def mount(
    stack: Stack, *, as_user: bool = False, **changed: Path
) -> subprocess.CompletedProcess[str]:
    """What the command says with other directories than those of *stack*; it leaves a daemon."""
    chosen = {
        "lowerdir": ":".join(str(lower) for lower in stack.lowers),
        "upperdir": stack.upper,
        "workdir": stack.work,
    }
    mountpoint = changed.pop("mountpoint", stack.mountpoint)
    chosen |= changed
    words = ",".join(f"{name}={path}" for name, path in chosen.items())
    become = AS_USER if as_user else ""
    return subprocess.run(
        [sys.executable, "-c", MAIN.format(become=become), "-o", words, mountpoint],
        cwd="/",
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )


# The interpreter may lie where only root goes, so a process becomes another user by itself.
MAIN = """
import os
import overlayfs.fuse.session
from overlayfs.cli import mountprogram
{become}
mountprogram.main()
"""
AS_USER = f"os.setgroups([]); os.setresgid(*[{USER}] * 3); os.setresuid(*[{USER}] * 3)"


def refused(done: subprocess.CompletedProcess[str], path: Path, reason: str) -> None:
    """One line that names *path* and *reason*, perhaps with a hint below it."""
    first, *rest = done.stderr.splitlines()
    assert done.returncode == 32, done.stderr
    assert first.startswith("pyoverlayfs: ")
    assert str(path) in first
    assert reason in first
    assert len(rest) <= 1
    assert all(line.startswith("  ") for line in rest)
    assert done.stdout == ""


def missing(path: Path) -> None:
    """Leaves *path* absent."""


def a_file(path: Path) -> None:
    path.write_text("text")


def dangling(path: Path) -> None:
    path.symlink_to("nowhere")


def a_loop(path: Path) -> None:
    path.symlink_to(path.name)


def beneath_a_file(path: Path) -> None:
    path.parent.write_text("text")


Bad = Callable[[Path], None]
WRONG: dict[str, tuple[str, str, Bad, str]] = {
    "lower-missing": ("lowerdir", "bad", missing, NONE),
    "lower-file": ("lowerdir", "bad", a_file, NO_DIRECTORY),
    "lower-dangling": ("lowerdir", "bad", dangling, NONE),
    "lower-loop": ("lowerdir", "bad", a_loop, "Too many levels of symbolic links"),
    "lower-beneath-a-file": ("lowerdir", "bad/sub", beneath_a_file, NO_DIRECTORY),
    "lower-name-too-long": ("lowerdir", "n" * 256, missing, "File name too long"),
    "upper-missing": ("upperdir", "bad", missing, NONE),
    "upper-file": ("upperdir", "bad", a_file, NO_DIRECTORY),
    "upper-dangling": ("upperdir", "bad", dangling, NONE),
    "work-file": ("workdir", "bad", a_file, ""),
    "work-beneath-a-file": ("workdir", "bad/sub", beneath_a_file, NO_DIRECTORY),
    "mount-point-missing": ("mountpoint", "bad", missing, NONE),
    "mount-point-file": ("mountpoint", "bad", a_file, NO_DIRECTORY),
    "mount-point-dangling": ("mountpoint", "bad", dangling, NONE),
}


@pytest.fixture
def stack(tmp_path: Path, needs_root: None, needs_fuse: None) -> Stack:
    """Two lower directories, an upper one, and a place to mount them."""
    return Stack.make(tmp_path / "stack", lowers=2)


@pytest.mark.parametrize(("which", "name", "make", "reason"), WRONG.values(), ids=WRONG.keys())
def test_what_is_no_directory_is_named(
    stack: Stack, which: str, name: str, make: Bad, reason: str
) -> None:
    path = stack.base / name
    make(path)
    refused(mount(stack, **{which: path}), path, reason)
    assert names(stack.upper) == []
    assert str(stack.base) not in Path("/proc/self/mountinfo").read_text()


def test_of_many_lower_directories_the_wrong_one_is_named(stack: Stack) -> None:
    several = [*stack.lowers, stack.base / "missing", stack.lowers[0]]
    done = mount(stack, lowerdir=Path(":".join(str(path) for path in several)))
    refused(done, stack.base / "missing", NONE)
    assert str(stack.lowers[0]) not in done.stderr


def test_an_upper_directory_that_cannot_be_written(stack: Stack) -> None:
    run("mount", "-t", "tmpfs", "none", stack.base / "upper")
    for folder in ("upper", "work"):
        (stack.upper / folder).mkdir()
    run("mount", "-o", "remount,ro", stack.upper)
    try:
        done = mount(stack, upperdir=stack.upper / "upper", workdir=stack.upper / "work")
        refused(done, stack.upper / "work", "Read-only file system")
        # As a lower one it is good enough.
        write(stack.lower / "file", "text")
        done = mount(stack, upperdir=stack.upper / "upper", workdir=Path(f"{stack.work},ro"))
        assert (done.returncode, done.stderr) == (0, "")
        assert (stack.mountpoint / "file").read_text() == "text"
        run("umount", stack.mountpoint)
    finally:
        run("umount", stack.upper)


@pytest.mark.parametrize("which", ["lowerdir", "upperdir", "workdir"])
def test_a_directory_that_the_user_may_not_read(stack: Stack, which: str) -> None:
    for folder in (stack.base, *stack.base.parents):
        if folder.is_relative_to("/tmp/") and folder != Path("/tmp"):
            folder.chmod(folder.stat().st_mode | 0o011)
    run("chown", f"{USER}:{USER}", stack.upper, stack.work, stack.mountpoint)
    closed = stack.base / "closed"
    closed.mkdir(mode=0o700)
    (closed / "inside").mkdir()
    for path in (closed, closed / "inside"):
        refused(mount(stack, as_user=True, **{which: path}), closed, "Permission denied")
