"""What the files of an image are written into: a tar, or a folder."""

import os
import secrets
from pathlib import Path
from typing import BinaryIO, Protocol

from overlayfs.archive.writing.output import FileSink, refused
from overlayfs.archive.writing.sinks import Sink
from overlayfs.archive.writing.tar import TarEntry, TarWriter
from overlayfs.errors import InvalidImage
from overlayfs.image.digest import Digest, verified
from overlayfs.printable import printable
from overlayfs.union.attrs import Kind

_PIECE = 1 << 20


class Target(Protocol):
    """Takes files by path, once each."""

    def has(self, path: str, digest: Digest) -> bool:
        """Whether there is a file *path* with the bytes that *digest* names."""

    def put(self, path: str, size: int, stream: BinaryIO) -> None:
        """Write the *size* bytes of *stream* as *path*.

        What *stream* raises passes through; OverlayError when they cannot be kept.
        """


class TarTarget:
    """A tar written to *out*, its members as alike as can be; ``end`` completes it."""

    def __init__(self, out: Sink) -> None:
        self._tar = TarWriter(out)
        self._written: set[str] = set()

    def has(self, path: str, digest: Digest) -> bool:
        """Whether *path* was written; what it is called tells its digest."""
        return path in self._written

    def put(self, path: str, size: int, stream: BinaryIO) -> None:
        """Write *path*, and before it the folders that it lies in."""
        folders = path.split("/")[:-1]
        for end in range(1, len(folders) + 1):
            folder = "/".join(folders[:end])
            if folder not in self._written:
                self._written.add(folder)
                self._tar.add(TarEntry(folder.encode(), Kind.DIRECTORY, 0o755))
        self._written.add(path)
        self._tar.add(TarEntry(path.encode(), Kind.FILE, 0o644, size=size), stream)

    def end(self) -> None:
        """Write the end of the tar."""
        self._tar.end()


class FolderTarget:
    """The files below the directory *root*; each appears with all its bytes."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._label = printable(str(root))
        self._new: list[Path] = []

    def has(self, path: str, digest: Digest) -> bool:
        """Whether *path* is there and whole: a damaged file is written anew."""
        try:
            with verified((self._root / path).open("rb"), digest) as stream:
                while stream.read(_PIECE):
                    pass
        except (FileNotFoundError, InvalidImage):
            return False
        except OSError as exc:
            raise refused(f"{self._label}/{path}", exc) from exc
        return True

    def put(self, path: str, size: int, stream: BinaryIO) -> None:
        """Write *path* under another name, and rename it."""
        label = f"{self._label}/{path}"
        final = self._root / path
        is_new = not final.exists()
        draft = final.with_name(f".{secrets.token_hex(8)}")
        try:
            final.parent.mkdir(parents=True, exist_ok=True)
            fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        except OSError as exc:
            raise refused(label, exc) from exc
        try:
            sink = FileSink(fd, label)
            while piece := stream.read(_PIECE):
                sink.write(piece)
            try:
                os.fsync(fd)
                draft.rename(final)
            except OSError as exc:
                raise refused(label, exc) from exc
        finally:
            os.close(fd)
            draft.unlink(missing_ok=True)
        if is_new:
            self._new.append(final)

    def undo(self) -> None:
        """Remove the files that were not there before."""
        while self._new:
            self._new.pop().unlink(missing_ok=True)
