"""The headers in front of one entry of a tar (pax(1), and GNU tar's "Basic Tar Format").

``tarfile`` reads the blocks of 512 bytes; what extended headers say is read here.  Its own way
takes time with the square of their length (CVE-2024-6232) and a call for each header of a chain,
takes an owner that is no number for root, and lets a global header rename every file.
"""

import re
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

_BLOCK = tarfile.BLOCKSIZE
# Extended headers: pax's, Solaris's name for the same, GNU's long names.
_PAX = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE)
_LONG = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
# The image of a disk may be in that many pieces; a map of millions would fill the memory.
_MOST_PIECES = 1 << 18
_LONGEST_NUMBER = 20
_NUMBER = re.compile(r"-?[0-9]{1,20}", re.ASCII)
# mode, uid, gid, size, mtime, checksum; Python's own octal numbers may have signs and "_".
_FIELDS = ((100, 108), (108, 116), (116, 124), (124, 136), (136, 148), (148, 156))
_OCTAL = b"01234567 \0"
_BASE_256 = (0x80, 0xFF)

# What ``tarfile`` lets out when a header is not what it should be.
HOSTILE = (
    tarfile.TarError,
    ValueError,
    IndexError,
    KeyError,
    OverflowError,
    RecursionError,
)


class Entry(tarfile.TarInfo):
    """A ``TarInfo`` read from its own headers only, of each kind at most one.

    Global headers say nothing here, as with docker, podman and umoci; ``pax_headers`` has the
    entry's own.  What tools would read in different ways raises ``tarfile.ReadError``.
    """

    @classmethod
    def fromtarfile(cls, tarfile: Any) -> Self:  # what a TarFile keeps is not in typeshed
        """The next entry of *tarfile*, whose file stands at the first header."""
        found: Self = _read(cls, tarfile)
        return found


def records(data: bytes) -> Iterator[tuple[str, bytes]]:
    """The records ``LENGTH KEY=VALUE`` of a pax header, in time with their length.

    Raises ``tarfile.ReadError`` for what is none.
    """
    at = 0
    while at < len(data):
        space = data.find(b" ", at, at + _LONGEST_NUMBER)
        length = data[at:space] if space > at else b""
        if not length.isdigit():
            raise tarfile.ReadError("a pax header with a record that has no length")
        end = at + int(length)
        equals = data.find(b"=", space, end)
        if equals < 0 or end > len(data) or data[end - 1] != 0x0A:
            raise tarfile.ReadError("a pax header with a record of another length than it says")
        yield (
            data[space + 1 : equals].decode("utf-8", "surrogateescape"),
            data[equals + 1 : end - 1],
        )
        at = end


def _read(kind: type[Entry], archive: Any) -> Any:
    file = archive.fileobj
    start = file.tell()
    more: dict[bytes, bytes] = {}
    while True:
        block = file.read(_BLOCK)
        try:
            found = kind.frombuf(block, archive.encoding, archive.errors)
        except tarfile.HeaderError as exc:
            if file.tell() - len(block) == start:
                raise
            raise tarfile.ReadError(f"an extended header without an entry ({exc})") from exc
        _check_numbers(block)
        _check_size(found)
        if found.type in _PAX:
            found.type = tarfile.XHDTYPE
        elif found.type not in (tarfile.XGLTYPE, *_LONG):
            break
        data = file.read(_padded(found.size))
        if found.type in more:
            raise tarfile.ReadError("two extended headers of one kind for one entry")
        if found.type != tarfile.XGLTYPE:
            more[found.type] = data[: found.size]
    found.offset = start
    if more:
        if tarfile.XHDTYPE in more and len(more) > 1:
            raise tarfile.ReadError("extended headers of pax and of GNU for one entry")
        _extend(found, more, block, archive)
    _place(found, archive, more.get(tarfile.XHDTYPE, b""))
    return found


def _check_size(entry: Entry) -> None:
    if not 0 <= entry.size < 1 << 63:
        raise tarfile.ReadError(f"a size of {entry.size}")


def _check_numbers(block: bytes) -> None:
    if not block[100:156].translate(None, _OCTAL):
        return
    for start, end in _FIELDS:
        text = block[start:end]
        if text[0] not in _BASE_256 and text.partition(b"\0")[0].translate(None, _OCTAL):
            raise tarfile.ReadError("damaged header (a number that is none)")


def _extend(entry: Entry, more: Mapping[bytes, bytes], block: bytes, archive: Any) -> None:
    """Let the extended headers *more* go before what *block* says."""
    texts = {
        kind: data.partition(b"\0")[0].decode(archive.encoding, archive.errors)
        for kind, data in more.items()
        if kind in _LONG
    }
    fields = {
        key: value.decode(archive.encoding, archive.errors)
        for key, value in records(more.get(tarfile.XHDTYPE, b""))
    }
    name = texts.get(tarfile.GNUTYPE_LONGNAME, fields.get("path"))
    if name is not None:
        # The block has the beginning of it, which may end with a slash by chance; to the
        # oldest tars that is what a directory looks like.
        if block[156:157] == tarfile.AREGTYPE:
            entry.type = tarfile.DIRTYPE if name.endswith("/") else tarfile.AREGTYPE
        entry.name = name.rstrip("/") if entry.type == tarfile.DIRTYPE else name
    link = texts.get(tarfile.GNUTYPE_LONGLINK, fields.get("linkpath"))
    if link is not None:
        entry.linkname = link
    for key in fields.keys() & {"size", "uid", "gid"}:
        setattr(entry, key, _number(key, fields[key]))
    entry.pax_headers = fields


def _place(entry: Entry, archive: Any, pax: bytes) -> None:
    """Find the data of *entry*, and let *archive* go on behind it."""
    file = archive.fileobj
    if entry.type == tarfile.GNUTYPE_SPARSE:
        entry._proc_sparse(archive)  # type: ignore[attr-defined]  # not in typeshed
    else:
        start = file.tell()
        size = entry.size
        if entry.isreg() and b"GNU.sparse." in pax:
            _sparse(entry, pax, file)
        entry.offset_data = file.tell()
        has_data = entry.isreg() or entry.type not in tarfile.SUPPORTED_TYPES
        archive.offset = start + (_padded(size) if has_data else 0)
    pieces: Sequence[tuple[int, int]] = entry.sparse or ()  # type: ignore[assignment]  # not bytes
    _check_size(entry)
    if any(number < 0 for piece in pieces for number in piece):
        raise tarfile.ReadError("a map of a sparse file with negative numbers")
    if len(pieces) > _MOST_PIECES:
        raise tarfile.ReadError(f"a sparse file in more than {_MOST_PIECES} pieces")


def _sparse(entry: Entry, pax: bytes, file: Any) -> None:
    """What the records ``GNU.sparse.*`` say (GNU tar, "Storing Sparse Files")."""
    fields = entry.pax_headers
    if "GNU.sparse.map" in fields:
        numbers = fields["GNU.sparse.map"].split(",")
    elif "GNU.sparse.size" in fields:
        numbers = [
            value.decode("ascii", "replace")
            for key, value in records(pax)
            if key in ("GNU.sparse.offset", "GNU.sparse.numbytes")
        ]
    elif (fields.get("GNU.sparse.major"), fields.get("GNU.sparse.minor")) == ("1", "0"):
        numbers = _map_in_front(file)
    else:
        raise tarfile.ReadError("a sparse file of an unknown form")
    if len(numbers) > 2 * _MOST_PIECES:
        raise tarfile.ReadError(f"a sparse file in more than {_MOST_PIECES} pieces")
    found = [_number("map of a sparse file", text) for text in numbers if text]
    if len(found) % 2:
        raise tarfile.ReadError("a map of a sparse file that ends within a piece")
    pieces = list(zip(found[::2], found[1::2], strict=True))
    entry.sparse = pieces  # type: ignore[assignment]  # typeshed says bytes
    entry.name = fields.get("GNU.sparse.name", entry.name)
    for key in ("GNU.sparse.size", "GNU.sparse.realsize"):
        if key in fields:
            entry.size = _number(key, fields[key])


def _map_in_front(file: Any) -> list[str]:
    """The numbers that stand in front of the data, a line each, the first says how many."""
    lines: list[bytes] = []
    rest = b""
    wanted = 1
    while len(lines) < wanted:
        block = file.read(_BLOCK)
        if len(block) < _BLOCK or len(rest) > _LONGEST_NUMBER:
            raise tarfile.ReadError("a map of a sparse file that does not end")
        *found, rest = (rest + block).split(b"\n")
        lines += found
        if len(lines) > 0 and wanted == 1:
            wanted = 1 + 2 * _number("map of a sparse file", lines[0].decode("ascii", "replace"))
            if not 1 <= wanted <= 2 * _MOST_PIECES:
                raise tarfile.ReadError(f"a sparse file in more than {_MOST_PIECES} pieces")
    return [line.decode("ascii", "replace") for line in lines[1:wanted]]


def _number(what: str, text: str) -> int:
    if not _NUMBER.fullmatch(text):
        raise tarfile.ReadError(f"{what} {text[:40]!r}, which is no number")
    return int(text)


def _padded(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK
