"""Making files in a layer directory, in either format.

The order is always: data, owner, extended attributes, mode, times.  A chown drops suid and
capabilities, an access list changes the mode, and everything changes times.
"""

import errno
import logging
import os
import secrets
import stat
from abc import ABC, abstractmethod
from pathlib import Path
from typing import NamedTuple

from overlayfs.errors import InvalidImage, OverlayError
from overlayfs.linux import fds, xattrs
from overlayfs.printable import printable
from overlayfs.union.attrs import Kind
from overlayfs.union.names import OVERRIDE_STAT, Format, encode_override

log = logging.getLogger(__name__)

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
# A host labels its own files; what it refuses of the image's labels is not needed.
_HOST_LABELS = (b"security.selinux", b"security.ima", b"security.evm")


class Inode(NamedTuple):
    """What a tar says of a file beside its name and its data; *mode* without type bits."""

    kind: Kind
    mode: int
    uid: int
    gid: int
    atime_ns: int
    mtime_ns: int
    xattrs: dict[bytes, bytes] = {}  # noqa: RUF012  (never changed, and a NamedTuple)
    rdev: tuple[int, int] = (0, 0)


# A directory that no layer describes: what the tar's silence means.
IMPLIED = Inode(Kind.DIRECTORY, 0o755, 0, 0, 0, 0)


class Inodes(ABC):
    """One format's way of making files; directories are given by descriptor."""

    format: Format

    @staticmethod
    def of(fmt: Format, beside: Path) -> "Inodes":
        """The way of *fmt*; *beside* is the directory in which the layer directory lies.

        Layers are unpacked in two formats only, KERNEL and USER.
        """
        return KernelInodes(beside) if fmt is Format.KERNEL else UserInodes()

    @abstractmethod
    def create(self, at: int, name: bytes, inode: Inode) -> int:
        """An empty regular file, open for writing; ``dress`` it when its data is there."""

    @abstractmethod
    def dress(self, fd: int, inode: Inode) -> None:
        """Give the open file or directory everything but data."""

    @abstractmethod
    def special(self, at: int, name: bytes, inode: Inode, target: bytes) -> None:
        """Anything but a regular file and a directory, complete; *target* is a symlink's."""

    def directory(self, at: int, name: bytes) -> None:
        """An empty directory, ours alone as long as the layer is being made."""
        os.mkdir(name, 0o700, dir_fd=at)

    def whiteout(self, at: int, name: bytes) -> None:
        """Hide *name* of the layers below."""
        try:
            # Unprivileged since Linux 5.8.
            os.mknod(name, stat.S_IFCHR | 0o600, os.makedev(0, 0), dir_fd=at)
        except PermissionError as exc:
            raise OverlayError(
                "this file system or kernel does not let you make whiteouts (mknod c 0 0)",
                hint="Linux 5.8 or newer is needed, and a store that is not mounted nodev",
            ) from exc

    def opaque(self, fd: int) -> None:
        """Let the open directory hide what is below it."""
        self._put(fd, self.format.opaque, b"y")

    @abstractmethod
    def target(self, at: int, name: bytes) -> bytes | None:
        """The target of the symbolic link *name*; None when it is something else."""

    def _attributes(self, place: xattrs.Place, inode: Inode) -> None:
        for name, value in inode.xattrs.items():
            if name.startswith(b"user.") and inode.kind not in (Kind.FILE, Kind.DIRECTORY):
                # xattr(7): there is no such thing, so no image can rely on it.
                log.debug("attribute %r of a %s left out", name, inode.kind)
                continue
            try:
                self._put(place, self.format.to_disk(name), value)
            except OSError as exc:
                if name in _HOST_LABELS and exc.errno != errno.ENOSPC:
                    log.debug("attribute %r left out: %s", name, exc)
                    continue
                raise _refused(place, name, value, exc) from exc

    @staticmethod
    def _put(place: xattrs.Place, name: bytes, value: bytes) -> None:
        os.setxattr(place, name, value, follow_symlinks=isinstance(place, int))


class KernelInodes(Inodes):
    """Real owners, modes and devices: what the kernel's overlayfs reads."""

    format = Format.KERNEL

    def __init__(self, beside: Path) -> None:
        """Find out what a new file in the directory *beside* gets by itself.

        Only the rest is set, which saves two calls for most files.
        """
        probe = beside / f".{secrets.token_hex(8)}"
        fd = os.open(probe, _CREATE, 0o777)
        try:
            st = os.fstat(fd)
        finally:
            os.close(fd)
            probe.unlink()
        self._ids = (st.st_uid, st.st_gid)
        # The umask, and with default access lists above the store more than that.
        self._withheld = 0o7777 & ~st.st_mode

    def create(self, at: int, name: bytes, inode: Inode) -> int:
        return os.open(name, _CREATE, inode.mode & 0o777, dir_fd=at)

    def dress(self, fd: int, inode: Inode) -> None:
        own = inode.uid == self._ids[0] and inode.gid == self._ids[1]
        if not own:
            os.fchown(fd, inode.uid, inode.gid)
        if inode.xattrs:
            self._attributes(fd, inode)
        if (
            inode.mode & self._withheld
            or inode.kind is Kind.DIRECTORY
            or inode.xattrs
            # chown(2) of a file that may be executed may change its mode.
            or (not own and inode.mode & 0o111)
        ):
            os.fchmod(fd, inode.mode)
        os.utime(fd, ns=(inode.atime_ns, inode.mtime_ns))

    def special(self, at: int, name: bytes, inode: Inode, target: bytes) -> None:
        if inode.kind is Kind.SYMLINK:
            os.symlink(target, name, dir_fd=at)
        else:
            os.mknod(name, inode.kind.ifmt | 0o600, os.makedev(*inode.rdev), dir_fd=at)
        if (inode.uid, inode.gid) != self._ids:
            os.chown(name, inode.uid, inode.gid, dir_fd=at, follow_symlinks=False)
        if inode.xattrs:
            self._attributes(fds.beneath(at, name), inode)
        if inode.kind is not Kind.SYMLINK:
            os.chmod(name, inode.mode, dir_fd=at)
        times = (inode.atime_ns, inode.mtime_ns)
        os.utime(name, ns=times, dir_fd=at, follow_symlinks=False)

    def target(self, at: int, name: bytes) -> bytes | None:
        try:
            return os.readlink(name, dir_fd=at)
        except OSError as exc:
            if exc.errno == errno.EINVAL:
                return None
            raise


class UserInodes(Inodes):
    """Plain files of our own; owner, mode and type in an attribute (containers/storage)."""

    format = Format.USER

    def create(self, at: int, name: bytes, inode: Inode) -> int:
        return os.open(name, _CREATE, 0o600, dir_fd=at)

    def dress(self, fd: int, inode: Inode) -> None:
        override = encode_override(inode.kind, inode.mode, inode.uid, inode.gid, inode.rdev)
        try:
            self._put(fd, OVERRIDE_STAT, override)
        except OSError as exc:
            raise _refused(fd, OVERRIDE_STAT, override, exc) from exc
        if inode.xattrs:
            self._attributes(fd, inode)
        os.utime(fd, ns=(inode.atime_ns, inode.mtime_ns))

    def special(self, at: int, name: bytes, inode: Inode, target: bytes) -> None:
        if inode.kind is Kind.SYMLINK and not (inode.uid or inode.gid or inode.xattrs):
            os.symlink(target, name, dir_fd=at)
            times = (inode.atime_ns, inode.mtime_ns)
            os.utime(name, ns=times, dir_fd=at, follow_symlinks=False)
            return
        fd = self.create(at, name, inode)
        try:
            os.write(fd, target)
            self.dress(fd, inode)
        finally:
            os.close(fd)

    def target(self, at: int, name: bytes) -> bytes | None:
        try:
            return os.readlink(name, dir_fd=at)
        except OSError as exc:
            if exc.errno != errno.EINVAL:
                raise
        override = xattrs.get(fds.beneath(at, name), OVERRIDE_STAT)
        if override is None or not override.endswith(b":symlink"):
            return None
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at)
        try:
            return os.read(fd, 1 << 16)
        finally:
            os.close(fd)


def _refused(
    place: xattrs.Place, name: bytes, value: bytes, exc: OSError
) -> OverlayError | OSError:
    what = f"extended attribute {printable(name, 100)} of {len(value)} bytes"
    if exc.errno == errno.ENOSPC and os.statvfs(place).f_bavail:
        # ext4 has a block for all attributes of a file, and says so in this way.
        return OverlayError(
            f"{what}: more than the store's file system keeps for one file",
            hint="choose a store on xfs or btrfs with --root",
        )
    if exc.errno in (errno.EINVAL, errno.ERANGE, errno.E2BIG):
        return InvalidImage(f"{what}: {exc.strerror}")
    if exc.errno == errno.ENOTSUP:
        return OverlayError(
            f"{what}: the store's file system does not keep it",
            hint="choose a store on ext4, xfs or btrfs with --root",
        )
    if exc.errno in (errno.EPERM, errno.EACCES):
        return OverlayError(f"{what}: not permitted")
    return exc
