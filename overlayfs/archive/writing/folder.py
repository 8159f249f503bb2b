"""A directory of this machine, as a tar."""

import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import FileIO
from typing import BinaryIO, cast

from overlayfs.archive.writing.tar import TarEntry, TarWriter
from overlayfs.errors import OverlayError
from overlayfs.printable import printable
from overlayfs.union.attrs import Kind

_NS = 1_000_000_000
# Of the machine, which gives files labels of its own wherever they are copied to.
_NOT_THE_FILES = (b"security.selinux",)


def write_folder(
    folder: int, writer: TarWriter, label: str, *, latest: int | None = None
) -> list[bytes]:
    """Write the directory that is open as *folder*, and all beneath, to *writer*.

    In the order of names, so that equal trees make equal tars; no time is after *latest*, in
    seconds.  Returns the paths of what was left out: sockets, and what lies in other file
    systems.  Raises OverlayError, beginning with *label*, for what cannot be read.
    """
    packer = _Packer(writer, label, os.fstat(folder).st_dev, latest)
    packer.directory(folder)
    return packer.left_out


@dataclass(slots=True)
class _Packer:
    writer: TarWriter
    label: str
    device: int
    latest: int | None
    left_out: list[bytes] = field(default_factory=list)
    _names: dict[int, bytes] = field(default_factory=dict)  # by inode, of what has several

    def directory(self, folder: int) -> None:
        """Write everything, with one descriptor for each level that is being read."""
        self.writer.add(self._entry(b"", os.fstat(folder), b"/proc/self/fd/%d" % folder))
        levels = [(b"", os.dup(folder), self._listed(folder, b""))]
        try:
            while levels:
                above, fd, names = levels[-1]
                name = next(names, None)
                if name is None:
                    os.close(fd)
                    levels.pop()
                    continue
                path = above + b"/" + name if above else name
                try:
                    below = self._take(fd, name, path)
                except OSError as exc:
                    raise self._failed(path, exc) from exc
                if below is not None:
                    levels.append((path, below, self._listed(below, path)))
        finally:
            for _, fd, _ in levels:
                os.close(fd)

    def _listed(self, fd: int, path: bytes) -> Iterator[bytes]:
        try:
            return iter(sorted(os.fsencode(name) for name in os.listdir(fd)))
        except OSError as exc:
            raise self._failed(path, exc) from exc

    def _failed(self, path: bytes, exc: OSError) -> OverlayError:
        reason = "changed while it was read" if exc.errno == errno.ELOOP else exc.strerror
        return OverlayError(f"{self.label}/{printable(path)}: {reason}")

    def _take(self, above: int, name: bytes, path: bytes) -> int | None:
        """Write *name*; its descriptor if it is a directory to go into."""
        found = os.stat(name, dir_fd=above, follow_symlinks=False)
        is_link = stat.S_ISLNK(found.st_mode)
        target = os.readlink(name, dir_fd=above) if is_link else b""
        entry = self._entry(path, found, b"/proc/self/fd/%d/%s" % (above, name), target)
        if entry.kind is Kind.SOCKET:
            self.left_out.append(path)
            return None
        if entry.kind is Kind.DIRECTORY:
            self.writer.add(entry)
            if found.st_dev != self.device:
                self.left_out.append(path + b"/*")
                return None
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            return os.open(name, flags, dir_fd=above)
        if entry.kind is Kind.FILE and entry.linked is None:
            # Not to wait for a writer should this have become a fifo meanwhile.
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            with FileIO(os.open(name, flags, dir_fd=above)) as body:
                self.writer.add(entry, cast("BinaryIO", body))
            return None
        self.writer.add(entry)
        return None

    def _entry(
        self, path: bytes, found: os.stat_result, at: bytes, target: bytes = b""
    ) -> TarEntry:
        kind = Kind.of(found.st_mode)
        linked = None
        if kind is not Kind.DIRECTORY and found.st_nlink > 1:
            first = self._names.setdefault(found.st_ino, path)
            linked = first if first != path else None
        mtime = found.st_mtime_ns
        names = (os.fsencode(name) for name in os.listxattr(at, follow_symlinks=path == b""))
        return TarEntry(
            path,
            kind,
            stat.S_IMODE(found.st_mode),
            found.st_uid,
            found.st_gid,
            mtime if self.latest is None else min(mtime, self.latest * _NS),
            found.st_size if kind is Kind.FILE else 0,
            target,
            linked,
            found.st_rdev if kind in (Kind.CHAR, Kind.BLOCK) else 0,
            {
                name: os.getxattr(at, name, follow_symlinks=path == b"")
                for name in names
                if name not in _NOT_THE_FILES
            },
        )
