"""What is known of a file, in words that are fit for a terminal."""

import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

from overlayfs.errors import OverlayError
from overlayfs.printable import printable
from overlayfs.sizes import size
from overlayfs.view.entry import Entry
from overlayfs.view.extraction import Extracted

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SHELL = "/bin/sh -c "
_NO_OPERATION = "#(nop) "


def one_line(text: str) -> str:
    """*text*, with runs of white space made one space each."""
    return printable(" ".join(text.split()))


def command(created_by: str) -> str:
    """The words of a history entry, without what the classic builder puts in front of all."""
    words = one_line(created_by)
    if words.startswith(_SHELL + _NO_OPERATION):
        return words.removeprefix(_SHELL + _NO_OPERATION).strip()
    return words.removeprefix(_SHELL)


def mode(entry: Entry) -> str:
    """As ``ls -l`` writes it."""
    return stat.filemode(entry.mode)


def owner(entry: Entry) -> str:
    """The numbers; what they are called is the image's own business."""
    return f"{entry.uid}:{entry.gid}"


def when(mtime_ns: int) -> str:
    """A time, in UTC; in seconds where no calendar goes."""
    seconds = mtime_ns // 1_000_000_000
    try:
        return f"{_EPOCH + timedelta(seconds=seconds):%Y-%m-%d %H:%M:%S} UTC"
    except OverflowError:
        return f"{seconds} s"


def device(entry: Entry) -> str:
    """The numbers of a device."""
    return f"device {os.major(entry.rdev)}:{os.minor(entry.rdev)}"


def path(name: bytes) -> str:
    """A path from the root."""
    return "/" + printable(name)


def count(number: int, thing: str) -> str:
    """``1 layer``, ``2 layers``."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def failure(exc: OverlayError | OSError) -> str:
    """Why something could not be done, and the way out."""
    if isinstance(exc, OverlayError):
        return one_line(f"{exc.message} ({exc.hint})" if exc.hint else exc.message)
    reason = exc.strerror or str(exc)
    if exc.filename is None:
        return one_line(reason)
    name = exc.filename if isinstance(exc.filename, bytes) else str(exc.filename)
    return f"{printable(name)}: {one_line(reason)}"


def extracted(name: bytes, target: Path, found: Extracted) -> str:
    """What came of an extraction."""
    text = f"extracted {path(name)} to {printable(str(target))}: {count(found.files, 'file')}"
    left_out = "; ".join(f"{number} {why}" for why, number in found.left_out.items())
    return f"{text}, {size(found.size)}" + (f"; left out: {left_out}" if left_out else "")
