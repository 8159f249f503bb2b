"""Which copies have names left in lower layers.

A file with several names may be copied up through one of them before the others were seen.
Until all have been, the index has a name of its own for the copy, so that whoever comes to
one of the others later, after a remount too, finds the copy and not what it was made of.
The kernel's overlayfs keeps such an index as well, in a form that needs file handles: see
``layers.kernelindex``.
"""

import os
import re


class Index:
    """The files of the directory *fd*: INO-PENDING, in hexadecimal.

    INO is the inode number of the lower file in the union, PENDING how many of its names
    have not been met since.  *foreign* says whether there are others, which are the kernel's.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._pending: dict[int, int] = {}
        self.foreign = False
        for name in os.listdir(fd):
            ours = _ENTRY.fullmatch(name)
            if ours:
                self._pending[int(ours[1], 16)] = int(ours[2], 16)
            elif not name.startswith("#"):  # which are drafts of the kernel's
                self.foreign = True

    def __len__(self) -> int:
        return len(self._pending)

    def __contains__(self, ino: int) -> bool:
        return ino in self._pending

    def pending(self, ino: int) -> int:
        """How many names of *ino* have not been met; 0 when it is not in the index."""
        return self._pending.get(ino, 0)

    def name(self, ino: int) -> bytes:
        """The copy's name in the directory of the index."""
        return b"%x-%x" % (ino, self._pending[ino])

    def add(self, ino: int, pending: int, dir_fd: int, name: bytes) -> None:
        """Enter the copy *name* in *dir_fd*, of which *pending* names have not been met."""
        self._pending[ino] = pending
        os.link(name, self.name(ino), src_dir_fd=dir_fd, dst_dir_fd=self.fd, follow_symlinks=False)

    def met(self, ino: int) -> None:
        """One more name was met; with the last one the index is not needed any more."""
        before = self.name(ino)
        self._pending[ino] -= 1
        if self._pending[ino]:
            os.rename(before, self.name(ino), src_dir_fd=self.fd, dst_dir_fd=self.fd)
        else:
            os.unlink(before, dir_fd=self.fd)
            del self._pending[ino]


_ENTRY = re.compile("([0-9a-f]+)-([0-9a-f]+)")
