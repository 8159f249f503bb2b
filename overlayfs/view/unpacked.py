"""A layer that is a directory: of the store, or the upper one of a mount."""

import errno
import os
import stat
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import BinaryIO

from overlayfs.errors import OverlayError
from overlayfs.image.digest import Digest
from overlayfs.layers.lower import Layer
from overlayfs.linux import fds
from overlayfs.printable import printable
from overlayfs.union.attrs import Kind
from overlayfs.union.merge import Found, Listing
from overlayfs.view.bodies import of_file
from overlayfs.view.entry import Entry, Whiteout, refusal

# What open(2) and stat(2) say where a layer has nothing.
_NOTHING = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG)


class UnpackedPart:
    """A Part over the directory *layer*, which this closes."""

    def __init__(
        self,
        layer: Layer,
        diff_id: Digest | None,
        implied: Callable[[], Collection[bytes]] = lambda: (),
    ) -> None:
        """*implied* gives the directories that are there only because something lies in them."""
        self.number = layer.number
        self.diff_id = diff_id
        self._layer = layer
        self._tell_implied = implied

    @cached_property
    def _implied(self) -> frozenset[bytes]:
        return frozenset(self._tell_implied())

    def find(self, path: bytes) -> Entry | Whiteout | None:
        with self._above(path) as place:
            if place is None:
                return None
            found = self._look(*place)
            if found is None:
                return None
            return Whiteout(self.number) if found.kind is None else self._entry(*place)

    def look(self, path: bytes) -> Found | None:
        with self._above(path) as place:
            return self._look(*place) if place is not None else None

    @contextmanager
    def _above(self, path: bytes) -> Iterator[tuple[int, bytes] | None]:
        """The directory that *path* is in, and its name there; None when there is none."""
        parent, _, name = path.rpartition(b"/")
        try:
            fd = self._layer.open_dir(parent)
        except OSError as exc:
            if exc.errno not in _NOTHING:
                raise
            yield None
            return
        try:
            yield fd, name or b"."
        finally:
            os.close(fd)

    def _look(self, fd: int, name: bytes) -> Found | None:
        if name != b"." and self._layer.markers:
            return self._layer.scan(fd).entries.get(name)
        try:
            st = os.stat(name, dir_fd=fd, follow_symlinks=False)
        except OSError as exc:
            if exc.errno not in _NOTHING:
                raise
            return None
        if stat.S_ISDIR(st.st_mode):
            return Found(Kind.DIRECTORY, st.st_ino, self._layer.is_opaque(fd, name))
        if stat.S_ISREG(st.st_mode) and not st.st_size:
            # An empty file may be a whiteout by an attribute.
            return self._layer.scan(fd).entries.get(name)
        if stat.S_ISCHR(st.st_mode) and st.st_rdev == 0:
            return Found(None, 0)
        return Found(Kind.of(self._layer.attrs(fd, name).mode), st.st_ino)

    def is_implied(self, path: bytes) -> bool:
        return path in self._implied

    def listing(self, path: bytes) -> Listing:
        fd = self._layer.open_dir(path)
        try:
            if self._layer.follows and self._layer.redirect(fd) is not None:
                raise OverlayError(
                    f"{self._layer.path}: {printable(path)} was renamed with redirect_dir=on",
                    hint="mount it, and look there",
                )
            return self._layer.scan(fd)
        finally:
            os.close(fd)

    def entries(self, path: bytes, names: Iterable[bytes]) -> dict[bytes, Entry]:
        fd = self._layer.open_dir(path)
        try:
            return {name: self._entry(fd, name) for name in names}
        finally:
            os.close(fd)

    def _entry(self, fd: int, name: bytes) -> Entry:
        ino, attrs = self._layer.look(fd, name)
        kind = Kind.of(attrs.mode)
        is_dir = kind is Kind.DIRECTORY
        target = self._layer.readlink(fd, name) if kind is Kind.SYMLINK else b""
        return Entry(
            kind,
            attrs.mode,
            attrs.uid,
            attrs.gid,
            attrs.rdev if kind in (Kind.CHAR, Kind.BLOCK) else 0,
            0 if is_dir else attrs.size,
            attrs.mtime_ns,
            target,
            1 if is_dir else attrs.nlink,
            self.number,
            0 if is_dir else ino,
        )

    def open(self, path: bytes) -> BinaryIO:
        parent, _, name = path.rpartition(b"/")
        fd = self._layer.open_dir(parent)
        try:
            kind = Kind.of(self._layer.attrs(fd, name or b".").mode)
            if kind is not Kind.FILE:
                raise refusal(errno.EISDIR if kind is Kind.DIRECTORY else errno.EINVAL, path)
            if self._layer.follows and self._layer.is_metacopy(fds.beneath(fd, name)):
                raise OverlayError(
                    f"{self._layer.path}: the data of {printable(path)} is elsewhere (metacopy=on)",
                    hint="mount it, and look there",
                )
            return of_file(self._layer.open_file(fd, name))
        finally:
            os.close(fd)

    def xattrs(self, path: bytes) -> dict[bytes, bytes]:
        parent, _, name = path.rpartition(b"/")
        fd = self._layer.open_dir(parent)
        try:
            return self._layer.xattrs(fds.beneath(fd, name or b"."))
        finally:
            os.close(fd)

    def verify(self) -> None:
        """It was verified when it was unpacked; `pyoverlay verify` asks the store."""

    def close(self) -> None:
        self._layer.close()
