"""The work directory beside an upper directory: drafts, the index, locks, the volatile mark."""

import errno
import fcntl
import os
import shutil
import time
from pathlib import Path

from overlayfs.errors import MountFailed
from overlayfs.linux import files
from overlayfs.linux.boot import this_boot

# How long the daemon of a mount that is gone may take to let go.
_PATIENCE = 5.0
_BETWEEN = 0.02

_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class WorkDirectory:
    """*work*, opened, locked and emptied, for the upper directory that is open as *upper*.

    *drafts* and *index* are descriptors of directories in it, *device* the file system
    that it is on.
    """

    def __init__(self, work: Path, upper: int, named: Path, *, volatile: bool, force: bool) -> None:
        """Take *work* for *upper*, which messages call *named*.

        With *volatile* nothing that is written need survive a crash of the machine, which
        the directory notes down as the kernel's overlayfs does (overlayfs.rst, "Volatile
        mount").  A machine that crashed with such a note is told, unless *force*; in the
        boot in which it was made nothing is lost yet.

        Raises MountFailed when another mount has one of them.
        """
        self.volatile = volatile
        self._locks = [upper, os.open(work, _OPEN)]
        self.drafts = self.index = -1
        try:
            for fd, place in zip(self._locks, (named, work), strict=True):
                _lock(fd, place)
            inner = _folder(work / "work")
            _check(inner / "incompat", upper, force=force)
            _empty(inner)
            self.drafts = os.open(inner, _OPEN)
            self.index = os.open(_folder(work / "index"), _OPEN)
            if volatile:
                _mark(inner / "incompat")
        except BaseException:
            self.close()
            raise
        self.device = os.fstat(self.drafts).st_dev

    def unlock(self) -> None:
        """Let another mount have both directories; nothing is written after that."""
        for fd in self._locks:
            fcntl.flock(fd, fcntl.LOCK_UN)

    def close(self) -> None:
        """Give back what was opened here."""
        for fd in (self.drafts, self.index, self._locks[1]):
            if fd >= 0:
                os.close(fd)


def _lock(fd: int, place: Path) -> None:
    """Lock *fd*, waiting a little: umount(8) returns before the daemon has noticed."""
    last = time.monotonic() + _PATIENCE
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            if time.monotonic() > last:
                raise MountFailed(
                    f"{place}: in use by another mount",
                    hint="unmount that one, or choose another directory",
                ) from exc
            time.sleep(_BETWEEN)
        else:
            return


def _folder(path: Path) -> Path:
    path.mkdir(mode=0o700, exist_ok=True)
    return path


def _check(incompat: Path, upper: int, *, force: bool) -> None:
    """Refuse what a mount with another idea of the directories has left."""
    try:
        features = sorted(feature.name for feature in incompat.iterdir())
    except FileNotFoundError:
        return
    for feature in features:
        if force:
            continue
        if feature != "volatile":
            raise MountFailed(
                f"{incompat / feature}: the upper directory needs {feature!r}, which is not known"
            )
        if not _was_this_boot(incompat / feature):
            raise MountFailed(
                f"{incompat / feature}: mounted with volatile before the machine was restarted, "
                "so files may be lost",
                hint="if they are not, mount with -o force once",
            )
    # What was written without waiting for the disk: from now on somebody may rely on it.
    files.syncfs(upper)


def _was_this_boot(feature: Path) -> bool:
    try:
        return (feature / "dirty").read_bytes() == this_boot().encode()
    except (FileNotFoundError, NotADirectoryError):
        return False  # not our way of saying it


def _empty(inner: Path) -> None:
    for draft in inner.iterdir():
        if draft.is_dir() and not draft.is_symlink():
            shutil.rmtree(draft)
        else:
            draft.unlink()


def _mark(incompat: Path) -> None:
    """Note that nothing is synced; the note itself is."""
    mark = _folder(_folder(incompat) / "volatile") / "dirty"
    fd = os.open(mark, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, this_boot().encode())
        try:
            os.fsync(fd)
        except OSError as exc:
            if exc.errno not in (errno.EINVAL, errno.ENOSYS):  # a file system without a disk
                raise
    finally:
        os.close(fd)
