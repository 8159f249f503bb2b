"""A tar becomes a layer directory."""

import contextlib
import logging
import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO, cast

from overlayfs import tarheaders
from overlayfs.errors import InvalidImage, OverlayError
from overlayfs.layers import member as tar
from overlayfs.layers.blocks import Blocks, StreamFailed
from overlayfs.layers.directories import Directories, Directory, everything
from overlayfs.layers.failure import explain
from overlayfs.layers.inodes import IMPLIED, Inode, Inodes
from overlayfs.layers.links import Links
from overlayfs.layers.markers import Markers
from overlayfs.layers.removal import remove
from overlayfs.printable import printable
from overlayfs.union.attrs import Kind
from overlayfs.union.names import Format

log = logging.getLogger(__name__)

# Names of directories without an entry, all together; a tar of 1 MB can imply gigabytes.
_MOST_IMPLIED = 64 << 20

# What is kept in memory to the end: directories, and the paths of links and whiteouts.  Some
# 600,000 directories, more than the largest images have in all their layers.
_MOST_KEPT = 256 << 20
_DIRECTORY = 450
_NOTE = 500


@dataclass(frozen=True, slots=True)
class Unpacked:
    """What a layer turned out to hold.

    *implied* are the directories that no entry describes, the root ``b""`` perhaps among
    them: they have the attributes of ``IMPLIED`` until a lower layer lends its own.
    *foreign* are hard links to files that are not in this layer, as (path, target).
    *aliases* are the names of each file that has several.  *whiteouts* are the directories
    that hold some.  *size* is what the files in the tar add up to.
    """

    entries: int
    size: int
    implied: tuple[bytes, ...] = ()
    foreign: tuple[tuple[bytes, bytes], ...] = ()
    aliases: tuple[tuple[bytes, ...], ...] = ()
    whiteouts: tuple[bytes, ...] = ()


def unpack(stream: BinaryIO, into: Path, fmt: Format, *, name: str = "layer") -> Unpacked:
    """Write the tar *stream* into the new directory *into*.

    The tar is read to its end marker, not further.  Raises InvalidImage, beginning with
    *name*, for a tar that is damaged or hostile, and OverlayError when the disk is full or
    refuses; what was written until then stays, for the caller to remove.  What reading
    *stream* raises passes through.
    """
    into.mkdir(mode=0o700)
    into.chmod(0o700)  # without a setgid bit, which would hand its group to every file
    root = os.open(into, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        writer = _Writer(root, Inodes.of(fmt, into.parent), name)
        try:
            writer.read(Blocks(stream))
            return writer.finish()
        finally:
            writer.directories.close()
    except StreamFailed as exc:
        raise exc.error from None
    except OSError as exc:
        raise explain(exc, name) from exc
    finally:
        os.close(root)


class _Writer:
    """One layer on its way to the disk.

    Directories get their attributes last: a setgid bit or a default access list would
    otherwise colour what is made in them, and each entry would change their times.
    Whiteouts are made last too, since they apply whatever their place in the tar
    (image-spec, layer.md, "Whiteouts").
    """

    def __init__(self, root: int, inodes: Inodes, name: str) -> None:
        self._name = name
        self._inodes = inodes
        self.directories = Directories(root, self._inodes)
        self._entries = 0
        self._size = 0
        self._markers = Markers()
        self._links = Links(self.directories, self.directories.link)
        self._kept = 0
        self._fake_whiteouts = 0

    def read(self, blocks: Blocks) -> None:
        """Take every entry of the tar."""
        for entry in self._members(blocks):
            self._entries += 1
            try:
                self._take(entry, blocks)
                if self._kept + self.directories.made * _DIRECTORY > _MOST_KEPT:
                    raise ValueError("too many directories, links and whiteouts in one layer")
            except (ValueError, OverflowError, tarfile.TarError) as exc:
                raise InvalidImage(f"{self._where(entry)}: {printable(str(exc))}") from exc
            except OverlayError as exc:
                what = type(exc)
                raise what(f"{self._where(entry)}: {exc.message}", hint=exc.hint) from exc
            except OSError as exc:
                raise explain(exc, self._where(entry)) from exc

    def _where(self, entry: tarfile.TarInfo) -> str:
        return f"{self._name}: {printable(entry.name, 200)}"

    def _members(self, blocks: Blocks) -> Iterator[tarfile.TarInfo]:
        # A file object that only knows the way forward makes this tarfile's stream mode,
        # without the copying that "r|" does in Python.
        try:
            archive = tarfile.TarFile(
                fileobj=cast("IO[bytes]", blocks),
                tarinfo=tar.Member,
                encoding=tar.ENCODING,
                errors=tar.ERRORS,
            )
            while (entry := archive.next()) is not None:
                # It would keep every entry.
                archive.members.clear()  # type: ignore[attr-defined]  # not in typeshed
                yield entry
                blocks.next_entry()
            # One block of zeros has been read, a second must follow or nothing at all;
            # tarfile also stops here, silently, at headers that it cannot read.
            if blocks.last.count(0) != len(blocks.last) or blocks.read(512).strip(b"\0"):
                raise tarfile.ReadError("entries after the end of the archive")
        except tarfile.ReadError as exc:
            if str(exc) == "empty file":
                return  # docker writes layers without a single block
            raise self._damaged(exc) from exc
        except tarheaders.HOSTILE as exc:
            raise self._damaged(exc) from exc

    def _damaged(self, exc: Exception) -> InvalidImage:
        return InvalidImage(f"{self._name}: not a readable tar: {printable(str(exc))}")

    def _take(self, entry: tarfile.TarInfo, blocks: Blocks) -> None:
        # Of a directory's name tarfile takes the last slash, so that nothing is left of "/".
        is_root = not entry.name and entry.type == tarfile.DIRTYPE
        path = b"" if is_root else tar.path_of(tar.raw(entry.name))
        parent, _, name = path.rpartition(b"/")
        if self._markers.take(path):
            self._kept += len(path) + _NOTE
            return
        if len(name) > 255:
            raise ValueError(f"a name of {len(name)} bytes")
        if entry.type == tarfile.LNKTYPE:
            target = tar.path_of(tar.raw(entry.linkname))
            self._kept += len(path) + len(target) + _NOTE
            self._link(parent, name, target)
            return
        kind = tar.KINDS.get(entry.type)
        if kind is None:
            raise ValueError(f"an entry of the unknown type {entry.type!r}")
        is_device = kind in (Kind.CHAR, Kind.BLOCK)
        rdev = tar.device_of(entry) if is_device else (0, 0)
        if kind is Kind.CHAR and path and rdev == (0, 0):
            level = logging.DEBUG if self._fake_whiteouts else logging.WARNING
            log.log(level, "%s: a device 0:0, taken for a whiteout", self._where(entry))
            self._fake_whiteouts += 1
            self._kept += len(path) + _NOTE
            self._markers.hide(path)
            return
        fields = entry.pax_headers
        inode = Inode(
            kind,
            entry.mode & 0o7777,
            *tar.owner_of(entry),
            *tar.times_of(entry),
            tar.xattrs_of(fields) if fields else {},
            rdev,
        )
        if kind is Kind.DIRECTORY:
            self._directory(parent, name, inode)
        elif not name:
            raise ValueError("the root is no directory")
        elif kind is Kind.FILE:
            self._file(parent, name, inode, entry, blocks)
        else:
            self._special(parent, name, inode, tar.raw(entry.linkname))

    # -- entries -----------------------------------------------------------------------

    def _directory(self, parent: bytes, name: bytes, inode: Inode) -> None:
        if not name:
            self.directories.root.inode = inode
            return
        above = self.directories.reach(parent)
        known = above.children.get(name)
        if known is None:
            try:
                known = self.directories.add(above, name)
            except FileExistsError:
                self._clear(above, name)
                known = self.directories.add(above, name)
        # A later entry replaces the attributes of an earlier one: layer.md.
        known.inode = inode

    def _file(
        self, parent: bytes, name: bytes, inode: Inode, entry: tarfile.TarInfo, blocks: Blocks
    ) -> None:
        above = self.directories.reach(parent)
        at = self.directories.fd(above)
        try:
            fd = self._inodes.create(at, name, inode)
        except FileExistsError:
            self._clear(above, name)
            fd = self._inodes.create(self.directories.fd(above), name, inode)
        self._links.replaced((above, name))
        try:
            size = entry.size
            if size < 0:
                raise ValueError(f"a size of {size}")
            if entry.sparse is not None:
                _pour_sparse(fd, entry, blocks)
            elif size:
                blocks.pour(fd, size)
                blocks.align()
            self._inodes.dress(fd, inode)
        finally:
            os.close(fd)
        self._size += entry.size

    def _special(self, parent: bytes, name: bytes, inode: Inode, target: bytes) -> None:
        if inode.kind is Kind.SYMLINK and (not target or b"\0" in target):
            raise ValueError("a symbolic link to nothing")
        if len(target) > 4095:
            raise ValueError(f"a symbolic link to a path of {len(target)} bytes")
        above = self.directories.reach(parent)
        try:
            self._inodes.special(self.directories.fd(above), name, inode, target)
        except FileExistsError:
            self._clear(above, name)
            self._inodes.special(self.directories.fd(above), name, inode, target)
        self._links.replaced((above, name))

    def _link(self, parent: bytes, name: bytes, target: bytes) -> None:
        if not name or not target:
            raise ValueError("a hard link with the root")
        above = self.directories.reach(parent)
        if self._links.is_itself((above, name), target):
            return
        self._clear(above, name)
        self._links.make((above, name), target)

    def _clear(self, above: Directory, name: bytes) -> None:
        """Make room: the last entry of a name wins."""
        known = above.children.get(name)
        if known is not None:
            self._links.forget_beneath(known)
            self.directories.forget(known)
        self._links.forget((above, name))
        with contextlib.suppress(FileNotFoundError):
            remove(self.directories.fd(above), name)

    # -- the end -----------------------------------------------------------------------

    def finish(self) -> Unpacked:
        """Hide what is to be hidden, complete the directories, and say what there is."""
        whiteouts = self._markers.write(self.directories, self._whiteout)
        implied = []
        length = 0
        for directory in everything(self.directories.root):
            fd = self.directories.fd(directory)
            if directory.inode is None:
                path = directory.path
                implied.append(path)
                length += len(path)
                if length > _MOST_IMPLIED:
                    raise InvalidImage(f"{self._name}: too many directories without an entry")
            if directory.opaque:
                self._inodes.opaque(fd)
            try:
                self._inodes.dress(fd, directory.inode or IMPLIED)
            except (OverflowError, OverlayError) as exc:
                where = f"{self._name}: {printable(directory.path, 200)}"
                raise InvalidImage(f"{where}: {printable(str(exc))}") from exc
        return Unpacked(
            self._entries,
            self._size,
            tuple(sorted(implied)),
            self._links.foreign(),
            self._links.aliases(),
            tuple(sorted(whiteouts)),
        )

    def _whiteout(self, above: Directory, name: bytes) -> None:
        if self._links.awaits((above, name)):
            raise FileExistsError(name)
        self.directories.whiteout(above, name)


def _pour_sparse(fd: int, entry: tarfile.TarInfo, blocks: Blocks) -> None:
    """Write the pieces of a sparse file and leave the holes."""
    end = 0
    for offset, size in cast("list[tuple[int, int]]", entry.sparse):
        if offset < end or size < 0 or offset + size > entry.size:
            if size == 0 and offset == 0:
                continue  # fills up the map of the oldest form
            raise ValueError("a map of a sparse file that makes no sense")
        if size:
            os.lseek(fd, offset, os.SEEK_SET)
            blocks.pour(fd, size)
        end = offset + size
    os.ftruncate(fd, entry.size)
