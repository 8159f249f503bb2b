"""The upper layer: a directory that takes the changes, and a work directory beside it.

What is not one system call is drafted in the work directory and renamed, so that the
upper directory is a legal tree at every moment; the work directory is emptied when it is
opened.  Both are in the layer format, which for root is the kernel's own
(Documentation/filesystems/overlayfs.rst): the kernel can mount the result.
"""

import errno
import logging
import os
import shutil
import stat
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from overlayfs.errors import MountFailed
from overlayfs.layers.index import Index
from overlayfs.layers.kernelindex import KernelIndex
from overlayfs.layers.lower import Layer
from overlayfs.layers.whiteouts import Markers, Spot, Work, fitting
from overlayfs.layers.workdir import WorkDirectory
from overlayfs.linux import fds, files, xattrs
from overlayfs.union import acl
from overlayfs.union.attrs import Attrs, Kind
from overlayfs.union.merge import Listing
from overlayfs.union.names import (
    OPAQUE_MARKER,
    WHITEOUT_PREFIX,
    Format,
    encode_override,
    whiteout_target,
)
from overlayfs.union.origins import NUMBER
from overlayfs.union.policy import PLAIN, Policy
from overlayfs.union.redirects import Redirects

log = logging.getLogger(__name__)

_CAPABILITY = b"security.capability"
_CREATE = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC


class Birth(NamedTuple):
    """What a new file is to be; *mode* without type bits, *xattrs* by guest name."""

    kind: Kind
    mode: int
    uid: int
    gid: int
    rdev: int = 0
    target: bytes = b""
    xattrs: dict[bytes, bytes] = {}  # noqa: RUF012  (never changed, and a NamedTuple)


class Upper(Layer):
    """A layer that can be written; its methods take descriptors of its directories."""

    def __init__(
        self,
        path: Path,
        work: Path,
        fmt: Format,
        number: int,
        *,
        markers: bool = False,
        policy: Policy = PLAIN,
    ) -> None:
        """Open and lock *path* and *work*, and empty the work directory.

        Markers of a tar that others left (*markers*, see ``Layer``) become whiteouts of
        ours when their directory is first read.

        Raises MountFailed when another mount has one of them, or when they are on
        different file systems, and what ``WorkDirectory`` refuses.
        """
        follows = policy.redirects is not Redirects.IGNORE
        super().__init__(path, fmt, number, markers=markers, follows=follows)
        try:
            self._workdir = WorkDirectory(
                work, self.root, path, volatile=policy.volatile, force=policy.force
            )
        except BaseException:
            super().close()
            raise
        self.policy = policy
        self.work = self._workdir.drafts
        if self._workdir.device != self.device:
            raise MountFailed(f"{work}: not on the file system of the upper directory {path}")
        bare(self.work)
        self.index = Index(self._workdir.index)
        self.kernel_index: KernelIndex | None = None
        self._drafts = Work(self.work)
        try:
            self.whiteouts = fitting(self._drafts, fmt, policy.whiteouts)
        except OSError as exc:
            reason = f"no {policy.whiteouts} whiteouts on its file system: {exc.strerror}"
            raise MountFailed(f"{path}: {reason}") from exc
        self.markers = markers or isinstance(self.whiteouts, Markers)
        self._ids = (os.geteuid(), os.getegid())
        attributes = not isinstance(self.whiteouts, Markers)
        # Whether directories with lower parts can be renamed, and whether changes of
        # attributes leave data where it is.
        self.redirects = policy.redirects is Redirects.MAKE and attributes
        self.leaves_data = policy.metacopy and attributes
        # Attributes of the file itself can say whose a symbolic link is.
        self._has_symlinks = fmt is not Format.USER
        self._origin = fmt.prefix + NUMBER
        # Whether new files get extended attributes by themselves, as of SELinux.
        self.labels_files = any(name.startswith(b"security.") for name in xattrs.names(self.work))

    def keep_index(self, layers: Sequence[Layer]) -> None:
        """Leave names of copies to the *layers* beneath, if the policy or an index says so.

        That takes the kernel's format, and no entries of an index of ours.  Raises MountFailed
        when the policy wants an index and the one that is there does not fit.
        """
        wanted = self.policy.index
        if not (wanted or self.index.foreign) or self.index:
            return
        if self.format is not Format.KERNEL or self.markers:
            return
        try:
            self.kernel_index = KernelIndex.begin(self.index.fd, self, layers)
        except MountFailed as exc:
            if wanted:
                raise
            log.warning("%s; it goes on without", exc)

    def close(self) -> None:
        """Let the next mount begin, then bring everything to the disk, unless volatile."""
        self._workdir.unlock()
        if not self._workdir.volatile:
            files.syncfs(self.root)
        self._workdir.close()
        super().close()

    # -- new files ---------------------------------------------------------------------

    def draft(self) -> bytes:
        """A name that is free in the work directory."""
        return self._drafts.draft()

    def create(self, dir_fd: int, name: bytes, birth: Birth) -> int:
        """Create *name*, which is free, as *birth* says, in one step; see ``make``."""
        one_call = (
            not self._overrides
            and (birth.uid, birth.gid) == self._ids
            and not birth.xattrs
            and not birth.mode & 0o7000
        )
        if one_call:
            return self.make(dir_fd, name, birth)
        draft = self.draft()
        fd = self.make(self.work, draft, birth)
        try:
            files.renameat2(self.work, draft, dir_fd, name, files.RENAME_NOREPLACE)
        except OSError:
            if fd >= 0:
                os.close(fd)
            self.discard(self.work, draft, directory=birth.kind is Kind.DIRECTORY)
            raise
        return fd

    def make(self, dir_fd: int, name: bytes, birth: Birth) -> int:
        """Create *name* as *birth* says, in the work directory for all but the simplest.

        Gives a descriptor for reading and writing a new file, -1 for other kinds.  Raises
        OSError, and leaves nothing then.
        """
        fd = self._body(dir_fd, name, birth)
        place: xattrs.Place = fd if fd >= 0 else fds.beneath(dir_fd, name)
        try:
            self.dress(place, birth, created=True)
        except OSError:
            if fd >= 0:
                os.close(fd)
            self.discard(dir_fd, name, directory=birth.kind is Kind.DIRECTORY)
            raise
        return fd

    def _body(self, dir_fd: int, name: bytes, birth: Birth) -> int:
        """The bare file; what a plain user cannot make is a regular placeholder."""
        kind = birth.kind
        free = not self._overrides
        if kind is Kind.FILE:
            return os.open(name, _CREATE, birth.mode & 0o777 if free else 0o600, dir_fd=dir_fd)
        if kind is Kind.DIRECTORY:
            os.mkdir(name, birth.mode & 0o1777 if free else 0o700, dir_fd=dir_fd)
        elif kind is Kind.SYMLINK and (self._has_symlinks or not (birth.uid or birth.gid)):
            os.symlink(birth.target, name, dir_fd=dir_fd)
        elif free:
            os.mknod(name, kind.ifmt | birth.mode & 0o777, birth.rdev, dir_fd=dir_fd)
        else:
            fd = os.open(name, _CREATE, 0o600, dir_fd=dir_fd)
            try:
                os.write(fd, birth.target)
            finally:
                os.close(fd)
        return -1

    def dress(self, place: xattrs.Place, birth: Birth, *, created: bool = False) -> None:
        """Give the file at *place* owner, attributes and mode, in this order.

        A chown(2) drops suid bits and capabilities, so it comes first.  *created* says
        that the file was made with the permission bits of *birth*.
        """
        kind, mode = birth.kind, birth.mode & 0o7777
        if not self._overrides:
            given = (birth.uid, birth.gid) != self._ids
            if given:
                os.chown(place, birth.uid, birth.gid, follow_symlinks=isinstance(place, int))
            self._put_xattrs(place, birth.xattrs)
            if kind is not Kind.SYMLINK and (not created or given or mode & 0o7000):
                self._chmod(place, mode)
            return
        self._put_xattrs(place, birth.xattrs)
        if kind is not Kind.SYMLINK or birth.uid or birth.gid:
            self._put_override(place, kind, mode, birth.uid, birth.gid, birth.rdev)

    def _put_override(
        self, place: xattrs.Place, kind: Kind, mode: int, uid: int, gid: int, rdev: int
    ) -> None:
        numbers = (os.major(rdev), os.minor(rdev))
        xattrs.put(place, self._overrides[0], encode_override(kind, mode, uid, gid, numbers))

    def _put_xattrs(self, place: xattrs.Place, guest: dict[bytes, bytes]) -> None:
        for name, value in guest.items():
            try:
                xattrs.put(place, self.format.to_disk(name), value)
            except OSError as exc:
                # What this process or file system may not keep of security labels is not
                # worth failing for; running out of space is.
                if exc.errno not in (errno.EPERM, errno.ENOTSUP, errno.EOVERFLOW) or (
                    not name.startswith((b"security.", b"trusted."))
                ):
                    raise

    # -- names -------------------------------------------------------------------------

    def take_away(self, dir_fd: int, name: bytes) -> None:
        """Remove the directory *name*, whiteouts in it included, in one step."""
        try:
            os.rmdir(name, dir_fd=dir_fd)
        except OSError as exc:
            if exc.errno != errno.ENOTEMPTY:
                raise
            draft = self.draft()
            files.renameat2(dir_fd, name, self.work, draft)
            self.discard(self.work, draft, directory=True)

    def discard(self, dir_fd: int, name: bytes, *, directory: bool) -> None:
        """Remove *name* and whatever it holds."""
        if directory:
            shutil.rmtree(name, dir_fd=dir_fd)
        else:
            os.unlink(name, dir_fd=dir_fd)

    def publish(self, draft: bytes, dir_fd: int, name: bytes) -> None:
        """Give the draft of a copy its name; the directory's times stay as they are."""
        before = os.fstat(dir_fd)
        files.renameat2(self.work, draft, dir_fd, name)
        os.utime(dir_fd, ns=(before.st_atime_ns, before.st_mtime_ns))

    def make_opaque(self, place: xattrs.Place) -> None:
        """Let the directory at *place* hide what is below it."""
        self.whiteouts.opaque(place)

    def is_legal(self, name: bytes) -> bool:
        """Whether *name* means itself here, and not that something is hidden."""
        return not (self.markers and name.startswith(WHITEOUT_PREFIX))

    def scan(self, dir_fd: int) -> Listing:
        if self.markers and not isinstance(self.whiteouts, Markers):
            names = map(os.fsencode, os.listdir(dir_fd))
            marks = [name for name in names if name.startswith(WHITEOUT_PREFIX)]
            if marks:
                before = os.fstat(dir_fd)
                self._adopt_markers(dir_fd, marks)
                os.utime(dir_fd, ns=(before.st_atime_ns, before.st_mtime_ns))
        return super().scan(dir_fd)

    def _adopt_markers(self, dir_fd: int, marks: Collection[bytes]) -> None:
        """Say in our own way what *marks* in the directory say.

        fuse-overlayfs leaves them; a crash on the way leaves some of both.
        """
        here = fds.itself(dir_fd) + b"/."
        if OPAQUE_MARKER in marks:
            self.make_opaque(here)
        opaque = self._opacity(here) == b"y"
        for mark in marks:
            hidden = whiteout_target(mark)
            if hidden and not hidden.startswith(WHITEOUT_PREFIX):
                self._adopt_marker(Spot(dir_fd, hidden), needed=not opaque)
            # A directory was somebody's: it stays, out of sight.
            if not stat.S_ISDIR(os.stat(mark, dir_fd=dir_fd, follow_symlinks=False).st_mode):
                os.unlink(mark, dir_fd=dir_fd)

    def _adopt_marker(self, hidden: Spot, *, needed: bool) -> None:
        """Hide the name *hidden*, unless the layer has it, or it is not *needed*."""
        try:
            st = os.stat(hidden.name, dir_fd=hidden.dir_fd, follow_symlinks=False)
        except FileNotFoundError:
            if needed:
                self.whiteouts.hide(hidden)
        else:
            if stat.S_ISDIR(st.st_mode):
                self.make_opaque(fds.beneath(*hidden))

    # -- identity ----------------------------------------------------------------------

    def origin(self, dir_fd: int, name: bytes) -> int | None:
        """The inode number that *name* had before it was copied up, if it was."""
        value = xattrs.get(fds.beneath(dir_fd, name), self._origin)
        return int(value) if value and value.isdigit() else None

    def set_origin(self, place: xattrs.Place, ino: int) -> None:
        """Remember the inode number of a copy across mounts.

        Where symbolic links and devices can carry no attribute (the user format), their
        number changes with the next mount.
        """
        try:
            xattrs.put(place, self._origin, b"%d" % ino)
        except OSError as exc:
            if exc.errno not in (errno.EPERM, errno.ENOTSUP):
                raise

    # -- lower parts that are elsewhere ------------------------------------------------

    def set_redirect(self, place: xattrs.Place, value: bytes) -> None:
        """Let the file at *place* say that its lower parts are at *value*.

        OSError EXDEV when it cannot, as there is no room for it.
        """
        try:
            xattrs.put(place, self.format.prefix + b"redirect", value)
        except OSError as exc:
            if exc.errno not in (errno.ENOSPC, errno.E2BIG, errno.ERANGE):
                raise
            # ext4 says ENOSPC of one block that is full; who is told EXDEV copies.
            raise OSError(errno.EXDEV, "no room for a redirect", value) from exc

    def set_metacopy(self, fd: int) -> None:
        """Note that the data of the new file *fd* is in a lower layer."""
        xattrs.put(fd, self.format.prefix + b"metacopy", b"")

    def end_metacopy(self, fd: int) -> None:
        """Note that the file *fd* has its data: from now on it counts.

        Raises OSError only where it does not count yet.
        """
        xattrs.remove(fd, self.format.prefix + b"metacopy")
        # A path without the mark means nothing, so it may stay if it must.
        with suppress(OSError):
            xattrs.remove(fd, self.format.prefix + b"redirect")

    # -- changes -----------------------------------------------------------------------

    def chown(self, place: xattrs.Place, attrs: Attrs, uid: int, gid: int) -> None:
        """Give the file at *place*, which has *attrs*, to *uid* and *gid*."""
        if not self._overrides:
            os.chown(place, uid, gid, follow_symlinks=isinstance(place, int))
            return
        kind = Kind.of(attrs.mode)
        if kind is Kind.SYMLINK and self.format is Format.USER and self.is_real_symlink(place):
            if uid or gid:
                raise OSError(errno.EOPNOTSUPP, "a real symbolic link is root's")
            return
        self._put_override(place, kind, stat.S_IMODE(attrs.mode), uid, gid, attrs.rdev)

    def is_real_symlink(self, place: xattrs.Place) -> bool:
        """Whether the symbolic link at *place* is one on disk, too.

        In the user format it can then be nobody's but root's: another owner needs a
        placeholder.
        """
        return isinstance(place, bytes) and stat.S_ISLNK(os.lstat(place).st_mode)

    def chmod(self, place: xattrs.Place, attrs: Attrs, mode: int) -> None:
        """Set the permission bits of the file at *place*, which has *attrs*."""
        if not self._overrides:
            self._chmod(place, mode & 0o7777)
            return
        listed = xattrs.get(place, self.format.to_disk(acl.ACCESS))
        if listed is not None:
            changed = acl.with_permissions(listed, mode)
            xattrs.put(place, self.format.to_disk(acl.ACCESS), changed)
        self._put_override(place, Kind.of(attrs.mode), mode, attrs.uid, attrs.gid, attrs.rdev)

    def _chmod(self, place: xattrs.Place, mode: int) -> None:
        if isinstance(place, int):
            os.fchmod(place, mode)
            return
        # fchmodat(2) follows a last symbolic link; what O_NOFOLLOW opened is no link.
        fd = os.open(place, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            os.chmod(fds.itself(fd), mode)  # noqa: PTH101  (bytes)
        finally:
            os.close(fd)

    def utime(self, place: xattrs.Place, atime_ns: int, mtime_ns: int) -> None:
        """Set both times, in ns since the epoch."""
        os.utime(place, ns=(atime_ns, mtime_ns), follow_symlinks=isinstance(place, int))

    def truncate(self, place: xattrs.Place, size: int) -> None:
        """Cut or lengthen the file at *place* to *size* bytes."""
        fd = self.open_rw_at(place)
        try:
            os.ftruncate(fd, size)
        finally:
            os.close(fd)

    def set_xattr(self, place: xattrs.Place, attrs: Attrs, name: bytes, value: bytes) -> None:
        """Set the guest's attribute *name*; an access list sets the mode too."""
        disk = self.format.to_disk(name)
        if self._overrides and name == acl.ACCESS:
            try:
                mode = stat.S_IMODE(attrs.mode) & ~0o777 | acl.permissions(value)
                plain = acl.is_plain(value)
            except ValueError as exc:
                raise OSError(errno.EINVAL, str(exc)) from exc
            if not plain:
                xattrs.put(place, disk, value)
            elif xattrs.get(place, disk) is not None:
                xattrs.remove(place, disk)
            self._put_override(place, Kind.of(attrs.mode), mode, attrs.uid, attrs.gid, attrs.rdev)
            return
        xattrs.put(place, disk, value)

    def remove_xattr(self, place: xattrs.Place, name: bytes) -> None:
        """Remove the guest's attribute *name*; OSError ENODATA when it is not there."""
        xattrs.remove(place, self.format.to_disk(name))

    def open_rw_at(self, place: xattrs.Place) -> int:
        """Like ``open_rw``, for a file that may have no name any more."""
        if isinstance(place, int):
            return os.open(fds.itself(place), os.O_RDWR | os.O_CLOEXEC)
        return os.open(place, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)

    def labels(self, place: xattrs.Place) -> bytes | None:
        """The capabilities of the file at *place*, as they are on the disk."""
        return xattrs.get(place, self.format.to_disk(_CAPABILITY))

    def relabel(self, fd: int, attrs: Attrs, labels: bytes | None) -> None:
        """Give back what writing took from the file *fd*: suid bits, capabilities."""
        if not self._overrides and attrs.mode & 0o6000:
            self._chmod(fd, attrs.mode & 0o7777)
        if labels is not None:
            xattrs.put(fd, self.format.to_disk(_CAPABILITY), labels)

    def open_rw(self, dir_fd: int, name: bytes) -> int:
        """A descriptor for reading and writing the body of *name*."""
        return os.open(name, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dir_fd)


def bare(fd: int) -> None:
    """Let a directory hand nothing to what is made in it: no group, no access list."""
    for name in (acl.DEFAULT, acl.ACCESS):
        if xattrs.get(fd, name) is not None:
            xattrs.remove(fd, name)
    os.chown(fd, os.geteuid(), os.getegid())
    Path(f"/proc/self/fd/{fd}").chmod(0o700)
