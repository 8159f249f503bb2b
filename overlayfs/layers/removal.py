"""Removing trees that strangers shaped: of any depth, never leaving them."""

import errno
import itertools
import os

_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove(at: int, name: bytes) -> None:
    """Remove *name* in the directory *at*, with all it holds if it is a directory.

    No symbolic link is followed.  Depth costs neither descriptors nor stack: a directory
    that is not empty is moved to the top before it is emptied.
    """
    try:
        os.unlink(name, dir_fd=at)
    except IsADirectoryError:
        pass
    else:
        return
    top = os.open(name, _OPEN, dir_fd=at)
    try:
        fresh = itertools.count()
        left = _empty(top, top, fresh)
        while left:
            moved = left.pop()
            fd = os.open(moved, _OPEN, dir_fd=top)
            try:
                left += _empty(fd, top, fresh)
            finally:
                os.close(fd)
            os.rmdir(moved, dir_fd=top)
    finally:
        os.close(top)
    os.rmdir(name, dir_fd=at)


def _empty(fd: int, top: int, fresh: "itertools.count[int]") -> list[bytes]:
    """Empty the directory *fd*; what its directories are called in *top* now."""
    moved = []
    with os.scandir(fd) as scan:
        entries = [(os.fsencode(entry.name), entry.is_dir(follow_symlinks=False)) for entry in scan]
    for name, is_dir in entries:
        if not is_dir:
            os.unlink(name, dir_fd=fd)
        elif fd == top:
            moved.append(name)
        else:
            moved.append(_raise(fd, name, top, fresh))
    return moved


def _raise(fd: int, name: bytes, top: int, fresh: "itertools.count[int]") -> bytes:
    for number in fresh:
        target = b"#%d" % number
        try:
            os.rename(name, target, src_dir_fd=fd, dst_dir_fd=top)
        except OSError as exc:
            if exc.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise
        else:
            return target
    raise AssertionError("count() ended")
