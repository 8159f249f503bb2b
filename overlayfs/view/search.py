"""What find(1) asks of a file."""

import re
import stat
from collections.abc import Callable, Collection
from fnmatch import translate

from overlayfs.errors import OverlayError
from overlayfs.printable import printable
from overlayfs.union.attrs import Kind
from overlayfs.view.entry import Entry

Test = Callable[[bytes, Entry], bool]

_UNITS = {"c": 1, "b": 512, "": 512, "k": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_SIZE = re.compile(r"([+-]?)([0-9]{1,15})([cbkMGT]?)", re.ASCII)
_MODE = re.compile(r"([/-]?)([0-7]{1,4})", re.ASCII)
KINDS = {
    "f": Kind.FILE,
    "d": Kind.DIRECTORY,
    "l": Kind.SYMLINK,
    "c": Kind.CHAR,
    "b": Kind.BLOCK,
    "p": Kind.FIFO,
    "s": Kind.SOCKET,
}


def name(pattern: bytes, *, ignore_case: bool = False) -> Test:
    """Files whose last name fits the shell's *pattern*."""
    match = _pattern(pattern, ignore_case=ignore_case)
    return lambda path, _: match(path.rpartition(b"/")[2]) is not None


def path(pattern: bytes) -> Test:
    """Files whose path, with a slash in front, fits *pattern*, whose ``*`` takes slashes too."""
    match = _pattern(pattern, ignore_case=False)
    return lambda at, _: match(b"/" + at) is not None


def _pattern(pattern: bytes, *, ignore_case: bool) -> Callable[[bytes], object]:
    # fnmatch makes expressions of texts; this way each byte is one letter.
    text = translate(pattern.decode("latin-1"))
    flags = re.IGNORECASE if ignore_case else re.NOFLAG
    return re.compile(text.encode("latin-1"), flags).match


def size(text: str) -> Test:
    """Files of the size *text*: ``+10M`` more than that, ``-10M`` less, ``10M`` that many.

    As find(1) counts: in units, of which a part is a whole one.  The units are c, k, M, G and
    T, of 1024 each, and blocks of 512 bytes without a letter.  Directories have no size.
    """
    match = _SIZE.fullmatch(text)
    if match is None:
        raise OverlayError(f"{printable(text)!r} is no size", hint="say +10M, -4k or 100c")
    sign, number, unit = match[1], int(match[2]), _UNITS[match[3]]

    def fits(_: bytes, entry: Entry) -> bool:
        if entry.is_dir:
            return False
        units = -(-entry.size // unit)
        return units > number if sign == "+" else units < number if sign else units == number

    return fits


def mode(text: str) -> Test:
    """Files with just the mode *text* (octal); ``-`` in front: all its bits, ``/``: any."""
    match = _MODE.fullmatch(text)
    if match is None:
        raise OverlayError(
            f"{printable(text)!r} is no mode", hint="say 0755, -4000 (all bits) or /6000 (any)"
        )
    how, bits = match[1], int(match[2], 8)
    if how == "-":
        return lambda _, entry: entry.mode & bits == bits
    if how == "/":
        return lambda _, entry: not bits or bool(entry.mode & bits)
    return lambda _, entry: stat.S_IMODE(entry.mode) == bits


def kinds(letters: str) -> Test:
    """Files of the kinds *letters*, with commas between: f, d, l, c, b, p, s."""
    wanted = letters.split(",")
    unknown = [letter for letter in wanted if letter not in KINDS]
    if unknown:
        raise OverlayError(
            f"{printable(unknown[0])!r} is no kind of file", hint=f"say one of {' '.join(KINDS)}"
        )
    found = {KINDS[letter] for letter in wanted}
    return lambda _, entry: entry.kind in found


def newer(mtime_ns: int) -> Test:
    """Files that were changed later than *mtime_ns*."""
    return lambda _, entry: entry.mtime_ns > mtime_ns


def owner(ids: Collection[int]) -> Test:
    """Files of one of the users *ids*."""
    return lambda _, entry: entry.uid in ids


def group(ids: Collection[int]) -> Test:
    """Files of one of the groups *ids*."""
    return lambda _, entry: entry.gid in ids


def layer(number: int) -> Test:
    """Files that come from the layer *number*."""
    return lambda _, entry: entry.layer == number
