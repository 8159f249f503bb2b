"""A layer directory, read: what is there, as the guest sees it."""

import errno
import os
import stat
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from overlayfs.linux import fds, xattrs
from overlayfs.union import acl
from overlayfs.union.attrs import Attrs, Kind
from overlayfs.union.ids import Ids
from overlayfs.union.merge import Found, Listing
from overlayfs.union.names import (
    OLD_OVERRIDE_STAT,
    OPAQUE_MARKER,
    RESERVED_PREFIX,
    WHITEOUT_PREFIX,
    Format,
    decode_override,
    whiteout_target,
)

# Given the open root of a layer, groups of paths in it, each the hard links of one file.
Links = Callable[[int], Iterable[tuple[bytes, ...]]]

# What os.fsencode() asks for at each call.
_ENCODING, _ERRORS = sys.getfilesystemencoding(), sys.getfilesystemencodeerrors()

# O_NONBLOCK: a fifo that somebody put in the place of a file must not be waited for.
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC


class Layer:
    """One directory of the stack, opened before anything is mounted over it.

    Everything is asked relative to a descriptor of a directory inside the layer, by a
    single name, so nothing outside can be reached.  Methods raise OSError.
    """

    def __init__(
        self,
        path: Path,
        fmt: Format,
        number: int,
        links: Links = lambda root: (),
        *,
        markers: bool = False,
        ids: Ids | None = None,
        follows: bool = False,
    ) -> None:
        """Open *path*.

        *number* tells layers apart in inode numbers: 1 is the base.  *links* gives the
        groups of paths that are hard links of one file, where somebody knows; it is asked
        when the first such file is to change.  With *markers* the layer is as it came out
        of a tar: ``.wh.NAME`` hides NAME (image-spec, layer.md, "Whiteouts"), besides
        what hides it in the format *fmt*.  *ids* is for a layer that lies on an idmapped
        mount: it has the ids as they are shown already.  *follows* says whether it
        may tell that parts or data of its files are elsewhere.
        """
        self.path = path
        self.follows = follows
        self._links = links
        self._groups: dict[bytes, tuple[bytes, ...]] | None = None
        self.format = fmt
        self.markers = markers
        self._ids_shown = ids
        self.number = number
        self.root = fds.quietly(
            lambda flags: os.open(path, flags), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        )
        self.device = os.fstat(self.root).st_dev
        self._overrides: tuple[bytes, ...] = (fmt.override,) if fmt.override else ()
        if fmt is Format.USER and xattrs.get(self.root, OLD_OVERRIDE_STAT) is not None:
            self._overrides = (*self._overrides, OLD_OVERRIDE_STAT)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.number} {self.path}>"

    def close(self) -> None:
        """Give the descriptor back; the layer is of no use afterwards."""
        os.close(self.root)

    def open_dir(self, path: bytes) -> int:
        """A descriptor of the directory *path*, relative to the root, b"" for the root."""
        return fds.quietly(
            lambda flags: fds.open_beneath(self.root, path, flags), os.O_RDONLY | os.O_DIRECTORY
        )

    def aliases(self, path: bytes) -> tuple[bytes, ...]:
        """All paths of the file *path* in this layer, as far as they are known."""
        if self._groups is None:
            self._groups = {name: group for group in self._links(self.root) for name in group}
        return self._groups.get(path, ())

    def scan(self, dir_fd: int) -> Listing:
        """The entries of a directory, whiteouts and opacity told apart."""
        marker = self._opacity(dir_fd)
        # "x" is no opacity: the directory may hold whiteouts made of an attribute.
        by_attribute = marker == b"x"
        entries: dict[bytes, Found] = {}
        with os.scandir(dir_fd) as scan:
            for entry in scan:
                name = entry.name.encode(_ENCODING, _ERRORS)
                found = self._found(dir_fd, name, entry, by_attribute=by_attribute)
                if found is not None:
                    entries[name] = found
        opaque = marker == b"y"
        if self.markers:
            opaque = self._take_markers(entries) or opaque
        return Listing(entries, opaque)

    @staticmethod
    def _take_markers(entries: dict[bytes, Found]) -> bool:
        """Let the markers among *entries* be what they mean; whether one says opaque.

        They hide what is in lower layers, never what the same layer has; a directory that
        is marked shows that layer's part alone.
        """
        marks = [name for name in entries if name.startswith(WHITEOUT_PREFIX)]
        for mark in marks:
            del entries[mark]
        for mark in marks:
            if mark.startswith(RESERVED_PREFIX):
                continue
            hidden = whiteout_target(mark)
            if not hidden:
                continue
            own = entries.get(hidden)
            if own is None:
                entries[hidden] = Found(None, 0)
            elif own.kind is Kind.DIRECTORY:
                entries[hidden] = own._replace(alone=True)
        return OPAQUE_MARKER in marks

    def _found(
        self, dir_fd: int, name: bytes, entry: os.DirEntry[str], *, by_attribute: bool
    ) -> Found | None:
        if entry.is_dir(follow_symlinks=False):
            kind = Kind.DIRECTORY
        elif entry.is_symlink():
            kind = Kind.SYMLINK
        elif entry.is_file(follow_symlinks=False):
            kind = Kind.FILE
            if self._overrides:
                override = self._read_override(fds.beneath(dir_fd, name))
                if override:
                    kind = _decoded(override)[0] or kind
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
        place = fds.beneath(dir_fd, name)
        if self._opacity(place) == b"y":
            return True
        return self.markers and os.path.lexists(place + b"/" + OPAQUE_MARKER)

    def redirect(self, place: xattrs.Place) -> bytes | None:
        """Where the file at *place* says that its lower parts are, if it does."""
        return xattrs.get(place, self.format.prefix + b"redirect")

    def is_metacopy(self, place: xattrs.Place) -> bool:
        """Whether the file at *place* says that its data is in a layer beneath."""
        return xattrs.get(place, self.format.prefix + b"metacopy") is not None

    def _opacity(self, place: xattrs.Place) -> bytes | None:
        found = xattrs.get(place, self.format.opaque)
        if found is None and self.format is Format.USER:
            # fuse-overlayfs, run by root, wrote it so there; no guest of ours can have.
            found = xattrs.get(place, Format.KERNEL.opaque)
        return found

    def attrs(self, dir_fd: int, name: bytes) -> Attrs:
        """What stat says of *name*, b"." for the directory itself."""
        return self.look(dir_fd, name)[1]

    def look(self, dir_fd: int, name: bytes) -> tuple[int, Attrs]:
        """The inode of *name* on its disk, and what stat says of it."""
        st = os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
        return st.st_ino, self._guest(st, fds.beneath(dir_fd, name))

    def attrs_of(self, fd: int) -> Attrs:
        """What fstat says of the open file *fd*, an unlinked one too."""
        return self._guest(os.fstat(fd), fd)

    def _guest(self, st: os.stat_result, place: xattrs.Place) -> Attrs:
        mode, uid, gid, rdev, size = st.st_mode, st.st_uid, st.st_gid, st.st_rdev, st.st_size
        if self._ids_shown is not None:
            uid = self._ids_shown.users.kept_if_any(uid)
            gid = self._ids_shown.groups.kept_if_any(gid)
        if self._overrides:
            mode, uid, gid, rdev, size = self._overridden(st, uid, gid, place)
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
        self, st: os.stat_result, uid: int, gid: int, place: xattrs.Place
    ) -> tuple[int, int, int, int, int]:
        kind = Kind.of(st.st_mode)
        if kind is Kind.SYMLINK and self.format is Format.USER:
            # A real one stands for root's own; others are kept as placeholders.
            return st.st_mode, 0, 0, 0, st.st_size
        value = self._read_override(place)
        if value is None:
            return st.st_mode, uid, gid, st.st_rdev, st.st_size
        named, bits, uid, gid, (major, minor) = _decoded(value)
        kind = named or kind
        bits = 0o777 if kind is Kind.SYMLINK else bits
        size = st.st_size if kind in (Kind.FILE, Kind.DIRECTORY, Kind.SYMLINK) else 0
        return kind.ifmt | bits, uid, gid, os.makedev(major, minor), size

    def _read_override(self, place: xattrs.Place) -> bytes | None:
        for name in self._overrides:
            value = xattrs.get(place, name)
            if value is not None:
                return value
        return None

    def readlink(self, dir_fd: int, name: bytes) -> bytes:
        """The target of the symbolic link *name*."""
        try:
            return os.readlink(name, dir_fd=dir_fd)
        except OSError as exc:
            if exc.errno != errno.EINVAL or not self._overrides:
                raise
        fd = os.open(name, _READ, dir_fd=dir_fd)
        try:
            return os.read(fd, 1 << 16)
        finally:
            os.close(fd)

    def open_file(self, dir_fd: int, name: bytes) -> int:
        """A descriptor for reading the body of the file *name*."""
        return fds.quietly(lambda flags: os.open(name, flags, dir_fd=dir_fd), _READ)

    def xattrs(self, place: xattrs.Place) -> dict[bytes, bytes]:
        """The guest's extended attributes of the file at *place* (see ``fds.beneath``)."""
        found: dict[bytes, bytes] = {}
        for disk in xattrs.names(place):
            guest = self.format.to_guest(disk)
            value = xattrs.get(place, disk) if guest is not None else None
            if guest is not None and value is not None:
                found[guest] = self._list_kept(value) if disk in acl.LISTS else value
        return found

    def _list_kept(self, value: bytes) -> bytes:
        """An access list with the ids that it would have without a mapped mount."""
        ids = self._ids_shown
        if ids is None:
            return value
        return acl.mapped(value, ids.users.kept_if_any, ids.groups.kept_if_any)


def _decoded(value: bytes) -> tuple[Kind | None, int, int, int, tuple[int, int]]:
    """What ``decode_override`` says; OSError EIO for a value that says nothing."""
    try:
        return decode_override(value)
    except ValueError as exc:
        raise OSError(errno.EIO, str(exc)) from exc
