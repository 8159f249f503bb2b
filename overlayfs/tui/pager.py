"""A file of an image in the user's pager."""

import codecs
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Event
from typing import BinaryIO

from overlayfs.errors import OverlayError
from overlayfs.printable import printable

_PIECE = 1 << 18
# A progress that is told more often is nothing to read.
TOLD_EACH = 8 << 20
_LONGEST_NAME = 200
# Between these, text may have anything that a terminal would obey.
_LINES = re.compile(r"[^\n\t]+")


class Stopped(OverlayError):
    """The user did not want to wait."""

    def __init__(self) -> None:
        super().__init__("stopped")


class Pager:
    """The program that $PAGER names, else less."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        """Raises OverlayError when there is no such program."""
        name = environ.get("PAGER", "").strip() or "less"
        try:
            words = shlex.split(name)
        except ValueError as exc:
            raise OverlayError(f"PAGER={printable(name)}: {exc}") from exc
        if not words or shutil.which(words[0], path=environ.get("PATH")) is None:
            raise OverlayError(
                f"{printable(name)}: no such program", hint="set PAGER to one that shows files"
            )
        self._is_less = Path(words[0]).name == "less"
        # Whatever $LESS says: no control sequence of the file reaches the terminal, and no
        # program ($LESSOPEN) is run on it.
        self._words = [*words, "-+R", "-+r", "-L"] if self._is_less else words
        self._environ = environ

    @property
    def takes_bytes(self) -> bool:
        """Whether it can be trusted with bytes as they are; others get escapes made visible."""
        return self._is_less

    def command(self, path: Path) -> list[str]:
        """What is run for *path*, which is absolute."""
        return [*self._words, str(path)]

    def show(self, path: Path) -> None:
        """Run it on *path*, and return when the user leaves it."""
        subprocess.run(self.command(path), env=dict(self._environ), check=False)


def write_copy(
    body: BinaryIO,
    size: int,
    target: Path,
    *,
    as_it_is: bool,
    stop: Event,
    tell: Callable[[int], None],
) -> None:
    """Write the file *body* of *size* bytes to *target*, which must not exist.

    Unless *as_it_is*, what a terminal would obey is written as escapes.  *tell* is called now
    and then with the bytes that are done.  Raises Stopped soon after *stop* is set, and
    OverlayError when the disk has no room.
    """
    free = shutil.disk_usage(target.parent).free
    if size > free:
        raise OverlayError(
            f"{target.parent}: {size} bytes are needed, {free} are free",
            hint="set TMPDIR to a directory with more room, or extract the file",
        )
    done = told = 0
    decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
    fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as copy:
        while piece := body.read(_PIECE):
            if stop.is_set():
                raise Stopped
            done += len(piece)
            copy.write(piece if as_it_is else visible(decoder.decode(piece)))
            if done - told >= TOLD_EACH:
                told = done
                tell(done)
        if not as_it_is:
            copy.write(visible(decoder.decode(b"", final=True)))


def visible(text: str) -> bytes:
    """*text* with all but line breaks and tabs fit for a terminal."""
    return _LINES.sub(lambda found: printable(found[0]), text).encode()


def name_for(path: bytes) -> str:
    """A file name that shows in a pager's last line what the file is called in the image."""
    name = printable(path.rpartition(b"/")[2]).replace("/", "_")
    return name.encode()[:_LONGEST_NAME].decode(errors="ignore")
