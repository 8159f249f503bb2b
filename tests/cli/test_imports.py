"""What a command imports before it answers; a look at the list, since no clock is to be trusted."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.command import PyOverlay

# The event loop with all that it needs, drawing, archives and what unpacks them.
SERVING = {"trio", "pyfuse3", "attr", "ssl", "asyncio", "overlayfs.fuse"}
DRAWING = {"rich", "overlayfs.cli.progress"}
ADDING = {"tarfile", "isal", "backports.zstd", "overlayfs.archive.detect", "overlayfs.store.adding"}
# Reading layers; and what is for programs that are called, or answer, now and then.
LAYERS = {"overlayfs.tree", "overlayfs.layers.upper", "overlayfs.layers.lower"}
SELDOM = {"socket", "subprocess", "click.shell_completion"}


@pytest.fixture(autouse=True)
def listed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every Python write to stderr what it imports; it is what -X importtime does."""
    monkeypatch.setenv("PYTHONPROFILEIMPORTTIME", "1")


def imported(stderr: str) -> set[str]:
    """The modules in what -X importtime wrote, and the packages that they are in."""
    lines = (line for line in stderr.splitlines() if line.startswith("import time:"))
    names = {line.rpartition("|")[2].strip() for line in lines}
    return {above for name in names for above in parents(name)}


def parents(name: str) -> Iterator[str]:
    parts = name.split(".")
    return (".".join(parts[:end]) for end in range(1, len(parts) + 1))


def test_help_imports_nothing_but_the_command_line(pyoverlay: PyOverlay) -> None:
    found = imported(pyoverlay("--help").stderr)
    assert {"click", "overlayfs.cli.main"} <= found
    assert not found & (SERVING | DRAWING | ADDING | LAYERS | SELDOM | {"msgspec", "logging"})
    assert {name for name in found if name.startswith("overlayfs.cli.")} == {"overlayfs.cli.main"}


@pytest.mark.parametrize("command", ["ps", "images", "umount", "prune", "rmi", "untag"])
def test_who_looks_at_the_store_imports_no_layers(
    pyoverlay: PyOverlay, tmp_path: Path, command: str
) -> None:
    done = pyoverlay(command, *([tmp_path] if command in ("umount", "rmi", "untag") else []))
    found = imported(done.stderr)
    assert "overlayfs.store.store" in found
    assert not found & (SERVING | DRAWING | ADDING | LAYERS | SELDOM)


def test_a_mount_of_a_stored_image_imports_only_what_serves(
    pyoverlay: PyOverlay, image: Path, tmp_path: Path
) -> None:
    mountpoint = tmp_path / "mnt"
    with pyoverlay.mounted(image, mountpoint):
        pass
    name = pyoverlay.json("images")[0]["names"][0]
    done = pyoverlay("mount", "--json", name, mountpoint)
    try:
        assert done.returncode == 0, done.stderr
        log = Path(pyoverlay.json("ps")[0]["log"]).read_text()
    finally:
        pyoverlay.ok("umount", mountpoint)
    command, daemon = imported(done.stderr), imported(log)
    assert "overlayfs.mounting" in command
    assert not command & (SERVING | DRAWING | ADDING | SELDOM)
    # It is the same interpreter that goes on: nothing is imported twice.
    assert {"trio", "pyfuse3"} <= daemon
    assert not {"click", "msgspec", "overlayfs.serving", "overlayfs.store.store"} & daemon
    assert not daemon & (DRAWING | ADDING)


@pytest.mark.parametrize("command", ["ls", "cat", "stat", "find"])
def test_who_looks_into_a_stored_image_imports_nothing_for_archives(
    pyoverlay: PyOverlay, image: Path, tmp_path: Path, command: str
) -> None:
    with pyoverlay.mounted(image, tmp_path / "mnt"):
        pass
    name = pyoverlay.json("images")[0]["names"][0]
    found = imported(pyoverlay(command, f"{name}:/etc").stderr)
    assert "overlayfs.view.unpacked" in found
    assert not found & (SERVING | DRAWING | ADDING | {"overlayfs.tree", "socket", "subprocess"})


def test_the_mount_program_does_without_subcommands_and_store(tmp_path: Path) -> None:
    for name in ("lower", "mnt"):
        (tmp_path / name).mkdir()
    root = Path(__file__).parents[2]
    command = [sys.executable, "-m", "overlayfs.cli.mountprogram"]
    # A lower directory that is a file: it comes as far as it can without leaving a daemon.
    wrong = [*command, "-o", f"lowerdir={__file__}", str(tmp_path / "mnt")]
    for words, code in (([*command, "-V"], 0), (wrong, 32)):
        done = subprocess.run(
            words,
            env=os.environ | {"PYTHONPATH": str(root)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stderr
        found = imported(done.stderr)
        assert "overlayfs.serving" in found
        assert not found & (SERVING | DRAWING | ADDING | SELDOM)
        assert not found & {"click", "msgspec", "overlayfs.store", "overlayfs.image"}
