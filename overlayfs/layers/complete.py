"""What a layer leaves unsaid, taken from the layers below it.

A directory that a tar only implies keeps the attributes it has below, and a hard link to a
file of a lower layer brings that file up, as the kernel's overlayfs does for link(2).
"""

import errno
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from overlayfs.errors import InvalidImage
from overlayfs.layers.failure import explain
from overlayfs.layers.inodes import IMPLIED, Inode, Inodes
from overlayfs.layers.lower import Layer
from overlayfs.linux import fds, files
from overlayfs.printable import printable
from overlayfs.union.attrs import Kind
from overlayfs.union.names import Format

# Of a path in a message.
_SHOWN = 200
# Beneath as many directories all of the parts are looked for, since each that is looked for by
# and by waits for the one above.
_DEPTH = 50


class Unsaid(Protocol):
    """The part of ``Unpacked`` that matters here."""

    @property
    def implied(self) -> tuple[bytes, ...]: ...
    @property
    def foreign(self) -> tuple[tuple[bytes, bytes], ...]: ...
    @property
    def whiteouts(self) -> tuple[bytes, ...]: ...


@dataclass(frozen=True, slots=True)
class Completion:
    """What must be done to a layer on certain lower layers; empty when it needs nothing.

    *lent* are attributes for implied directories, *foreign* links to complete, and
    *needless* directories that hold whiteouts of nothing: the kernel lists those.
    """

    lent: dict[bytes, Inode]
    foreign: tuple[tuple[bytes, bytes], ...]
    needless: tuple[bytes, ...]

    def __bool__(self) -> bool:
        return bool(self.lent or self.foreign or self.needless)


class Below:
    """The union of the layers below one, topmost first."""

    def __init__(self, layers: Sequence[Layer]) -> None:
        self._found: dict[bytes, _Parts] = {b"": _Parts(_showing(layers, b"", b"."))}

    def first(self, path: bytes) -> Layer | None:
        """The topmost layer with a part in what *path* shows; None when it shows nothing.

        Whiteouts and opaque directories cut off what is beneath them.
        """
        known = path
        while known not in self._found:
            known = known.rpartition(b"/")[0]
        at = self._found[known]
        for depth, name in enumerate(path[len(known) :].lstrip(b"/").split(b"/")):
            if not name:
                break
            if depth > _DEPTH:
                at.all()  # or each would ask the one above, and that one the next
            at = _Parts(_showing(at, known, name))
            known = known + b"/" + name if known else name
            self._found[known] = at
            if at.first() is None:
                return None  # nor is there anything beneath
        return at.first()

    def inode(self, path: bytes) -> Inode | None:
        """What *path* shows, without the data; None when it shows nothing."""
        found = self.first(path)
        return _inode(found, path) if found else None


class _Parts:
    """Layers, looked for as far as somebody asks: mostly for the first of a thousand."""

    def __init__(self, more: Iterator[Layer]) -> None:
        self._known: list[Layer] = []
        self._more = more

    def __iter__(self) -> Iterator[Layer]:
        at = 0
        while at < len(self._known) or self._find():
            yield self._known[at]
            at += 1

    def first(self) -> Layer | None:
        return next(iter(self), None)

    def all(self) -> None:
        while self._find():
            pass

    def _find(self) -> bool:
        found = next(self._more, None)
        if found is not None:
            self._known.append(found)
        return found is not None


def _showing(layers: Iterable[Layer], parent: bytes, name: bytes) -> Iterator[Layer]:
    first = True
    for layer in layers:
        try:
            fd = layer.open_dir(parent)
        except OSError as exc:
            if exc.errno in (errno.ENOTDIR, errno.ELOOP):
                return  # a file or a link, which has nothing beneath
            raise
        try:
            try:
                mode, rdev = (attrs := layer.attrs(fd, name)).mode, attrs.rdev
            except FileNotFoundError:
                continue
            if stat.S_ISCHR(mode) and rdev == 0:
                return
            if stat.S_ISDIR(mode):
                yield layer
                if layer.is_opaque(fd, name):
                    return
            else:
                if first:
                    yield layer
                return
            first = False
        finally:
            os.close(fd)


def _inode(layer: Layer, path: bytes) -> Inode:
    parent, _, name = path.rpartition(b"/")
    fd = layer.open_dir(parent)
    try:
        attrs = layer.attrs(fd, name or b".")
        return Inode(
            Kind.of(attrs.mode),
            stat.S_IMODE(attrs.mode),
            attrs.uid,
            attrs.gid,
            attrs.atime_ns,
            attrs.mtime_ns,
            layer.xattrs(fds.beneath(fd, name or b".")),
            (os.major(attrs.rdev), os.minor(attrs.rdev)),
        )
    finally:
        os.close(fd)


def completion(unsaid: Unsaid, below: Below) -> Completion:
    """What a layer that leaves *unsaid* needs on top of *below*."""
    lent = {}
    for path in unsaid.implied:
        inode = below.inode(path)
        if inode is None or inode.kind is not Kind.DIRECTORY:
            continue
        # The access time of a directory is whenever somebody listed it.
        if inode._replace(atime_ns=IMPLIED.atime_ns) != IMPLIED:
            lent[path] = inode
    needless = tuple(path for path in unsaid.whiteouts if not _is_directory(below, path))
    return Completion(lent, unsaid.foreign, needless)


def _is_directory(below: Below, path: bytes) -> bool:
    inode = below.inode(path)
    return inode is not None and inode.kind is Kind.DIRECTORY


def complete(
    root: Path,
    fmt: Format,
    needed: Completion,
    below: Below,
    *,
    name: str,
    copied: Callable[[int], None] = lambda _: None,
) -> None:
    """Do to the layer directory *root* what is *needed*; *copied* is told of bytes to copy.

    Raises InvalidImage, beginning with *name*, for a link to what is not there.
    """
    try:
        layer = Layer(root, fmt, 0)
        try:
            own = frozenset(path for path, _ in needed.foreign)
            work = _Work(layer, below, own, name, copied)
            for path, target in needed.foreign:
                work.link(path, target)
            for path in needed.needless:
                work.bare(path)
            # Last: the links were made in some of these.
            for path, inode in needed.lent.items():
                work.lend(path, inode)
        finally:
            layer.close()
    except OSError as exc:
        raise explain(exc, name) from exc


class _Work:
    def __init__(
        self,
        layer: Layer,
        below: Below,
        own: frozenset[bytes],
        name: str,
        copied: Callable[[int], None],
    ) -> None:
        """*own* are the paths that the layer gives to lower files."""
        self._copied = copied
        self._layer = layer
        self._below = below
        self._own = own
        self._name = name
        self._inodes = Inodes.of(layer.format, layer.path.parent)
        self._brought: dict[bytes, bytes] = {}  # lower file -> its name here

    def lend(self, path: bytes, inode: Inode) -> None:
        """Give the directory *path* the attributes *inode*."""
        fd = self._layer.open_dir(path)
        try:
            self._inodes.dress(fd, inode)
        finally:
            os.close(fd)

    def bare(self, path: bytes) -> None:
        """Remove the whiteouts in the directory *path*."""
        with self._unchanged(path) as fd:
            for name, found in self._layer.scan(fd).entries.items():
                if found.kind is None:
                    os.unlink(name, dir_fd=fd)

    def link(self, path: bytes, target: bytes) -> None:
        """Make *path* a name of the lower file *target*, which comes up for that."""
        here = self._brought.get(target)
        if here is not None:
            self._link(here, path)
            return
        inode = self._below.inode(target)
        where = f"{self._name}: {printable(path, _SHOWN)}"
        if inode is None:
            raise InvalidImage(
                f"{where}: a hard link to {printable(target, _SHOWN)}, which is nowhere"
            )
        if inode.kind is Kind.DIRECTORY:
            raise InvalidImage(f"{where}: a hard link to the directory {printable(target, _SHOWN)}")
        source = self._below.first(target)
        assert source is not None
        self._copy(source, target, inode, path)
        self._brought[target] = path
        if self._shows_below(target):
            # Both names must lead to one file, so the old one comes up too.
            self._link(path, target)

    def _shows_below(self, path: bytes) -> bool:
        """Whether *path* is what the lower layers have; its directories are then here."""
        if path in self._own:
            return False
        parent, _, name = path.rpartition(b"/")
        parts = parent.split(b"/") if parent else []
        for depth in range(len(parts) + 1):
            folder = b"/".join(parts[:depth])
            wanted = parts[depth] if depth < len(parts) else name
            with self._unchanged(folder) as fd:
                try:
                    attrs = self._layer.attrs(fd, wanted)
                except FileNotFoundError:
                    if self._layer.is_opaque(fd, b"."):
                        return False
                    if depth == len(parts):
                        return True
                    self._inodes.directory(fd, wanted)
                else:
                    if depth == len(parts) or not stat.S_ISDIR(attrs.mode):
                        return False
                    continue
            inner = b"/".join(parts[: depth + 1])
            inode = self._below.inode(inner)
            assert inode is not None
            self.lend(inner, inode)
        return True

    def _link(self, source: bytes, path: bytes) -> None:
        folder, _, last = source.rpartition(b"/")
        parent, _, name = path.rpartition(b"/")
        fd = self._layer.open_dir(folder)
        try:
            with self._unchanged(parent) as at:
                os.link(last, name, src_dir_fd=fd, dst_dir_fd=at, follow_symlinks=False)
        finally:
            os.close(fd)

    def _copy(self, source: Layer, target: bytes, inode: Inode, path: bytes) -> None:
        """A copy at *path* of the file *target* in the layer *source*."""
        folder, _, last = target.rpartition(b"/")
        parent, _, name = path.rpartition(b"/")
        fd = source.open_dir(folder)
        try:
            with self._unchanged(parent) as at:
                if inode.kind is not Kind.FILE:
                    link = source.readlink(fd, last) if inode.kind is Kind.SYMLINK else b""
                    self._inodes.special(at, name, inode, link)
                    return
                old = source.open_file(fd, last)
                new = self._inodes.create(at, name, inode)
                try:
                    self._copied(os.fstat(old).st_blocks * 512)
                    files.copy_data(old, new, os.fstat(old).st_size)
                    self._inodes.dress(new, inode)
                finally:
                    os.close(old)
                    os.close(new)
        finally:
            os.close(fd)

    @contextmanager
    def _unchanged(self, path: bytes) -> Iterator[int]:
        """The directory *path* to work in, whose times stay as they are."""
        fd = self._layer.open_dir(path)
        try:
            before = os.fstat(fd)
            yield fd
            os.utime(fd, ns=(before.st_atime_ns, before.st_mtime_ns))
        finally:
            os.close(fd)
