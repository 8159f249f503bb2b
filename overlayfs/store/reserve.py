"""Room kept back, so that something can be removed where the disk is full."""

import errno
import os
from pathlib import Path

# Enough for an index of nearly two hundred images, and the directory of a draft.
_SIZE = 64 << 10


class Reserve:
    """A file of no content that is given up when nothing else is left."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def fill(self) -> None:
        """Have it, unless there is no room for it."""
        try:
            fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            return
        except OSError as exc:
            if exc.errno in _FULL:
                return
            raise
        try:
            os.posix_fallocate(fd, 0, _SIZE)
        except OSError as exc:
            if exc.errno not in (*_FULL, errno.EOPNOTSUPP, errno.EINVAL):
                raise
        finally:
            os.close(fd)

    def give_up(self) -> bool:
        """Let it go; whether there was one."""
        try:
            self._path.unlink()
        except FileNotFoundError:
            return False
        return True


_FULL = (errno.ENOSPC, errno.EDQUOT)


def is_full(error: OSError) -> bool:
    """Whether *error* says that the disk, or the user's share of it, is full."""
    return error.errno in _FULL
