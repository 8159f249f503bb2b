"""Which copies have names left in lower layers.

A file with several names may be copied up through one of them before the others were seen.
Until all have been, the index has a name of its own for the copy, so that whoever comes to
one of the others later, after a remount too, finds the copy and not what it was made of.
The kernel's overlayfs keeps such an index as well (Documentation/filesystems/overlayfs.rst,
"Inode properties", "index"), in a form that needs file handles.
"""

import os


class Index:
    """The files of the directory *fd*: INO-PENDING, in hexadecimal.

    INO is the inode number of the lower file in the union, PENDING how many of its names
    have not been met since.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._pending: dict[int, int] = {}
        for name in os.listdir(fd):
            ino, _, pending = name.partition("-")
            self._pending[int(ino, 16)] = int(pending, 16)

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
