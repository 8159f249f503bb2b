"""flock(2) on files and directories; the kernel lets go when a process dies."""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold the lock file *path* alone, waiting for as long as another has it.

    The file is made when it is missing and removed at the end, so locks leave nothing.
    """
    fd = _acquire(path)
    assert fd is not None  # it was waited for
    try:
        yield
    finally:
        # Removed while held: who waits for it finds that out, and begins again.
        path.unlink(missing_ok=True)
        os.close(fd)


@contextmanager
def attempted(path: Path) -> Iterator[bool]:
    """Like ``exclusive``, but False at once, and nothing held, while another has it."""
    fd = _acquire(path, fcntl.LOCK_NB)
    if fd is None:
        yield False
        return
    try:
        yield True
    finally:
        path.unlink(missing_ok=True)
        os.close(fd)


class Shared:
    """*path*, a file or directory that stays, held together with others.

    Waits for who holds it alone.  It is let go when all processes that were forked meanwhile
    have released it too, or have ended.
    """

    def __init__(self, path: Path) -> None:
        self._fd: int | None = _locked(path, fcntl.LOCK_SH)

    def release(self) -> None:
        """Let go, if it is held still."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Hold *path*, a file or directory that stays, with nobody else, waiting for all others."""
    fd = _locked(path, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(fd)


def _locked(path: Path, how: int) -> int:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, how)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _acquire(path: Path, wait: int = 0) -> int | None:
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | wait)
            if _is(fd, path):
                return fd
        except BlockingIOError:
            os.close(fd)
            return None
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)


def _is(fd: int, path: Path) -> bool:
    """Whether *path* is still the file *fd*."""
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except FileNotFoundError:
        return False


def claimed(path: Path) -> int | None:
    """A descriptor of *path*, a file or directory, locked; None when another holds it.

    None as well when it is gone.  Closing the descriptor lets go.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as exc:
        if exc.errno in (errno.ENOENT, errno.ELOOP):
            return None
        raise
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    return fd
