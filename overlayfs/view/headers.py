"""The headers of a tar, skimmed: of each entry only what is needed to find it again.

``tarfile`` takes some 50 µs for an entry, and so may whoever wants its attributes, of the
few that are asked for.  Names, places and the odd header are read as ``layers.writer`` does.
"""

import io
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol, cast

from overlayfs import tarheaders
from overlayfs.errors import InvalidImage
from overlayfs.layers import member as tar
from overlayfs.layers.inodes import Inode
from overlayfs.printable import printable
from overlayfs.union.attrs import Kind
from overlayfs.view.tape import Tape

_BLOCK = tarfile.BLOCKSIZE
# As for a layer that is unpacked (``layers.blocks``).
_MOST_HEADERS = 16 << 20
# A layer's names are kept in memory; the largest images have some hundred thousand.
MOST_ENTRIES = 4_000_000
# pax(1), typeflag: a regular file, a hard link, a symbolic link, a directory.
_PLAIN = frozenset(b"0125")
_REGULAR, _EXTENDED = b"0x"
# What the numbers of a usual header are made of; base 256 is not usual.
_OCTAL = b"01234567 \0"


class Header(NamedTuple):
    """An entry: its blocks begin at *start*, its data, *size* bytes of the file, at *data*.

    *type* is that of the format, *path* and *target* are as written.  *inode* and *sparse*,
    the pieces of a file with holes, are known of what is not quite usual.
    """

    start: int
    data: int
    size: int
    type: bytes
    path: bytes
    target: bytes
    inode: Inode | None = None
    sparse: tuple[tuple[int, int], ...] | None = None


def headers(tape: Tape, what: str) -> Iterator[Header]:
    """Every entry of the tar on *tape*, in its order.

    Raises InvalidImage, beginning with *what*, for a tar that is damaged or cut off.
    """
    try:
        yield from _headers(tape)
    except tarheaders.HOSTILE as exc:
        raise InvalidImage(f"{what}: not a readable tar: {printable(str(exc))}") from exc


def _headers(tape: Tape) -> Iterator[Header]:
    odd = _Odd(tape)
    at = end = count = 0
    while True:
        tape.release(at)
        block = tape.read(at, _BLOCK)
        if not block.strip(b"\0"):
            break
        count += 1
        if count > MOST_ENTRIES:
            raise tarfile.ReadError(f"more than {MOST_ENTRIES} entries")
        header = None
        if len(block) == _BLOCK:
            header = _extended(tape, block, at) if block[156] == _EXTENDED else _usual(block, at)
        if header is not None:
            end = header.data + header.size
            at = end + -end % _BLOCK
        else:
            header, end, at = odd.read(at)
        yield header
    # The end is two blocks of zeros, or that of the file; the padding of the last entry may
    # be missing (`umoci insert`), but none of its data.
    if len(block) % _BLOCK:
        raise tarfile.ReadError("it ends within a header")
    if block and tape.read(at + _BLOCK, _BLOCK).strip(b"\0"):
        raise tarfile.ReadError("entries after the end of the archive")
    if tape.size is not None and end > tape.size:
        raise tarfile.ReadError("unexpected end of data")


def _usual(block: bytes, at: int) -> Header | None:
    """The entry of a header like most; None for any other.  See ``layers.member.Member``."""
    kind = block[156]
    if kind not in _PLAIN or not _is_sound(block):
        return None
    size = 0
    if kind == _REGULAR:
        try:
            size = int(block[124:135], 8)
        except ValueError:
            return None
        if block[135] & ~0x20:
            return None
    name = block[:100].partition(b"\0")[0]
    if block[345]:
        name = block[345:500].partition(b"\0")[0] + b"/" + name
    target = block[157:257].partition(b"\0")[0] if block[157] else b""
    return Header(at, at + _BLOCK, size, block[156:157], name, target)


def _is_sound(block: bytes) -> bool:
    """Whether the numbers are octal ones, and the checksum is right."""
    if block[100:156].translate(None, _OCTAL):
        return False
    try:
        return int(block[148:156].rstrip(b" \0"), 8) == tar.checksum(block)
    except ValueError:
        return False


def _extended(tape: Tape, block: bytes, at: int) -> Header | None:
    """The entry of a usual header behind a pax header that changes only what it may."""
    try:
        length = int(block[124:135], 8)
    except ValueError:
        return None
    if not 0 < length <= _MOST_HEADERS or not _is_sound(block):
        return None
    data = at + _BLOCK + length + -length % _BLOCK
    following = tape.read(data, _BLOCK)
    header = _usual(following, data) if len(following) == _BLOCK else None
    if header is None:
        return None
    fields = dict(tarheaders.records(tape.read(at + _BLOCK, length)))
    if any(key == "size" or key.startswith("GNU.sparse.") for key in fields):
        return None
    path = fields.get("path", header.path)
    target = fields.get("linkpath", header.target)
    return header._replace(start=at, path=path, target=target)


class _Odd:
    """The entries that are left to ``tarheaders``, and to ``tarfile``."""

    def __init__(self, tape: Tape) -> None:
        self._reader = _Reader(tape)

    def read(self, at: int) -> tuple[Header, int, int]:
        """The entry at *at*, where its data ends, and where the next one is."""
        self._reader.begin(at)
        info, following = _read(self._reader)
        if following <= at:
            raise tarfile.ReadError("sizes that contradict each other")
        sparse = None
        end = info.offset_data
        if info.sparse is not None:
            pieces = cast("list[tuple[int, int]]", info.sparse)
            sparse = tuple((offset, size) for offset, size in pieces if offset or size)
            end += sum(size for _, size in sparse)
            _check_map(sparse, info.size)
            # More may be stored than the map has use for; of that the padding alone may lack.
            end = max(end, following - _BLOCK + 1)
        elif info.isreg():
            end += info.size
        header = Header(
            at,
            info.offset_data,
            info.size if info.isreg() else 0,
            info.type,
            tar.raw(info.name),
            tar.raw(info.linkname),
            inode_of(info),
            sparse,
        )
        return header, end, following


def _check_map(pieces: tuple[tuple[int, int], ...], total: int) -> None:
    end = 0
    for offset, size in pieces:
        if offset < end or size < 0 or offset + size > total:
            raise tarfile.ReadError("a map of a sparse file that makes no sense")
        end = offset + size


class _Reader:
    """The file object that ``tarfile`` reads the headers of one entry from."""

    def __init__(self, tape: Tape) -> None:
        self._tape = tape
        self._at = 0
        self._left = 0

    def begin(self, at: int) -> None:
        """Go to an entry, which may spend on headers what any may."""
        self._at = at
        self._left = _MOST_HEADERS

    def read(self, n: int) -> bytes:
        self._left -= n
        if n < 0 or self._left < 0:
            raise tarfile.ReadError(f"more than {_MOST_HEADERS} bytes of headers for one entry")
        data = self._tape.read(self._at, n)
        self._at += len(data)
        return data

    def tell(self) -> int:
        return self._at

    def seek(self, at: int) -> None:
        if at < self._at:
            raise tarfile.ReadError("sizes that contradict each other")
        self._at = at


class _File(Protocol):
    def read(self, n: int, /) -> bytes: ...
    def tell(self) -> int: ...


@dataclass
class _Archive:
    """What an entry wants of its ``TarFile``; *offset* is where the next entry is."""

    fileobj: _File
    offset: int = 0
    encoding: str = tar.ENCODING
    errors: str = tar.ERRORS


def _read(file: _File) -> tuple[tarfile.TarInfo, int]:
    """The entry whose headers *file* stands at, and where the next one is."""
    archive = _Archive(file)
    info = tar.Member.fromtarfile(archive)
    return info, archive.offset


def inode_of(info: tarfile.TarInfo) -> Inode | None:
    """What *info* says of a file; None when it is none, but a hard link or of no known type.

    Raises ValueError for what no file can have.
    """
    kind = tar.KINDS.get(info.type)
    if kind is None:
        return None
    fields = info.pax_headers
    return Inode(
        kind,
        info.mode & 0o7777,
        *tar.owner_of(info),
        *tar.times_of(info),
        tar.xattrs_of(fields) if fields else {},
        tar.device_of(info) if kind in (Kind.CHAR, Kind.BLOCK) else (0, 0),
    )


def decode(blocks: bytes) -> Inode:
    """What *blocks*, the headers of an entry that is usual, say of its file.

    Raises ValueError, or what else ``tarfile`` has, for what no file can have.
    """
    if len(blocks) == _BLOCK:
        inode = inode_of(tar.Member.frombuf(blocks, tar.ENCODING, tar.ERRORS))
    else:
        inode = inode_of(_read(io.BytesIO(blocks))[0])
    if inode is None:
        raise ValueError("not a header")
    return inode
