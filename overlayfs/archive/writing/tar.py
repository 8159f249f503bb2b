"""A tree becomes a tar: entries in, the same bytes out every time.

The form is POSIX's pax interchange format (pax(1), "Extended Description"): a plain ustar
header, and before it an extended one when something does not fit: a long or foreign name, a
time with nanoseconds, a large id or size, extended attributes.  Nothing else comes in, no
names of users, no access times, no clock, so equal trees make equal tars.
"""

import base64
import os
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import BinaryIO
from urllib.parse import quote_from_bytes
from zlib import adler32

from overlayfs.archive.writing.sinks import Sink
from overlayfs.errors import OverlayError
from overlayfs.printable import printable
from overlayfs.union.attrs import Kind

BLOCK = 512
_NS = 1_000_000_000
_PIECE = 1 << 20
# Small entries are collected until there is this much of them.
_ENOUGH = 1 << 18

# image-spec, layer.md, "Whiteouts".
_WHITEOUT = b".wh."
_OPAQUE = b".wh..wh..opq"

# name, mode, uid, gid, size, mtime, checksum, type, link, magic, users, device, prefix.
_HEADER = struct.Struct("100s8s8s8s12s12s8s1s100s8s64x8s8s167x")
_MAGIC = b"ustar\x0000"
_NO_CHECKSUM = b" " * 8
_DEVICE_0 = b"0000000\0"
# What seven and eleven octal digits hold.
_MOST_ID = 0o7777777
_MOST_SIZE = 0o77777777777
_LONGEST_NAME = 100
_PAX_NAME = b"././@PaxHeader"

_TYPES = {
    Kind.FILE: b"0",
    Kind.SYMLINK: b"2",
    Kind.CHAR: b"3",
    Kind.BLOCK: b"4",
    Kind.DIRECTORY: b"5",
    Kind.FIFO: b"6",
}
_LINK = b"1"


@dataclass(frozen=True, slots=True)
class TarEntry:
    """One name and what it stands for.

    *path* has no slash at either end, and is empty for the root.  *mode* is the permission
    bits.  *target* is where a symbolic link leads, *linked* the path of an entry before, of
    which this is one more hard link.  *size* counts the bytes of a file's body.
    """

    path: bytes
    kind: Kind
    mode: int
    uid: int = 0
    gid: int = 0
    mtime_ns: int = 0
    size: int = 0
    target: bytes = b""
    linked: bytes | None = None
    rdev: int = 0
    xattrs: Mapping[bytes, bytes] = field(default_factory=dict)


class TarWriter:
    """Writes entries to *out*, in the order in which they come, and ``end`` at last."""

    def __init__(self, out: Sink) -> None:
        self._out = out
        self._buffer = bytearray()

    def add(self, entry: TarEntry, body: BinaryIO | None = None) -> None:
        """Write *entry*, of a file with the bytes that *body* gives.

        Raises OverlayError for an entry that no tar can hold (a socket), and when *body* gives
        fewer or more bytes than *entry* says.
        """
        self._write(header(entry))
        if entry.kind is Kind.FILE and entry.linked is None:
            self._pour(entry, body)

    def whiteout(self, path: bytes, mtime_ns: int = 0) -> None:
        """Write that the layers below have no *path*."""
        folder, slash, name = path.rpartition(b"/")
        marker = folder + slash + _WHITEOUT + name
        self._write(header(TarEntry(marker, Kind.FILE, 0, mtime_ns=mtime_ns)))

    def opaque(self, path: bytes, mtime_ns: int = 0) -> None:
        """Write that nothing of the layers below is in the directory *path*."""
        marker = path + b"/" + _OPAQUE if path else _OPAQUE
        self._write(header(TarEntry(marker, Kind.FILE, 0, mtime_ns=mtime_ns)))

    def end(self) -> None:
        """Write the end marker, and everything before it."""
        self._buffer += bytes(2 * BLOCK)
        self._flush()

    def _pour(self, entry: TarEntry, body: BinaryIO | None) -> None:
        left = entry.size
        while left:
            piece = body.read(min(left, _PIECE)) if body else b""
            if not piece:
                raise OverlayError(f"{printable(entry.path)}: {left} bytes shorter than it was")
            self._write(piece)
            left -= len(piece)
        if body and body.read(1):
            raise OverlayError(f"{printable(entry.path)}: longer than it was")
        self._buffer += bytes(-entry.size % BLOCK)

    def _write(self, data: bytes) -> None:
        if len(data) < _ENOUGH:
            self._buffer += data
            if len(self._buffer) < _ENOUGH:
                return
            self._flush()
        else:
            self._flush()
            self._out.write(data)

    def _flush(self) -> None:
        if self._buffer:
            self._out.write(bytes(self._buffer))
            self._buffer.clear()


def header(entry: TarEntry) -> bytes:
    """The blocks in front of the body of *entry*; OverlayError where no tar can have it."""
    kind = _LINK if entry.linked is not None else _TYPES.get(entry.kind)
    if kind is None:
        raise OverlayError(f"{printable(entry.path)}: a {entry.kind}, which no tar can hold")
    name = entry.path or b"."
    if entry.kind is Kind.DIRECTORY and entry.linked is None:
        name += b"/"
    target = entry.target if entry.linked is None else entry.linked
    size = entry.size if kind == b"0" else 0
    seconds, fraction = divmod(entry.mtime_ns, _NS)
    records = dict(_extended(entry, name, target, size))
    is_device = entry.kind in (Kind.CHAR, Kind.BLOCK)
    block = _block(
        kind,
        name[:_LONGEST_NAME],
        entry.mode,
        entry.uid if entry.uid <= _MOST_ID else 0,
        entry.gid if entry.gid <= _MOST_ID else 0,
        size if size <= _MOST_SIZE else 0,
        seconds if 0 <= seconds <= _MOST_SIZE else 0,
        target[:_LONGEST_NAME],
        entry.rdev if is_device else 0,
    )
    if fraction or not 0 <= seconds <= _MOST_SIZE:
        records[b"mtime"] = _time(entry.mtime_ns)
    if not records:
        return block
    data = b"".join(_record(key, records[key]) for key in sorted(records))
    before = _block(b"x", _PAX_NAME, 0o644, 0, 0, len(data), 0, b"", 0)
    return before + data + bytes(-len(data) % BLOCK) + block


def _extended(
    entry: TarEntry, name: bytes, target: bytes, size: int
) -> Iterator[tuple[bytes, bytes]]:
    """What of *entry* the plain header cannot say, but for the time."""
    foreign = False
    for key, text in ((b"path", name), (b"linkpath", target)):
        if len(text) > _LONGEST_NAME or not text.isascii():
            yield key, text
            foreign = foreign or not _is_utf8(text)
    if foreign:
        # pax(1), "hdrcharset": names are UTF-8 unless this says that they are mere bytes.
        yield b"hdrcharset", b"BINARY"
    if size > _MOST_SIZE:
        yield b"size", b"%d" % size
    for key, number in ((b"uid", entry.uid), (b"gid", entry.gid)):
        if number > _MOST_ID:
            yield key, b"%d" % number
    if entry.linked is not None:
        return  # the attributes are the first name's
    for attribute, value in entry.xattrs.items():
        if b"=" in attribute:
            # The key of a record ends at its first "="; libarchive's form says it otherwise.
            key = b"LIBARCHIVE.xattr." + quote_from_bytes(attribute, safe="").encode()
            yield key, base64.b64encode(value)
        else:
            yield b"SCHILY.xattr." + attribute, value


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def _time(ns: int) -> bytes:
    """Seconds with as many digits behind the point as it takes: ``-0.5``."""
    seconds, fraction = divmod(abs(ns), _NS)
    digits = (b".%09d" % fraction).rstrip(b"0") if fraction else b""
    return (b"-" if ns < 0 else b"") + b"%d" % seconds + digits


def _record(key: bytes, value: bytes) -> bytes:
    """``LENGTH KEY=VALUE\\n``, where the length counts its own digits too."""
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest))
    length = rest + len(str(length))
    return b"%d %s=%s\n" % (length, key, value)


def _block(
    kind: bytes,
    name: bytes,
    mode: int,
    uid: int,
    gid: int,
    size: int,
    mtime: int,
    target: bytes,
    rdev: int,
) -> bytes:
    packed = _HEADER.pack(
        name,
        b"%07o\0" % mode,
        b"%07o\0" % uid,
        b"%07o\0" % gid,
        b"%011o\0" % size,
        b"%011o\0" % mtime,
        _NO_CHECKSUM,
        kind,
        target,
        _MAGIC,
        b"%07o\0" % os.major(rdev) if rdev else _DEVICE_0,
        b"%07o\0" % os.minor(rdev) if rdev else _DEVICE_0,
    )
    # Adler-32 has 1 plus the sum of the bytes in its lower half, exactly for 256 of them.
    total = (adler32(packed[:256]) & 0xFFFF) + (adler32(packed[256:]) & 0xFFFF) - 2
    return packed[:148] + b"%06o\0 " % total + packed[156:]
