"""One entry of a tar: what ``tarfile`` finds in it, made exact, checked, and in bytes."""

import base64
import binascii
import re
import struct
import tarfile
from collections.abc import Callable, Mapping
from typing import Self
from urllib.parse import unquote_to_bytes
from zlib import adler32

from overlayfs import tarheaders
from overlayfs.union.attrs import Kind

ENCODING = "utf-8"
ERRORS = "surrogateescape"

# Eight times PATH_MAX: deeper than any program can make, and still cheap to refuse.
_LONGEST_PATH = 1 << 15
# (uid_t) -1 means "leave it" to chown(2).
_HIGHEST_ID = (1 << 32) - 2
_NS = 1_000_000_000
# time_t has 64 bits.
_FARTHEST = ((1 << 63) - 1) * _NS
_DECIMAL = re.compile(r"(-?)(\d{1,18})(?:\.(\d*))?", re.ASCII)

_SCHILY = "SCHILY.xattr."
_LIBARCHIVE = "LIBARCHIVE.xattr."

# pax(1), "ustar Interchange Format": name, mode, uid, gid, size, mtime, checksum, type, link.
_HEADER = struct.Struct("100s 7sB 7sB 7sB 11sB 11sB 8s 1s 100s 88x 155s 12x")
_PLAIN = frozenset((tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE))

KINDS = {
    tarfile.REGTYPE: Kind.FILE,
    tarfile.AREGTYPE: Kind.FILE,
    tarfile.CONTTYPE: Kind.FILE,
    tarfile.GNUTYPE_SPARSE: Kind.FILE,
    tarfile.DIRTYPE: Kind.DIRECTORY,
    tarfile.SYMTYPE: Kind.SYMLINK,
    tarfile.FIFOTYPE: Kind.FIFO,
    tarfile.CHRTYPE: Kind.CHAR,
    tarfile.BLKTYPE: Kind.BLOCK,
}


class Member(tarheaders.Entry):
    """An entry whose usual headers are read in a fifth of the time.

    A header that is not quite usual is left to ``tarfile``; a damaged one raises
    ``tarfile.ReadError``, where ``tarfile`` alone would take it for the end of the archive.
    """

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        return cls._usual(buf, encoding, errors) or cls._checked(
            buf, lambda: super(Member, cls).frombuf(buf, encoding, errors)
        )

    @classmethod
    def _frombuf(
        cls, buf: bytes | bytearray, encoding: str, errors: str, *, dircheck: bool = True
    ) -> Self:
        # Newer tarfiles, and older ones with security fixes, read headers by this instead;
        # typeshed does not know it.
        return cls._usual(buf, encoding, errors) or cls._checked(
            buf,
            lambda: super(Member, cls)._frombuf(buf, encoding, errors, dircheck=dircheck),  # type: ignore[misc]
        )

    @classmethod
    def _usual(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self | None:
        if len(buf) == tarfile.BLOCKSIZE and buf[156:157] in _PLAIN:
            (name, mode, e1, uid, e2, gid, e3, size, e4, mtime, e5, chksum, kind, link, prefix) = (
                _HEADER.unpack(buf)
            )
            try:
                usual = not (e1 | e2 | e3 | e4 | e5) & ~0x20 and int(
                    chksum.rstrip(b" \0"), 8
                ) == checksum(buf)
                if usual:
                    obj = cls()
                    obj.mode = int(mode, 8)
                    obj.uid = int(uid, 8)
                    obj.gid = int(gid, 8)
                    obj.size = int(size, 8)
                    obj.mtime = int(mtime, 8)
                    obj.type = kind
                    text: str = name.partition(b"\0")[0].decode(encoding, errors)
                    if kind == tarfile.DIRTYPE:
                        text = text.rstrip("/")
                    if prefix[0]:
                        head = prefix.partition(b"\0")[0].decode(encoding, errors)
                        text = f"{head}/{text}"
                    obj.name = text
                    if link[0]:
                        obj.linkname = link.partition(b"\0")[0].decode(encoding, errors)
                    return obj
            except ValueError:
                pass  # numbers in base 256, or padded in some way of their own
        return None

    @classmethod
    def _checked(cls, buf: bytes | bytearray, read: Callable[[], Self]) -> Self:
        if buf and len(buf) != tarfile.BLOCKSIZE:
            raise tarfile.ReadError("it ends within a header")
        try:
            return read()
        except tarfile.HeaderError as exc:
            if buf and buf.count(0) != tarfile.BLOCKSIZE:
                raise tarfile.ReadError(f"damaged header ({exc})") from exc
            raise


def checksum(buf: bytes | bytearray) -> int:
    """The checksum of a header: its bytes added up, the checksum itself taken as spaces.

    The lower half of Adler-32 is 1 plus that sum, exact for 256 bytes, and eight times as
    fast as adding them up here.
    """
    total = (adler32(buf[:256]) & 0xFFFF) + (adler32(buf[256:]) & 0xFFFF) - 2
    return total - sum(buf[148:156]) + 8 * 0x20


def raw(text: str) -> bytes:
    """The bytes that ``tarfile`` read as *text*."""
    return text.encode(ENCODING, ERRORS)


def path_of(name: bytes) -> bytes:
    """*name* relative to the root and in its shortest form; empty for the root itself.

    Raises ValueError for what names nothing inside the layer.
    """
    if b"\0" in name:
        raise ValueError("NUL in a name")
    if not name:
        raise ValueError("no name")
    if len(name) > _LONGEST_PATH:
        raise ValueError(f"a path of {len(name)} bytes")
    if b"/." not in name and b"//" not in name and name[0] not in b"./" and name[-1] != 0x2F:
        return name
    parts = [part for part in name.split(b"/") if part not in (b"", b".")]
    if b".." in parts:
        raise ValueError("'..' in a path")
    return b"/".join(parts)


def times_of(member: tarfile.TarInfo) -> tuple[int, int]:
    """Access and modification time in ns since the epoch; the tar decides."""
    fields = member.pax_headers
    if "mtime" in fields:
        mtime = nanoseconds(fields["mtime"])
    else:
        mtime = int(member.mtime) * _NS
        if abs(mtime) > _FARTHEST:
            raise ValueError("a time that is out of range")
    return (nanoseconds(fields["atime"]) if "atime" in fields else mtime), mtime


def nanoseconds(text: str) -> int:
    """The decimal seconds *text* in ns, rounded down, exactly; ValueError if it is none."""
    match = _DECIMAL.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"not a time: {text[:40]!r}")
    sign, whole, fraction = match[1], match[2], match[3] or ""
    ns = int(whole) * _NS + int((fraction + "000000000")[:9])
    if not sign:
        return ns
    return -ns - (1 if fraction[9:].strip("0") else 0)


def owner_of(member: tarfile.TarInfo) -> tuple[int, int]:
    """User and group, which must be ids that a file can have."""
    uid, gid = member.uid, member.gid
    if not (0 <= uid <= _HIGHEST_ID and 0 <= gid <= _HIGHEST_ID):
        raise ValueError(f"owner {uid}:{gid}")
    return uid, gid


def device_of(member: tarfile.TarInfo) -> tuple[int, int]:
    """Major and minor number, which must be those that a device can have (kdev_t.h)."""
    major, minor = member.devmajor, member.devminor
    if not (0 <= major <= 0xFFF and 0 <= minor <= 0xFFFFF):
        raise ValueError(f"device {major}:{minor}")
    return major, minor


def xattrs_of(fields: Mapping[str, str]) -> dict[bytes, bytes]:
    """The extended attributes that the pax *fields* of an entry give it.

    star's form, which Docker and OCI use (image-spec, layer.md), goes before libarchive's.
    """
    found: dict[bytes, bytes] = {}
    for key, value in fields.items():
        if key.startswith(_SCHILY):
            found[raw(key[len(_SCHILY) :])] = raw(value)
        elif key.startswith(_LIBARCHIVE):
            name = unquote_to_bytes(raw(key[len(_LIBARCHIVE) :]))
            try:
                data = base64.b64decode(value + "=" * (-len(value) % 4), validate=True)
            except (binascii.Error, ValueError) as exc:
                raise ValueError(f"attribute {key} is not base64") from exc
            found.setdefault(name, data)
    for name in found:
        if b"\0" in name or b"." not in name[1:-1]:
            raise ValueError(f"an extended attribute called {name[:80]!r}")
    return found
