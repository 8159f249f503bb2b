"""The file systems that are compared, and how each is told to mount the same directories.

All are told not to wait for the disk (``volatile``, unionfs-fuse knows nothing like it), since
the disk is the same for all and would hide the difference.
"""

import contextlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tests.support import mounts

OURS = "pyoverlayfs"
KERNEL = "kernel overlayfs"
UNIONFS = "unionfs-fuse"


class Missing(Exception):
    """A peer is not on this machine."""


@dataclass(frozen=True, slots=True)
class Directories:
    """What is mounted where.  *lowers* are names in *folder*, topmost first."""

    folder: Path
    lowers: tuple[str, ...]
    upper: Path
    work: Path
    mountpoint: Path

    def overlay_options(self) -> str:
        """As the kernel's overlayfs writes them.

        The names are relative to *folder*: mount(2) takes a page of options, which 500 long
        names do not fit in.
        """
        return (
            f"lowerdir={':'.join(self.lowers)},upperdir={self.upper},workdir={self.work},volatile"
        )


class Peer(Protocol):
    """A way to mount."""

    @property
    def name(self) -> str:
        """What stands in the tables."""

    @property
    def has_daemon(self) -> bool:
        """Whether there is a process to measure."""

    def start(self, directories: Directories, log: int) -> subprocess.Popen[bytes] | None:
        """Mounts, or starts the process that will; what that says goes to *log*."""


@dataclass(frozen=True, slots=True)
class Program:
    """A program with fuse-overlayfs's command line."""

    name: str
    path: Path

    @property
    def has_daemon(self) -> bool:
        """One process serves the mount."""
        return True

    def start(self, directories: Directories, log: int) -> subprocess.Popen[bytes]:
        """In the foreground, so that it is a child."""
        options = directories.overlay_options()
        return _started([self.path, "-f", "-o", options, directories.mountpoint], directories, log)


@dataclass(frozen=True, slots=True)
class Unionfs:
    """unionfs-fuse.

    It has a way of its own to hide names: the kernel's whiteouts it shows as the devices that
    they are, and it merges what is opaque.
    """

    path: Path
    name: str = UNIONFS

    @property
    def has_daemon(self) -> bool:
        """One process serves the mount."""
        return True

    def start(self, directories: Directories, log: int) -> subprocess.Popen[bytes]:
        """Copy on write, and what the others do of themselves."""
        branches = [f"{directories.upper}=RW", *(f"{lower}=RO" for lower in directories.lowers)]
        options = "cow,use_ino,allow_other,default_permissions,suid,dev"
        words = ("-f", "-o", options, ":".join(branches))
        return _started([self.path, *words, directories.mountpoint], directories, log)


@dataclass(frozen=True, slots=True)
class Kernel:
    """The kernel's overlayfs."""

    name: str = KERNEL

    @property
    def has_daemon(self) -> bool:
        """There is none."""
        return False

    def start(self, directories: Directories, log: int) -> None:
        """By mount(2); newer mount(8) hands the options over in pieces of 256 bytes at most."""
        with contextlib.chdir(directories.folder):
            mounts.mount(
                "overlay", directories.mountpoint, "overlay", directories.overlay_options()
            )


def _started(
    command: list[str | Path], directories: Directories, log: int
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command, cwd=directories.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log
    )


def ours() -> Program:
    """The one of this source tree."""
    return Program(OURS, Path(sys.executable).with_name("pyoverlayfs"))


def fuse_overlayfs(paths: str | None) -> list[Program]:
    """Those of *paths*, with colons between them, or the one of this machine."""
    if not paths:
        found = shutil.which("fuse-overlayfs")
        if found is None:
            raise Missing("fuse-overlayfs is not installed")
        paths = found
    return list(_named(Path(path).absolute() for path in paths.split(":") if path))


def _named(paths: Iterable[Path]) -> Iterable[Program]:
    """Each with its version, and what tells two of one version apart."""
    seen: dict[str, int] = {}
    for path in paths:
        name = f"fuse-overlayfs {version(path)}"
        seen[name] = seen.get(name, 0) + 1
        yield Program(name if seen[name] == 1 else f"{name} ({seen[name]})", path)


def version(path: Path) -> str:
    """The version that a program tells of itself."""
    try:
        done = subprocess.run(
            [path, "--version"], capture_output=True, text=True, check=True, errors="replace"
        )
    except (OSError, subprocess.CalledProcessError) as exc:
        raise Missing(f"{path}: {exc}") from exc
    # The libraries tell theirs, too.
    found = re.search(r"fuse-overlayfs\W+(?:version\s+)?v?(\d[\w.-]*)", done.stdout + done.stderr)
    return found.group(1) if found else path.name


def unionfs() -> Unionfs:
    """The one of this machine."""
    for command in ("unionfs", "unionfs-fuse"):
        if found := shutil.which(command):
            return Unionfs(Path(found))
    raise Missing("unionfs-fuse is not installed")


def all_peers() -> list[Peer]:
    """Ours first, then what it is measured against, the yardstick of the goals first."""
    return [ours(), *fuse_overlayfs(os.environ.get("FUSE_OVERLAYFS")), unionfs(), Kernel()]


def yardstick(names: Iterable[str]) -> str | None:
    """The fuse-overlayfs that the goals are about: the first one in C, whose versions are 1.x."""
    return next((name for name in names if name.startswith("fuse-overlayfs 1.")), None)
