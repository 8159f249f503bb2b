"""A layer of an archive, read where it is."""

import errno
import gc
import os
import tarfile
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

from overlayfs import tarheaders
from overlayfs.archive.compression import Compression, decompressed, sniff
from overlayfs.archive.files import FileRange
from overlayfs.archive.limits import Allowance
from overlayfs.errors import InvalidImage
from overlayfs.image.digest import Digest, verified
from overlayfs.image.source import LayerSource
from overlayfs.layers.directories import Directory
from overlayfs.layers.failure import explain
from overlayfs.layers.inodes import IMPLIED, Inode
from overlayfs.printable import printable
from overlayfs.union.attrs import Kind
from overlayfs.union.merge import Found, Listing
from overlayfs.view.bodies import Later, Unfolded
from overlayfs.view.entry import Entry, Whiteout, refusal
from overlayfs.view.headers import Header, decode, headers
from overlayfs.view.image import ImageView
from overlayfs.view.part import Part
from overlayfs.view.tape import FileTape, StreamTape
from overlayfs.view.tree import Body, LayerTree

_PIECE = 1 << 20


@contextmanager
def _uncollected() -> Iterator[None]:
    """Nothing that is made here is garbage, and looking for some takes a fifth of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


class ArchivedPart:
    """A Part over the tar of a layer, which is read when something is asked for the first time.

    Of a tar that lies in a file as it is only the headers are read, and the bodies that are
    opened: nothing is verified then.  Any other stream is read whole once, and must have the
    digest that the image's configuration says, before anything is told of it.
    """

    def __init__(
        self, source: LayerSource, number: int, below: ImageView, *, what: str, scratch: Path
    ) -> None:
        """*below* are the layers beneath; *what* begins messages; *scratch* is for a layer of
        which several bodies are opened and that cannot be read here and there."""
        self.number = number
        self.diff_id: Digest | None = source.diff_id
        self._source = source
        self.below = below
        self._prepared = False
        self._what = f"{what}: layer {number} ({source.diff_id.short})"
        self._scratch = scratch
        self._tape: FileTape | None = None
        self._streamed = False
        self._verified = False

    @cached_property
    def _tree(self) -> LayerTree:
        with _uncollected():
            return self._indexed()

    def _indexed(self) -> LayerTree:
        tree = LayerTree(self._what)
        self._tape = self._file()
        if self._tape is not None:
            for header in headers(self._tape, self._what):
                tree.take(header)
        else:
            with self._stream() as stream:
                tape = StreamTape(stream)
                for header in headers(tape, self._what):
                    # The blocks are here now, and not again.
                    tree.take(self._decoded(tape, header))
                tape.drain()
            self._verified = True
        if tree.has_foreign_links and not self._prepared:
            # Base first: each asks those below, and a thousand would not fit the stack.
            for part in self.below.parts:
                assert isinstance(part, ArchivedPart)
                part.prepare()
        tree.finish(self.below)
        return tree

    def prepare(self) -> None:
        """Read what there is to be known; all of the layers below are read already."""
        self._prepared = True
        self.look(b"")

    def _file(self) -> FileTape | None:
        """The tar as a file, if it is one."""
        with self._source.open() as raw:
            if not isinstance(raw, FileRange):
                return None
            head = os.pread(raw.fileno(), min(6, raw.size), raw.start)
            if sniff(head) is not Compression.NONE:
                return None
            return FileTape(os.dup(raw.fileno()), raw.start, raw.size)

    def _stream(self) -> BinaryIO:
        allowance = Allowance(self._source.size, self._what, into=self._scratch)
        plain = decompressed(self._source.open(), what=self._what, allowance=allowance)
        return verified(plain, self._source.diff_id, what=self._what)

    # -- attributes --------------------------------------------------------------------

    def find(self, path: bytes) -> Entry | Whiteout | None:
        try:
            found = self._tree.at(path)
        except KeyError:
            return None
        if found is None:
            return Whiteout(self.number)
        return self._entry(path, found)

    def look(self, path: bytes) -> Found | None:
        try:
            found = self._tree.at(path)
        except KeyError:
            return None
        if isinstance(found, Directory):
            return Found(Kind.DIRECTORY, 0, found.opaque)
        return Found(found.kind if found else None, 0)

    def is_implied(self, path: bytes) -> bool:
        return self._folder(path) not in self._tree.headers

    def listing(self, path: bytes) -> Listing:
        folder = self._folder(path)
        entries = {name: Found(Kind.DIRECTORY, 0) for name in folder.children}
        for name, body in self._tree.files.get(folder, {}).items():
            if name not in entries:
                entries[name] = Found(body.kind if body else None, 0)
        return Listing(entries, folder.opaque)

    def entries(self, path: bytes, names: Iterable[bytes]) -> dict[bytes, Entry]:
        folder = self._folder(path)
        files = self._tree.files.get(folder, {})
        above = path + b"/" if path else b""
        found = {}
        for name in names:
            known = folder.children.get(name) or files[name]
            assert known is not None
            found[name] = self._entry(above + name, known)
        return found

    def lent(self, path: bytes) -> tuple[Part, bytes] | None:
        """The lower layer and the path there that its file *path* comes from, if it does."""
        found = self._at(path)
        return found.lent[:2] if isinstance(found, Body) and found.lent else None

    def xattrs(self, path: bytes) -> dict[bytes, bytes]:
        found = self._at(path)
        if isinstance(found, Directory):
            header = self._tree.headers.get(found)
            if header is None:
                lender = _lender(self.below, path)
                return lender.xattrs(path) if lender else {}
        elif found.lent:
            part, place = _origin(*found.lent[:2])
            return part.xattrs(place)
        else:
            header = found.header
        inode = self._inode(header)
        if inode.kind in (Kind.FILE, Kind.DIRECTORY):
            return inode.xattrs
        # xattr(7): others have no such attributes, whatever a tar says.
        return {
            name: value for name, value in inode.xattrs.items() if not name.startswith(b"user.")
        }

    def _entry(self, path: bytes, found: Directory | Body) -> Entry:
        if isinstance(found, Directory):
            header = self._tree.headers.get(found)
            if header is not None:
                return self._told(self._inode(header), 0, b"", 1, 0)
            lender = _lender(self.below, path)
            lent = lender.find(path) if lender else None
            if isinstance(lent, Entry):
                return lent._replace(layer=self.number, file=0)
            return self._told(IMPLIED, 0, b"", 1, 0)
        header = found.header
        if found.lent:
            entry = found.lent[2]
            return entry._replace(layer=self.number, file=header.start, nlink=found.nlink)
        inode = self._inode(header)
        target = header.target if inode.kind is Kind.SYMLINK else b""
        size = len(target) if target else header.size
        return self._told(inode, size, target, found.nlink, header.start)

    def _told(self, inode: Inode, size: int, target: bytes, nlink: int, file: int) -> Entry:
        kind = inode.kind
        mode = 0o777 if kind is Kind.SYMLINK else inode.mode
        return Entry(
            kind,
            kind.ifmt | mode,
            inode.uid,
            inode.gid,
            os.makedev(*inode.rdev) if inode.rdev != (0, 0) else 0,
            size,
            inode.mtime_ns,
            target,
            nlink,
            self.number,
            file,
        )

    def _inode(self, header: Header) -> Inode:
        if header.inode is not None:
            return header.inode
        assert self._tape is not None
        blocks = self._tape.read(header.start, header.data - header.start)
        return self._read(blocks, header)

    def _decoded(self, tape: StreamTape, header: Header) -> Header:
        if header.inode is not None or header.type == tarfile.LNKTYPE:
            return header
        blocks = tape.read(header.start, header.data - header.start)
        return header._replace(inode=self._read(blocks, header))

    def _read(self, blocks: bytes, header: Header) -> Inode:
        try:
            return decode(blocks)
        except tarheaders.HOSTILE as exc:
            raise InvalidImage(
                f"{self._what}: {printable(header.path[:200])}: {printable(str(exc))}"
            ) from exc

    def _at(self, path: bytes) -> Directory | Body:
        try:
            found = self._tree.at(path)
        except KeyError:
            raise refusal(errno.ENOENT, path) from None
        if found is None:
            raise refusal(errno.ENOENT, path)
        return found

    def _folder(self, path: bytes) -> Directory:
        try:
            return self._tree.folder(path)
        except KeyError:
            raise refusal(errno.ENOTDIR, path) from None

    # -- bodies ------------------------------------------------------------------------

    def open(self, path: bytes) -> BinaryIO:
        found = self._at(path)
        if isinstance(found, Directory):
            raise refusal(errno.EISDIR, path)
        if found.lent:
            part, place = _origin(*found.lent[:2])
            return part.open(place)
        if found.kind is not Kind.FILE:
            raise refusal(errno.EINVAL, path)
        header = found.header
        if header.sparse is None:
            return self._range(header.data, header.size, path)
        stored = sum(size for _, size in header.sparse)
        return Unfolded(self._range(header.data, stored, path), header.sparse, header.size)

    def _range(self, start: int, size: int, path: bytes) -> BinaryIO:
        """*size* bytes of the tar from *start*."""
        if self._tape is None:
            if not self._streamed:
                self._streamed = True
                return Later(self._stream(), start, size)
            self._tape = self._spooled()
        what = f"{self._what}: {printable(path, 300)}"
        return FileRange(os.dup(self._tape.fd), self._tape.start + start, size, what)

    def _spooled(self) -> FileTape:
        """The tar in a file that has no name and so cannot be left."""
        try:
            with self._stream() as stream, tempfile.TemporaryFile(dir=self._scratch) as copy:
                size = 0
                while piece := stream.read(_PIECE):
                    copy.write(piece)
                    size += len(piece)
                copy.flush()
                return FileTape(os.dup(copy.fileno()), 0, size)
        except OSError as exc:
            raise explain(exc, f"{self._what}: unpacking it in {self._scratch}") from exc

    def verify(self) -> None:
        if self._verified:
            return
        with self._stream() as stream:
            while stream.read(_PIECE):
                pass
        self._verified = True

    def close(self) -> None:
        if self._tape is not None:
            self._tape.close()


def _lender(below: ImageView, path: bytes) -> Part | None:
    """The part whose directory *path* has the attributes of one that is implied above *below*.

    As if each that is implied asked those below, but not one call within the other.
    """
    view = below
    while True:
        last: Part | None = None
        for last, kind in view.showing(path):
            if kind is not Kind.DIRECTORY:
                return None
            if not last.is_implied(path):
                return last
        if not isinstance(last, ArchivedPart):
            return None
        view = last.below


def _origin(part: Part, path: bytes) -> tuple[Part, bytes]:
    """Where the file *path* of *part* really lies, which may have been brought up many times."""
    while isinstance(part, ArchivedPart) and (lent := part.lent(path)):
        part, path = lent
    return part, path
