"""Tars block by block: headers that no tool writes."""

import tarfile
from collections.abc import Mapping

_PLACES = {
    "name": (0, 100),
    "mode": (100, 8),
    "uid": (108, 8),
    "gid": (116, 8),
    "size": (124, 12),
    "mtime": (136, 12),
    "type": (156, 1),
    "link": (157, 100),
    "magic": (257, 8),
    "major": (329, 8),
    "minor": (337, 8),
    "prefix": (345, 155),
}
END = b"\0" * 1024
PLAIN = {
    "name": b"f",
    "mode": b"0000644\0",
    "uid": b"0000000\0",
    "gid": b"0000000\0",
    "size": b"00000000000\0",
    "mtime": b"13727410000\0",  # tests.support.layers.TIME
    "type": b"0",
    "magic": b"ustar\x0000",
    "major": b"0000000\0",
    "minor": b"0000000\0",
}


def block(at: Mapping[int, bytes] | None = None, **fields: bytes) -> bytes:
    """One header with these fields, and bytes *at* offsets; the checksum is right."""
    buf = bytearray(512)
    for key, value in (PLAIN | fields).items():
        start, length = _PLACES[key]
        assert len(value) <= length, key
        buf[start : start + len(value)] = value
    for start, value in (at or {}).items():
        buf[start : start + len(value)] = value
    return summed(bytes(buf))


def summed(header: bytes) -> bytes:
    """*header* with its checksum."""
    head = header[:148] + b" " * 8 + header[156:]
    return head[:148] + b"%06o\0 " % sum(head) + head[156:]


def octal(number: int, length: int = 12) -> bytes:
    """*number* as a field of *length* bytes."""
    return b"%0*o\0" % (length - 1, number)


def base256(number: int, length: int = 12) -> bytes:
    """*number* as GNU tar writes what octal digits cannot."""
    first = b"\x80" if number >= 0 else b"\xff"
    return first + number.to_bytes(length - 1, "big", signed=number < 0)


def padded(data: bytes) -> bytes:
    """*data* filled up to whole blocks."""
    return data + b"\0" * (-len(data) % 512)


def entry(data: bytes = b"", **fields: bytes) -> bytes:
    """A file with *data*."""
    return block(**({"size": octal(len(data))} | fields)) + padded(data)


def extended(kind: bytes, data: bytes, size: bytes | None = None) -> bytes:
    """An extended header of *kind*, which says to be as long as *size*."""
    return block(name=b"header", type=kind, size=size or octal(len(data))) + padded(data)


def record(key: bytes, value: bytes) -> bytes:
    """One record of a pax header."""
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest))
    length = rest + len(str(length))
    return b"%d %s=%s\n" % (length, key, value)


def pax(*fields: tuple[bytes, bytes]) -> bytes:
    """A pax header with these records."""
    return extended(tarfile.XHDTYPE, b"".join(record(key, value) for key, value in fields))
