"""Bringing things to the disk."""

import os
from pathlib import Path


def sync_dir(path: Path) -> None:
    """Make the names in the directory *path* survive a power cut; fsync(2)."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
