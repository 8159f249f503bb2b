"""Hiding names in an upper directory, by whatever its file system can do.

The kernel's overlayfs reads two kinds of whiteout: a character device 0:0, and where no
such device can be made (on an overlay, say) an empty file with an attribute, in a directory
that says it may hold such files (Documentation/filesystems/overlayfs.rst, "Whiteouts and
opaque directories").  A file system without attributes gets the markers of a tar, which
only we and fuse-overlayfs read (image-spec, layer.md, "Whiteouts").

Every change is one rename(2), or a series in which the union is the same before the last
step; where it cannot be, the method says what a crash may leave.
"""

import errno
import os
import shutil
import stat
from abc import ABC, abstractmethod
from contextlib import suppress
from typing import NamedTuple

from overlayfs.linux import fds, files, xattrs
from overlayfs.linux.files import RENAME_EXCHANGE, RENAME_WHITEOUT, renameat2
from overlayfs.union.names import OPAQUE_MARKER, Format, marker_of
from overlayfs.union.policy import WhiteoutKind


class Spot(NamedTuple):
    """A name in an open directory of the upper layer."""

    dir_fd: int
    name: bytes


class Work:
    """The work directory: free names, and removing what is under them."""

    def __init__(self, fd: int) -> None:
        """*fd* stays the caller's to close."""
        self.fd = fd
        self._drafts = 0

    def draft(self) -> bytes:
        """A name that is free."""
        self._drafts += 1
        return b"#%x" % self._drafts

    def remove(self, draft: bytes, *, directory: bool) -> None:
        """Remove *draft* and whatever it holds."""
        if directory:
            shutil.rmtree(draft, dir_fd=self.fd)
        else:
            os.unlink(draft, dir_fd=self.fd)


class Whiteouts(ABC):
    """One way of hiding names."""

    # Whether ``move`` wants a directory that it replaces to hold nothing.
    needs_empty = True

    def __init__(self, work: Work, fmt: Format) -> None:
        self._work = work
        self._format = fmt

    @abstractmethod
    def try_out(self) -> None:
        """Make one in the work directory and remove it; OSError when it cannot be done here."""

    @abstractmethod
    def hide(self, spot: Spot) -> None:
        """Hide what lower layers have at *spot*, where the upper layer has nothing."""

    def opaque(self, place: xattrs.Place) -> None:
        """Let the directory at *place* hide all that is below it."""
        xattrs.put(place, self._format.opaque, b"y")

    @abstractmethod
    def replace(self, spot: Spot, *, directory: bool) -> None:
        """Hide the name *spot*, which the upper layer has, in one step."""

    @abstractmethod
    def cover(self, draft: bytes, spot: Spot, *, directory: bool) -> None:
        """Let *draft* take the place of the whiteout at *spot*, in one step."""

    @abstractmethod
    def move(self, old: Spot, new: Spot, *, directory: bool, leave: bool, over: bool) -> None:
        """Rename *old* to *new*.

        *leave* wants a whiteout at *old*; *over* says that there is one at *new*, else
        there may be anything that rename(2) replaces.
        """


class _Entries(Whiteouts):
    """Whiteouts that are directory entries under the very name they hide."""

    @abstractmethod
    def _make(self, name: bytes) -> None:
        """A whiteout *name* in the work directory."""

    def _prepare(self, dir_fd: int) -> None:
        """Let the directory *dir_fd* hold whiteouts."""

    def try_out(self) -> None:
        draft = self._work.draft()
        try:
            self._make(draft)
        finally:
            files.unlink_if_there(self._work.fd, draft)

    def hide(self, spot: Spot) -> None:
        self._place(spot, 0)

    def _place(self, spot: Spot, flags: int) -> bytes:
        draft = self._work.draft()
        self._prepare(spot.dir_fd)
        self._make(draft)
        try:
            renameat2(self._work.fd, draft, *spot, flags)
        except OSError:
            os.unlink(draft, dir_fd=self._work.fd)
            raise
        return draft

    def replace(self, spot: Spot, *, directory: bool) -> None:
        draft = self._place(spot, RENAME_EXCHANGE if directory else 0)
        if directory:
            self._work.remove(draft, directory=True)

    def cover(self, draft: bytes, spot: Spot, *, directory: bool) -> None:
        if directory:
            renameat2(self._work.fd, draft, *spot, RENAME_EXCHANGE)
            os.unlink(draft, dir_fd=self._work.fd)
        else:
            renameat2(self._work.fd, draft, *spot)

    def move(self, old: Spot, new: Spot, *, directory: bool, leave: bool, over: bool) -> None:
        if over and (leave or directory):
            # A directory cannot replace a file; exchanging them moves the whiteout to
            # where the moved file was, and that is often where one is needed.
            self._prepare(old.dir_fd)
            renameat2(*old, *new, RENAME_EXCHANGE)
            if not leave:
                os.unlink(old.name, dir_fd=old.dir_fd)
        elif leave:
            self._leave(old, new, directory=directory)
        else:
            renameat2(*old, *new)

    def _leave(self, old: Spot, new: Spot, *, directory: bool) -> None:
        """Move where no whiteout is, and leave one.

        A crash amid a file's move may leave it under both names; a directory that was to
        be replaced may be gone before the other one is in its place.
        """
        if not directory:
            draft = self._work.draft()
            os.link(
                old.name,
                draft,
                src_dir_fd=old.dir_fd,
                dst_dir_fd=self._work.fd,
                follow_symlinks=False,
            )
            renameat2(self._work.fd, draft, *new)
            self.replace(old, directory=False)
            return
        try:
            self.hide(new)
        except OSError as exc:
            if exc.errno not in (errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY):
                raise
            self.replace(new, directory=True)
        self._prepare(old.dir_fd)
        renameat2(*old, *new, RENAME_EXCHANGE)


class Devices(_Entries):
    """Character devices 0:0."""

    def hide(self, spot: Spot) -> None:
        _mknod(*spot)

    def _make(self, name: bytes) -> None:
        _mknod(self._work.fd, name)

    def _leave(self, old: Spot, new: Spot, *, directory: bool) -> None:
        try:
            renameat2(*old, *new, RENAME_WHITEOUT)
        except OSError as exc:
            if exc.errno != errno.EINVAL:
                raise
            # The file system does not know the flag: renameat2(2).
            super()._leave(old, new, directory=directory)


class Attributes(_Entries):
    """Empty files with an attribute."""

    def _make(self, name: bytes) -> None:
        _touch(self._work.fd, name)
        xattrs.put(fds.beneath(self._work.fd, name), self._mark, b"y")

    def try_out(self) -> None:
        draft = self._work.draft()
        try:
            self._make(draft)
            if xattrs.get(fds.beneath(self._work.fd, draft), self._mark) is None:
                # fuse-overlayfs takes those of other unions, and keeps them to itself.
                raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
        finally:
            files.unlink_if_there(self._work.fd, draft)

    @property
    def _mark(self) -> bytes:
        return self._format.prefix + b"whiteout"

    def _prepare(self, dir_fd: int) -> None:
        place = fds.itself(dir_fd) + b"/."
        if xattrs.get(place, self._format.opaque) is None:
            xattrs.put(place, self._format.opaque, b"x")


class Markers(Whiteouts):
    """``.wh.NAME``: hides NAME in lower layers, never a NAME of the same directory."""

    needs_empty = False

    def try_out(self) -> None:
        spot = Spot(self._work.fd, self._work.draft())
        self.hide(spot)
        self._show(spot)

    def hide(self, spot: Spot) -> None:
        _touch(spot.dir_fd, marker_of(spot.name))

    def opaque(self, place: xattrs.Place) -> None:
        path = fds.itself(place) if isinstance(place, int) else place
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _touch(fd, OPAQUE_MARKER)
        finally:
            os.close(fd)

    def replace(self, spot: Spot, *, directory: bool) -> None:
        self.hide(spot)
        if directory:
            self._take_away(spot)
        else:
            os.unlink(spot.name, dir_fd=spot.dir_fd)

    def cover(self, draft: bytes, spot: Spot, *, directory: bool) -> None:
        self._rename(Spot(self._work.fd, draft), spot)
        self._show(spot)

    def move(self, old: Spot, new: Spot, *, directory: bool, leave: bool, over: bool) -> None:
        if leave:
            self.hide(old)
        try:
            self._rename(old, new)
        except OSError as exc:
            if exc.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                if leave:
                    self._show(old)
                raise
            # An empty directory may hold markers.  A crash now loses just that directory,
            # and what it hid in lower layers stays hidden.
            self.hide(new)
            over = True
            self._take_away(new)
            renameat2(*old, *new)
        if over:
            self._show(new)

    @staticmethod
    def _rename(old: Spot, new: Spot) -> None:
        try:
            renameat2(*old, *new)
        except NotADirectoryError:
            # A directory over a whiteout of another kind, from a mount that made those.
            renameat2(*old, *new, RENAME_EXCHANGE)
            os.unlink(old.name, dir_fd=old.dir_fd)

    @staticmethod
    def _show(spot: Spot) -> None:
        with suppress(FileNotFoundError):  # another kind has gone by the rename
            os.unlink(marker_of(spot.name), dir_fd=spot.dir_fd)

    def _take_away(self, spot: Spot) -> None:
        draft = self._work.draft()
        renameat2(*spot, self._work.fd, draft)
        self._work.remove(draft, directory=True)


def fitting(work: Work, fmt: Format, wanted: WhiteoutKind) -> Whiteouts:
    """The *wanted* kind; of AUTO the first that the file system of *work* can do.

    Raises OSError when it cannot do what is wanted.
    """
    for name, kind in _KINDS.items():
        found = kind(work, fmt)
        if wanted not in (name, WhiteoutKind.AUTO):
            continue
        try:
            found.try_out()
        except OSError as exc:
            if name in (wanted, WhiteoutKind.MARKER) or exc.errno not in _CANNOT:
                raise
        else:
            return found
    raise AssertionError(wanted)


_KINDS: dict[WhiteoutKind, type[Whiteouts]] = {
    WhiteoutKind.DEVICE: Devices,
    WhiteoutKind.ATTRIBUTE: Attributes,
    WhiteoutKind.MARKER: Markers,
}
_CANNOT = {
    errno.EPERM,
    errno.EACCES,
    errno.ENOTSUP,
    errno.EINVAL,
    errno.ENOSYS,
    errno.ENODEV,
    errno.ENOENT,  # fuse-overlayfs says so of a device 0:0
}


def _mknod(dir_fd: int, name: bytes) -> None:
    # Unprivileged since Linux 5.8.
    os.mknod(name, stat.S_IFCHR, os.makedev(0, 0), dir_fd=dir_fd)


def _touch(dir_fd: int, name: bytes) -> None:
    flags = os.O_CREAT | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
    os.close(os.open(name, flags, 0o644, dir_fd=dir_fd))
