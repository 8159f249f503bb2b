"""The files that an archive is made of, wherever they lie."""

import errno
import os
import stat
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from overlayfs.errors import InvalidImage, OverlayError
from overlayfs.image.stream import Stream
from overlayfs.printable import printable

# An archive may list the same file under many names: in all, this much is read of such files.
_MOST_READ = 256 << 20
# As Linux has it, PATH_MAX; and far more components than any archive of images.
_LONGEST_PATH = 4096
MOST_PARTS = 1024


class FileRange(Stream):
    """*size* bytes of an open file from *start*; owns the descriptor *fd*, not its position.

    Raises InvalidImage when the file turns out to be shorter.
    """

    def __init__(self, fd: int, start: int, size: int, what: str) -> None:
        super().__init__()
        self._fd = fd
        self.start = start
        self.size = size
        self._at = start
        self._left = size
        self._what = what

    def _next(self, n: int) -> bytes:
        if not self._left:
            return b""
        try:
            piece = os.pread(self._fd, min(n, self._left), self._at)
        except OSError as exc:
            raise OverlayError(f"{self._what}: {exc.strerror}") from exc
        if not piece:
            raise InvalidImage(f"{self._what}: {self._left} bytes are missing at the end")
        self._at += len(piece)
        self._left -= len(piece)
        return piece

    def fileno(self) -> int:
        """The file as a whole; the bytes that are meant are *size* from *start*."""
        return self._fd

    def close(self) -> None:
        if not self.closed:
            os.close(self._fd)
        super().close()


@contextmanager
def opened(path: Path, label: str) -> Iterator[int]:
    """A descriptor of the file *path*, called *label* in the OverlayError if it cannot be."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as exc:
        raise OverlayError(f"{label}: {exc.strerror}") from exc
    try:
        yield fd
    finally:
        os.close(fd)


class Files(ABC):
    """Files by path inside an archive; *label* names the archive in messages.

    A path that leaves the archive, by ``..``, from the root or through a link, raises
    InvalidImage, and so does one that is no regular file.  What ``open`` gives is the
    caller's own, for any thread, and outlives ``close``.
    """

    def __init__(self, label: str) -> None:
        self.label = label
        self._read = 0

    @abstractmethod
    def size(self, path: str) -> int | None:
        """How long the file *path* is; None when there is none."""

    @abstractmethod
    def open(self, path: str) -> FileRange:
        """The bytes of *path*; InvalidImage when it is missing."""

    @abstractmethod
    def top(self) -> Iterable[str]:
        """The names at the root of the archive, each once."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the archive."""

    def has(self, path: str) -> bool:
        """Whether there is a file *path*."""
        return self.size(path) is not None

    def read(self, path: str, limit: int) -> bytes:
        """All of *path*; InvalidImage when it is missing or longer than *limit* bytes."""
        with self.open(path) as file:
            data = file.read(limit + 1)
            while len(data) <= limit and (piece := file.read(limit + 1 - len(data))):
                data += piece
        if len(data) > limit:
            raise InvalidImage(f"{self.named(path)}: more than {limit} bytes")
        self._read += len(data)
        if self._read > _MOST_READ:
            raise InvalidImage(f"{self.label}: its lists and configurations do not end")
        return data

    def named(self, path: str) -> str:
        """*path* in this archive, for a message."""
        return f"{self.label}: {printable(path, 300)}"

    def missing(self, path: str) -> InvalidImage:
        """The error that *path* is not there."""
        return InvalidImage(f"{self.named(path)}: missing from the archive")

    def leaves(self, path: str) -> InvalidImage:
        """The error that *path* leads out of the archive."""
        return InvalidImage(f"{self.named(path)}: leads out of the archive")

    def too_long(self, path: str) -> InvalidImage:
        """The error that *path* is longer than any path needs to be."""
        return InvalidImage(f"{self.named(path[:80])}: the path is too long")

    def parts(self, path: str) -> tuple[str, ...]:
        """The components of *path*, which must lie inside without looking anything up."""
        if "\0" in path:
            raise InvalidImage(f"{self.named(path)}: NUL in a name")
        if len(path) > _LONGEST_PATH or path.count("/") >= MOST_PARTS:
            raise self.too_long(path)
        parts = tuple(part for part in path.split("/") if part not in ("", "."))
        if path.startswith("/") or ".." in parts:
            raise self.leaves(path)
        if not parts:
            raise InvalidImage(f"{self.label}: an empty path where a file is needed")
        return parts

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class DirectoryFiles(Files):
    """The files below the directory *root*."""

    def __init__(self, root: Path, label: str) -> None:
        super().__init__(label)
        self._root = root.resolve()

    def size(self, path: str) -> int | None:
        found = self._find(path)
        if found is None:
            return None
        info = found.stat()
        if not stat.S_ISREG(info.st_mode):
            raise InvalidImage(f"{self.named(path)}: not a regular file")
        return info.st_size

    def open(self, path: str) -> FileRange:
        found = self._find(path)
        if found is None:
            raise self.missing(path)
        # Not to wait for a writer should this have become a fifo meanwhile.
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        try:
            fd = os.open(found, flags)
        except OSError as exc:
            raise OverlayError(f"{self.named(path)}: {exc.strerror}") from exc
        info = os.fstat(fd)
        if not stat.S_ISREG(info.st_mode):
            os.close(fd)
            raise InvalidImage(f"{self.named(path)}: not a regular file")
        return FileRange(fd, 0, info.st_size, self.named(path))

    def top(self) -> Iterable[str]:
        try:
            return sorted(path.name for path in self._root.iterdir())
        except OSError as exc:
            raise OverlayError(f"{self.label}: {exc.strerror}") from exc

    def close(self) -> None:
        """Nothing is held."""

    def _find(self, path: str) -> Path | None:
        wanted = self._root.joinpath(*self.parts(path))
        try:
            found = Path(os.path.realpath(wanted, strict=True))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as exc:
            if exc.errno in (errno.ELOOP, errno.ENAMETOOLONG):
                raise InvalidImage(f"{self.named(path)}: {exc.strerror}") from exc
            raise OverlayError(f"{self.named(path)}: {exc.strerror}") from exc
        if not found.is_relative_to(self._root):
            raise self.leaves(path)
        return found
