"""What a person sees while an image is unpacked, on stderr."""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from overlayfs.cli.output import note, size

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

# Plain lines: often enough to see that it lives, seldom enough for a log.
STEP = 0.1
SECONDS_BETWEEN = 2.0
SECONDS_AT_MOST = 30.0


class Progress(Protocol):
    """What the store reports to."""

    def begin(self, total: int | None) -> None:
        """*total* bytes are to be read, if that is known."""

    def advance(self, n: int) -> None:
        """*n* bytes more were read; called by any thread."""


@contextmanager
def shown(what: str) -> Iterator[Progress]:
    """A bar when stderr is a terminal, else lines; nothing when there is nothing to wait for."""
    if sys.stderr.isatty():
        with _bar(what) as bar:
            yield bar
    else:
        yield Lines(what)


@contextmanager
def drawn(what: str) -> Iterator[Progress]:
    """A bar when stderr is a terminal, else nothing: for what scripts expect to be silent."""
    if sys.stderr.isatty():
        with _bar(what) as bar:
            yield bar
    else:
        yield Silence()


class Silence:
    """Says nothing."""

    def begin(self, total: int | None) -> None:
        """Nobody watches."""

    def advance(self, n: int) -> None:
        """Nobody watches."""


class Lines:
    """A line at the beginning and then one for each tenth, but not too often."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._lock = threading.Lock()
        self._total: int | None = None
        self._done = 0
        self._said = 0
        self._started = self._last = time.monotonic()

    def begin(self, total: int | None) -> None:
        """Says what is about to happen."""
        self._total = total
        self._started = self._last = time.monotonic()
        note(f"unpacking {self._what}" + (f" ({size(total)})" if total is not None else ""))

    def advance(self, n: int) -> None:
        """Says how far it is, when a tenth more is done or a long time has passed."""
        with self._lock:
            self._done += n
            now = time.monotonic()
            waited = now - self._last
            enough = self._total is not None and self._done - self._said >= STEP * self._total
            if waited < SECONDS_BETWEEN or not (enough or waited >= SECONDS_AT_MOST):
                return
            self._last, self._said = now, self._done
            note(self._line(now))

    def _line(self, now: float) -> str:
        rate = self._done / max(now - self._started, 0.001)
        if self._total is None:
            return f"unpacking {self._what}: {size(self._done)}, {size(rate)}/s"
        share = 100 * self._done / max(self._total, 1)
        left = max(self._total - self._done, 0) / max(rate, 1)
        return f"unpacking {self._what}: {share:.0f}%, {size(rate)}/s, {left:.0f} s left"


class Bar:
    """One line that is drawn over and over."""

    def __init__(self, drawn: "RichProgress", task: "TaskID") -> None:
        self._drawn = drawn
        self._task = task

    def begin(self, total: int | None) -> None:
        """Shows the bar."""
        self._drawn.update(self._task, total=total, visible=True)
        self._drawn.start_task(self._task)

    def advance(self, n: int) -> None:
        """Moves it."""
        self._drawn.update(self._task, advance=n)


@contextmanager
def _bar(what: str) -> Iterator[Bar]:
    # Drawing needs a library that takes longer to import than a small image to mount.
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )
    from rich.progress import Progress as RichProgress

    with RichProgress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    ) as drawn:
        yield Bar(drawn, drawn.add_task(escape(what), start=False, visible=False, total=None))
