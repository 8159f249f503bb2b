"""The command ``pyoverlay`` as a user runs it, and mounts that end with their test."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.images import run


@dataclass(frozen=True, slots=True)
class PyOverlay:
    """The command, with a store of its own."""

    store: Path

    def __call__(
        self, *arguments: str | Path, cwd: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """What one run printed, and its exit code."""
        return subprocess.run(
            [sys.executable, "-m", "overlayfs", *arguments],
            cwd=cwd,
            env=os.environ
            | {"PYOVERLAY_ROOT": str(self.store), "PYTHONPATH": str(Path(__file__).parents[2])},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    def ok(self, *arguments: str | Path, cwd: Path | None = None) -> str:
        """Its stdout; an AssertionError with its stderr when it fails."""
        done = self(*arguments, cwd=cwd)
        assert done.returncode == 0, f"pyoverlay {arguments}: {done.returncode}\n{done.stderr}"
        return done.stdout

    def json(self, *arguments: str | Path) -> Any:
        """What it prints as ``--json``."""
        return json.loads(self.ok(*arguments, "--json"))

    @contextmanager
    def mounted(self, source: str | Path, mountpoint: Path, *options: str | Path) -> Iterator[Path]:
        """*source* mounted at *mountpoint*, which is made."""
        mountpoint.mkdir(exist_ok=True)
        self.ok("mount", *options, source, mountpoint)
        try:
            yield mountpoint
        finally:
            self.ok("umount", mountpoint)

    def layer_paths(self, name: str | None = None) -> list[Path]:
        """The layer directories of the image *name*, or of the only one; base first."""
        images = [image for image in self.json("images") if name is None or name in image["names"]]
        assert len(images) == 1, images
        return [Path(layer["path"]) for layer in images[0]["layers"]]


def completed(store: Path, words: str) -> list[str]:
    """What bash is offered for the last of *words*."""
    done = subprocess.run(
        [sys.executable, "-m", "overlayfs"],
        env=os.environ
        | {
            "PYOVERLAY_ROOT": str(store),
            "_PYOVERLAY_COMPLETE": "bash_complete",
            "COMP_WORDS": words,
            "COMP_CWORD": str(len(words.split(" ")) - 1),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    return done.stdout.split()


@contextmanager
def kernel_mounted(layers: list[Path], folder: Path) -> Iterator[Path]:
    """The kernel's overlayfs on *layers* (base first), read-only."""
    # It wants two; an empty one at the bottom adds nothing.
    empty, merged = folder / "kernel-empty", folder / "kernel-merged"
    empty.mkdir(exist_ok=True)
    merged.mkdir(exist_ok=True)
    lowers = ":".join(str(layer) for layer in [*reversed(layers), empty])
    run("mount", "-t", "overlay", "overlay", "-o", f"lowerdir={lowers}", merged)
    try:
        yield merged
    finally:
        run("umount", merged)
