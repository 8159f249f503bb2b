"""A part of an image as files of this machine."""

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from typing import BinaryIO

from overlayfs.errors import OverlayError
from overlayfs.linux import fds, files, xattrs
from overlayfs.printable import printable
from overlayfs.union.attrs import Kind
from overlayfs.view.bodies import Unfolded
from overlayfs.view.entry import Entry
from overlayfs.view.image import ImageView

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_PIECE = 1 << 18
# What the kernel's overlayfs, and mount programs, would obey if a layer lay here.
_OBEYED = (b"trusted.overlay.", b"user.overlay.", b"user.containers.", b"user.fuseoverlayfs.")
# A host labels its own files.
_LABELS = (b"security.selinux", b"security.ima", b"security.evm")


@dataclass(frozen=True, slots=True)
class Kept:
    """What of a file is kept: its *owner* (with it suid bits, *devices* and other attributes
    than ``user.*``, which are nothing to give to who may not have the owner)."""

    owner: bool
    xattrs: bool = True


@dataclass(slots=True)
class Extracted:
    """What came of it; *left_out* says of what could not be made why, with how many there were."""

    files: int = 0
    size: int = 0
    left_out: dict[str, int] = field(default_factory=dict)

    def leave_out(self, why: str) -> None:
        """One more that is not there."""
        self.left_out[why] = self.left_out.get(why, 0) + 1


@contextmanager
def destination(path: Path) -> Iterator[int]:
    """A descriptor of the directory *path*, for ``extract``; OverlayError where there is none."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as exc:
        raise OverlayError(f"{printable(str(path))}: {exc.strerror}") from exc
    try:
        yield fd
    finally:
        os.close(fd)


def extract(
    view: ImageView,
    top: bytes,
    into: int,
    name: bytes,
    kept: Kept,
    *,
    progress: Callable[[int], None] = lambda n: None,
) -> Extracted:
    """Make *top*, and all beneath, *name* in the open directory *into*.

    ``b"."`` for the name means what is in the directory *top*, and its attributes.  Nothing
    that is there is followed if it is a symbolic link: such a one is replaced, as any file is;
    a directory stays and is added to.  Hard links are kept among the files that are made, and
    holes as far as they can be seen.

    Raises OverlayError, beginning with the path in the image, for what cannot be made; what
    was made until then stays.
    """
    work = _Work(view, into, kept, progress)
    real = view.resolve(top, follow=False)
    for path, entry in view.walk(real, follow=False):
        beneath = path[len(real) :].lstrip(b"/")
        place = b"/".join(part for part in (name, beneath) if part not in (b"", b"."))
        try:
            work.make(path, place, entry)
        except OSError as exc:
            raise _failure(path, exc) from exc
    work.finish()
    return work.done


def _failure(path: bytes, exc: OSError) -> OverlayError:
    hint = ""
    if exc.errno in (errno.ENOSPC, errno.EDQUOT):
        hint = "make room, or choose another place"
    return OverlayError(f"/{printable(path, 300)}: cannot be made: {exc.strerror}", hint=hint)


class _Work:
    def __init__(
        self, view: ImageView, into: int, kept: Kept, progress: Callable[[int], None]
    ) -> None:
        self._view = view
        self._into = into
        self._kept = kept
        self._progress = progress
        self._names: dict[tuple[int, int], bytes] = {}
        self._directories: list[tuple[bytes, bytes, Entry]] = []
        self.done = Extracted()

    def make(self, path: bytes, place: bytes, entry: Entry) -> None:
        """Make the file *path* of the image at *place*, whose directory is there."""
        parent, _, name = place.rpartition(b"/")
        with self._directory(parent) as at:
            if entry.is_dir:
                self._make_directory(at, name)
                # Their modes may forbid what is yet to be made in them, which changes their times.
                self._directories.append((path, place, entry))
            elif not self._is_linked(at, name, place, entry) and self._make_file(
                at, name, path, entry
            ):
                self._names.setdefault((entry.layer, entry.file), place)
        self.done.files += 1

    @contextmanager
    def _directory(self, path: bytes) -> Iterator[int]:
        fd = fds.open_beneath(self._into, path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            yield fd
        finally:
            os.close(fd)

    def _make_directory(self, at: int, name: bytes) -> None:
        if not name:
            return
        try:
            os.mkdir(name, 0o700, dir_fd=at)
        except FileExistsError:
            found = os.stat(name, dir_fd=at, follow_symlinks=False)
            if not stat.S_ISDIR(found.st_mode):
                os.unlink(name, dir_fd=at)
                os.mkdir(name, 0o700, dir_fd=at)

    def _is_linked(self, at: int, name: bytes, place: bytes, entry: Entry) -> bool:
        """Whether the file was there under another name, and has this one too now."""
        known = self._names.get((entry.layer, entry.file)) if entry.nlink > 1 else None
        if known is None:
            return False
        folder, _, first = known.rpartition(b"/")
        _make_room(at, name)
        with self._directory(folder) as source:
            os.link(first, name, src_dir_fd=source, dst_dir_fd=at, follow_symlinks=False)
        return True

    def _make_file(self, at: int, name: bytes, path: bytes, entry: Entry) -> bool:
        """Make it; whether it was not left out."""
        _make_room(at, name)
        match entry.kind:
            case Kind.FILE:
                fd = os.open(name, _CREATE, 0o600, dir_fd=at)
                try:
                    with self._view.open(path) as body:
                        self._fill(fd, body, entry.size)
                    self._dress(fd, path, entry)
                finally:
                    os.close(fd)
                self.done.size += entry.size
            case Kind.SYMLINK:
                os.symlink(entry.target, name, dir_fd=at)
                self._dress_special(at, name, path, entry)
            case Kind.SOCKET:
                self.done.leave_out("sockets")
                return False
            case Kind.CHAR | Kind.BLOCK if not self._kept.owner:
                self.done.leave_out("devices, which only root can make")
                return False
            case _:
                os.mknod(name, entry.kind.ifmt | 0o600, entry.rdev, dir_fd=at)
                self._dress_special(at, name, path, entry)
        return True

    def _fill(self, fd: int, body: BinaryIO, size: int) -> None:
        if isinstance(body, FileIO):
            files.copy_data(body.fileno(), fd, size)
            self._progress(size)
            return
        os.ftruncate(fd, size)  # a stranger's file may be too large for any disk
        while True:
            if isinstance(body, Unfolded) and (hole := body.skip_hole()):
                os.lseek(fd, hole, os.SEEK_CUR)
                self._progress(hole)
            piece = body.read(_PIECE)
            if not piece:
                return
            if piece.count(0) == len(piece):
                os.lseek(fd, len(piece), os.SEEK_CUR)  # a hole
            else:
                _write(fd, piece)
            self._progress(len(piece))

    def finish(self) -> None:
        """Give the directories what they are to have, the innermost first."""
        for path, place, entry in reversed(self._directories):
            try:
                with self._directory(place) as fd:
                    self._dress(fd, path, entry)
            except OSError as exc:
                raise _failure(path, exc) from exc

    # -- attributes --------------------------------------------------------------------

    def _dress(self, fd: int, path: bytes, entry: Entry) -> None:
        """Everything but data; a chown drops suid bits, everything changes times."""
        if self._kept.owner:
            os.fchown(fd, entry.uid, entry.gid)
        self._attributes(fd, path)
        os.fchmod(fd, self._mode(entry))
        os.utime(fd, ns=(entry.mtime_ns, entry.mtime_ns))

    def _dress_special(self, at: int, name: bytes, path: bytes, entry: Entry) -> None:
        if self._kept.owner:
            os.chown(name, entry.uid, entry.gid, dir_fd=at, follow_symlinks=False)
            self._attributes(fds.beneath(at, name), path)
        if entry.kind is not Kind.SYMLINK:
            os.chmod(name, self._mode(entry), dir_fd=at)
        times = (entry.mtime_ns, entry.mtime_ns)
        os.utime(name, ns=times, dir_fd=at, follow_symlinks=False)

    def _mode(self, entry: Entry) -> int:
        bits = entry.mode & 0o7777
        # With another owner they would mean another thing.
        return bits if self._kept.owner or entry.is_dir else bits & 0o1777

    def _attributes(self, place: xattrs.Place, path: bytes) -> None:
        if not self._kept.xattrs:
            return
        for name, value in self._view.xattrs(path, follow=False).items():
            if name.startswith(_OBEYED):
                self.done.leave_out("attributes that overlayfs would obey")
            elif name.startswith(b"user.") or self._kept.owner:
                self._put(place, name, value)
            else:
                self.done.leave_out("attributes that only root can give")

    def _put(self, place: xattrs.Place, name: bytes, value: bytes) -> None:
        try:
            xattrs.put(place, name, value)
        except OSError as exc:
            if name not in _LABELS and exc.errno != errno.ENOTSUP:
                raise
            self.done.leave_out("attributes that the file system does not keep")


def _make_room(at: int, name: bytes) -> None:
    """Remove the file *name*; OSError EISDIR for a directory, which stays."""
    try:
        os.unlink(name, dir_fd=at)
    except FileNotFoundError:
        return


def _write(fd: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(fd, left) :]
