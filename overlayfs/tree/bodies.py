"""Open files of lower layers that nobody has open just now."""

import os
from collections import OrderedDict


class Bodies:
    """Descriptors by inode number, the least recently released closed when too many.

    What is read once is read again soon, and opening costs more than answering.  Lower
    files stay as they are, so an open one is as good as a new one; those of the upper layer
    are not kept, as whoever wants to unmount its disk, or to make it read-only, would be
    kept from it.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._open: OrderedDict[int, int] = OrderedDict()

    def keep(self, ino: int, fd: int) -> None:
        """Take *fd*, which nobody uses any more."""
        self._open[ino] = fd
        if len(self._open) > self._limit:
            os.close(self._open.popitem(last=False)[1])

    def take(self, ino: int) -> int:
        """Give the descriptor of *ino* away; -1 if there is none."""
        return self._open.pop(ino, -1)

    def drop(self, ino: int) -> None:
        """Close what is open of *ino*."""
        fd = self._open.pop(ino, -1)
        if fd >= 0:
            os.close(fd)

    def close(self) -> None:
        """Close everything."""
        while self._open:
            os.close(self._open.popitem()[1])
