"""A layer directory, read: what is there, as the guest sees it."""

import errno
import os
import stat
from collections.abc import Callable, Iterable
from pathlib import Path

from overlayfs.linux import fds, xattrs
from overlayfs.union.attrs import Attrs, Kind
from overlayfs.union.merge import Found, Listing
from overlayfs.union.names import OVERRIDE_STAT, Format, decode_override

# Groups of paths, each the hard links of one file.
Links = Callable[[], Iterable[tuple[bytes, ...]]]

# O_NOATIME is refused with EPERM for files of other owners, so it is not used: layers lie
# on file systems with relatime at least, and nothing here depends on it.
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC


class Layer:
    """One directory of the stack, opened before anything is mounted over it.

    Everything is asked relative to a descriptor of a directory inside the layer, by a
    single name, so nothing outside can be reached.  Methods raise OSError.
    """

    def __init__(self, path: Path, fmt: Format, number: int, links: Links = tuple) -> None:
        """Open *path*.

        *number* tells layers apart in inode numbers: 1 is the base.  *links* gives the
        groups of paths that are hard links of one file, where somebody knows; it is asked
        when the first such file is to change.
        """
        self.path = path
        self._links = links
        self._groups: dict[bytes, tuple[bytes, ...]] | None = None
        self.format = fmt
        self.number = number
        self.root = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self.device = os.fstat(self.root).st_dev

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.number} {self.path}>"

    def close(self) -> None:
        """Give the descriptor back; the layer is of no use afterwards."""
        os.close(self.root)

    def open_dir(self, path: bytes) -> int:
        """A descriptor of the directory *path*, relative to the root, b"" for the root."""
        return fds.open_beneath(self.root, path, os.O_RDONLY | os.O_DIRECTORY)

    def aliases(self, path: bytes) -> tuple[bytes, ...]:
        """All paths of the file *path* in this layer, as far as they are known."""
        if self._groups is None:
            self._groups = {name: group for group in self._links() for name in group}
        return self._groups.get(path, ())

    def scan(self, dir_fd: int) -> Listing:
        """The entries of a directory, whiteouts and opacity told apart."""
        marker = xattrs.get(fds.itself(dir_fd) + b"/.", self.format.opaque)
        # "x" is no opacity: the directory may hold whiteouts made of an attribute.
        by_attribute = marker == b"x"
        entries: dict[bytes, Found] = {}
        with os.scandir(dir_fd) as scan:
            for entry in scan:
                name = os.fsencode(entry.name)
                found = self._found(dir_fd, name, entry, by_attribute=by_attribute)
                if found is not None:
                    entries[name] = found
        return Listing(entries, marker == b"y")

    def _found(
        self, dir_fd: int, name: bytes, entry: os.DirEntry[str], *, by_attribute: bool
    ) -> Found | None:
        if entry.is_dir(follow_symlinks=False):
            kind = Kind.DIRECTORY
        elif entry.is_symlink():
            kind = Kind.SYMLINK
        elif entry.is_file(follow_symlinks=False):
            kind = Kind.FILE
            if self.format is Format.USER:
                override = xattrs.get(fds.beneath(dir_fd, name), OVERRIDE_STAT)
                if override:
                    kind = decode_override(override)[0] or kind
            if by_attribute and kind is Kind.FILE and self._whiteout(dir_fd, name):
                return Found(None, 0)
        else:
            try:
                st = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                return None
            if stat.S_ISCHR(st.st_mode) and st.st_rdev == 0:
                return Found(None, 0)
            kind = Kind.of(st.st_mode)
        return Found(kind, entry.inode())

    def _whiteout(self, dir_fd: int, name: bytes) -> bool:
        path = fds.beneath(dir_fd, name)
        return xattrs.get(path, self.format.prefix + b"whiteout") is not None and not (
            os.stat(path, follow_symlinks=False).st_size  # noqa: PTH116  (bytes)
        )

    def is_opaque(self, dir_fd: int, name: bytes) -> bool:
        """Whether the directory *name* hides what is below it."""
        return xattrs.get(fds.beneath(dir_fd, name), self.format.opaque) == b"y"

    def attrs(self, dir_fd: int, name: bytes) -> Attrs:
        """What stat says of *name*, b"." for the directory itself."""
        st = os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
        return self._guest(st, fds.beneath(dir_fd, name))

    def attrs_of(self, fd: int) -> Attrs:
        """What fstat says of the open file *fd*, an unlinked one too."""
        return self._guest(os.fstat(fd), fd)

    def _guest(self, st: os.stat_result, place: xattrs.Place) -> Attrs:
        mode, uid, gid, rdev, size = st.st_mode, st.st_uid, st.st_gid, st.st_rdev, st.st_size
        if self.format is Format.USER:
            mode, uid, gid, rdev, size = self._overridden(st, place)
        return Attrs(
            mode,
            st.st_nlink,
            uid,
            gid,
            rdev,
            size,
            st.st_blocks,
            st.st_atime_ns,
            st.st_mtime_ns,
            st.st_ctime_ns,
        )

    def _overridden(
        self, st: os.stat_result, place: xattrs.Place
    ) -> tuple[int, int, int, int, int]:
        kind = Kind.of(st.st_mode)
        if kind is Kind.SYMLINK:
            # A real one stands for root's own; others are kept as placeholders.
            return st.st_mode, 0, 0, 0, st.st_size
        value = xattrs.get(place, OVERRIDE_STAT)
        if value is None:
            return st.st_mode, st.st_uid, st.st_gid, st.st_rdev, st.st_size
        named, bits, uid, gid, (major, minor) = decode_override(value)
        kind = named or kind
        bits = 0o777 if kind is Kind.SYMLINK else bits
        size = st.st_size if kind in (Kind.FILE, Kind.DIRECTORY, Kind.SYMLINK) else 0
        return kind.ifmt | bits, uid, gid, os.makedev(major, minor), size

    def readlink(self, dir_fd: int, name: bytes) -> bytes:
        """The target of the symbolic link *name*."""
        try:
            return os.readlink(name, dir_fd=dir_fd)
        except OSError as exc:
            if exc.errno != errno.EINVAL or self.format is Format.KERNEL:
                raise
        fd = os.open(name, _READ, dir_fd=dir_fd)
        try:
            return os.read(fd, 1 << 16)
        finally:
            os.close(fd)

    def open_file(self, dir_fd: int, name: bytes) -> int:
        """A descriptor for reading the body of the file *name*."""
        return os.open(name, _READ, dir_fd=dir_fd)

    def xattrs(self, place: xattrs.Place) -> dict[bytes, bytes]:
        """The guest's extended attributes of the file at *place* (see ``fds.beneath``)."""
        found: dict[bytes, bytes] = {}
        for disk in xattrs.names(place):
            guest = self.format.to_guest(disk)
            value = xattrs.get(place, disk) if guest is not None else None
            if guest is not None and value is not None:
                found[guest] = value
        return found
