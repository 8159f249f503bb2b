"""Where a command writes an archive: a file, which appears whole, or stdout."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from overlayfs.archive.writing.output import FileSink, published
from overlayfs.errors import OverlayError

_STDOUT = Path("-")


@contextmanager
def destination(output: Path | None) -> Iterator[FileSink]:
    """The file *output*, or stdout for None and ``-``.

    Raises OverlayError for a terminal, which could show nothing of it, and for what
    ``published`` raises it for.
    """
    if output is not None and output != _STDOUT:
        with published(output) as file:
            yield file
        return
    # Who closed it (`>&-`) has none.
    if sys.stdout is None:
        raise OverlayError("stdout is closed", hint="write to a file: -o FILE")
    if sys.stdout.isatty():
        raise OverlayError(
            "an archive is nothing for a terminal", hint="write to a file: -o FILE, or > FILE"
        )
    sys.stdout.flush()
    yield FileSink(sys.stdout.fileno(), "stdout")


def tidy_when_terminated() -> None:
    """Let SIGTERM end the command as Ctrl-C does, so that drafts are removed."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
