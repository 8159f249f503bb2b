"""What is being written: locked while its process lives, swept when it is gone."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from overlayfs.layers.removal import remove
from overlayfs.linux import locks


class Drafts:
    """The folder of unfinished things, on the store's file system."""

    def __init__(self, folder: Path, lock: Path) -> None:
        """*lock* is held while drafts begin and while the abandoned are found."""
        self._folder = folder
        self._lock = lock

    @contextmanager
    def fresh(self) -> Iterator[Path]:
        """A new directory, locked, and removed at the end with what is still in it."""
        path = self._folder / secrets.token_hex(8)
        with locks.exclusive(self._lock):
            path.mkdir(mode=0o700)
            fd = locks.claimed(path)
        assert fd is not None
        try:
            yield path
        finally:
            remove_path(path)
            os.close(fd)

    def adopt(self, path: Path) -> "Adopted | None":
        """Make *path*, a directory of the same file system, a draft; None while it is in use.

        It has lost its name then, and goes like any draft if this process dies.
        """
        fd = locks.claimed(path)
        if fd is None:
            return None
        draft = self._folder / secrets.token_hex(8)
        path.rename(draft)
        return Adopted(draft, fd)

    def abandoned(self) -> list[Path]:
        """What dead processes left."""
        found = []
        with locks.exclusive(self._lock):
            for path in self._folder.iterdir():
                fd = locks.claimed(path)
                if fd is not None:
                    os.close(fd)
                    found.append(path)
        return found

    def sweep(self) -> int:
        """Remove what dead processes left; how many drafts."""
        if not any(self._folder.iterdir()):
            return 0  # without taking a lock, for a known image that is added again
        with locks.exclusive(self._lock):
            abandoned = [
                (path, fd)
                for path in self._folder.iterdir()
                if (fd := locks.claimed(path)) is not None
            ]
        for path, fd in abandoned:
            remove_path(path)
            os.close(fd)
        return len(abandoned)


@dataclass(frozen=True, slots=True)
class Adopted:
    """A directory on its way out, at *path*, locked by the descriptor *fd*."""

    path: Path
    fd: int

    def remove(self) -> None:
        """Remove it with all it holds."""
        remove_path(self.path)
        os.close(self.fd)


def remove_path(path: Path) -> None:
    """Remove *path* and all beneath, whatever its shape; nothing is fine too."""
    at = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        remove(at, os.fsencode(path.name))
    except FileNotFoundError:
        return
    finally:
        os.close(at)
