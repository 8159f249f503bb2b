"""Files and directories that appear when all of them is there, or not at all."""

import errno
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from overlayfs.errors import OverlayError
from overlayfs.linux.sync import sync_dir
from overlayfs.printable import printable

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
# open(2), "O_TMPFILE": how file systems and old kernels say that they do not know it.
_NO_NAMELESS = (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT, errno.EINVAL)
# What a directory is assembled in, within one that was there.
_DRAFT = ".pyoverlay-draft."


class FileSink:
    """Writes to the descriptor *fd*; *label* says in messages where that leads."""

    def __init__(self, fd: int, label: str) -> None:
        self.fd = fd
        self._label = label

    def write(self, data: bytes) -> None:
        """Write all of *data*.

        Raises OverlayError when it cannot be kept, BrokenPipeError when nobody reads any more.
        """
        left = memoryview(data)
        try:
            while left:
                left = left[os.write(self.fd, left) :]
        except BrokenPipeError:
            raise
        except OSError as exc:
            raise refused(self._label, exc) from exc


def refused(label: str, exc: OSError) -> OverlayError:
    """What to tell the user when *exc* stopped the writing of *label*."""
    hint = "make room there, or write to another place" if exc.errno in _NO_ROOM else ""
    return OverlayError(f"{label}: {exc.strerror}", hint=hint)


@contextmanager
def published(target: Path) -> Iterator[FileSink]:
    """A file that appears at *target* complete, in place and with the mode of what was there.

    Until then it has no name, so that nothing is left even when this process is killed; where
    a file system knows no such files it has a hidden one in the same directory.  What is no
    regular file (a pipe, a device) is written as it is.  Raises OverlayError.
    """
    label = printable(str(target))
    try:
        found = target.stat()
    except FileNotFoundError:
        found = None
    except OSError as exc:
        raise refused(label, exc) from exc
    if found is not None and stat.S_ISDIR(found.st_mode):
        raise OverlayError(f"{label}: is a directory", hint="name a file in it")
    if found is not None and not stat.S_ISREG(found.st_mode):
        fd = _open(target, 0, label)
        try:
            yield FileSink(fd, label)
        finally:
            os.close(fd)
        return
    # A symbolic link stays, and what it leads to is replaced.
    final = Path(os.path.realpath(target))
    draft = final.with_name(_hidden(final))
    nameless = _nameless(final.parent, label)
    fd = _open(draft, os.O_CREAT | os.O_EXCL, label) if nameless is None else nameless
    try:
        yield FileSink(fd, label)
        try:
            if found is not None:
                os.fchmod(fd, stat.S_IMODE(found.st_mode))
            os.fsync(fd)
            if nameless is not None:
                # open(2) gives this as the way to name such a file.
                os.link(f"/proc/self/fd/{fd}", draft, src_dir_fd=fd)
            draft.rename(final)
            sync_dir(final.parent)
        except OSError as exc:
            raise refused(label, exc) from exc
    finally:
        os.close(fd)
        draft.unlink(missing_ok=True)


@contextmanager
def assembled(target: Path, last: str) -> Iterator[Path]:
    """A directory that appears at *target* with all that was put into it.

    At *target* may be nothing, or a directory that ``is_free``: that stays, and what it gets
    appears in it at the end, the file *last* after all else.  Until then everything lies in a
    hidden directory, which goes when something fails.  Raises OverlayError.
    """
    label = printable(str(target))
    final = Path(os.path.realpath(target))
    is_there = final.is_dir()
    name = f"{_DRAFT}{secrets.token_hex(6)}"
    draft = final / name if is_there else final.with_name(_hidden(final))
    try:
        draft.mkdir()
    except OSError as exc:
        raise refused(label, exc) from exc
    try:
        yield draft
        try:
            if is_there:
                for path in sorted(draft.iterdir(), key=lambda path: path.name == last):
                    path.rename(final / path.name)
                sync_dir(final)
            else:
                sync_dir(draft)
                draft.rename(final)
                sync_dir(final.parent)
        except OSError as exc:
            raise refused(label, exc) from exc
    finally:
        if draft.exists():
            shutil.rmtree(draft)


def is_free(folder: Path) -> bool:
    """Whether *folder* is not there, or empty, but for what a killed process left of this.

    Raises OverlayError when it is no directory.
    """
    try:
        return all(path.name.startswith(_DRAFT) for path in folder.iterdir())
    except FileNotFoundError:
        return True
    except OSError as exc:
        raise refused(printable(str(folder)), exc) from exc


def _hidden(final: Path) -> str:
    # A name may be as long as the file system allows: no room for more of it then.
    return f".{os.fsdecode(os.fsencode(final.name)[:200])}.{secrets.token_hex(6)}"


def _nameless(folder: Path, label: str) -> int | None:
    """A new file in *folder* without a name; None where there is no such thing."""
    if not Path("/proc/self/fd").exists():
        return None  # it could not be named in the end
    try:
        return os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o666)
    except OSError as exc:
        if exc.errno in _NO_NAMELESS and folder.is_dir():
            return None
        raise refused(label, exc) from exc


def _open(path: Path, flags: int, label: str) -> int:
    try:
        return os.open(path, os.O_WRONLY | os.O_CLOEXEC | flags, 0o666)
    except OSError as exc:
        raise refused(label, exc) from exc
