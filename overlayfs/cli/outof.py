"""What `cp` and `extract` share: files of an image that are made on this machine."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from overlayfs.cli.output import note
from overlayfs.errors import OverlayError
from overlayfs.printable import printable

if TYPE_CHECKING:
    from overlayfs.view.extraction import Extracted, Kept
    from overlayfs.view.image import ImageView


def extracted(
    view: "ImageView", top: bytes, folder: Path, name: bytes, kept: "Kept", *, shown: Path
) -> None:
    """Make *top* of *view* the file *name* in *folder*; says so when it is not complete.

    *shown* is what the user called the result.
    """
    from overlayfs.view.extraction import extract

    with _directory(folder) as fd:
        try:
            done = extract(view, top, fd, name, kept)
        except BaseException:
            note(f"{shown}: not complete")
            raise
    _report(done)


def _report(done: "Extracted") -> None:
    for why, count in done.left_out.items():
        note(f"left out: {count} {why}")


@contextmanager
def _directory(path: Path) -> Iterator[int]:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as exc:
        raise OverlayError(f"{printable(str(path))}: {exc.strerror}") from exc
    try:
        yield fd
    finally:
        os.close(fd)
