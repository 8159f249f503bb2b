"""How much of the disk things take."""

import os
import stat
from pathlib import Path

from overlayfs.linux import fds

# stat(2): st_blocks counts these, whatever the file system's own blocks are.
_BLOCK = 512
_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def used(path: Path) -> int:
    """The bytes of the disk that *path* takes with all beneath, a file of several names once.

    What vanishes meanwhile counts nothing, nor does what is in a directory that is closed to us.
    """
    try:
        top = path.lstat()
        if not stat.S_ISDIR(top.st_mode):
            return top.st_blocks * _BLOCK
        root = os.open(path, _OPEN)
    except FileNotFoundError:
        return 0
    try:
        return top.st_blocks * _BLOCK + _beneath(root)
    finally:
        os.close(root)


def _beneath(root: int) -> int:
    total = 0
    seen: set[tuple[int, int]] = set()
    left = [b""]
    while left:
        path = left.pop()
        try:
            fd = fds.open_beneath(root, path, _OPEN)
        except (FileNotFoundError, PermissionError):
            continue
        try:
            with os.scandir(fd) as scan:
                for entry in scan:
                    try:
                        found = entry.stat(follow_symlinks=False)
                    except FileNotFoundError:
                        continue
                    if stat.S_ISDIR(found.st_mode):
                        name = os.fsencode(entry.name)
                        left.append(path + b"/" + name if path else name)
                    elif found.st_nlink > 1:
                        if (found.st_dev, found.st_ino) in seen:
                            continue
                        seen.add((found.st_dev, found.st_ino))
                    total += found.st_blocks * _BLOCK
        finally:
            os.close(fd)
    return total
