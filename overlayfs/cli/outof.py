"""What `cp` and `extract` share: files of an image that are made on this machine."""

from pathlib import Path
from typing import TYPE_CHECKING

from overlayfs.cli.output import note

if TYPE_CHECKING:
    from overlayfs.view.extraction import Extracted, Kept
    from overlayfs.view.image import ImageView


def extracted(
    view: "ImageView", top: bytes, folder: Path, name: bytes, kept: "Kept", *, shown: Path
) -> None:
    """Make *top* of *view* the file *name* in *folder*; says so when it is not complete.

    *shown* is what the user called the result.
    """
    from overlayfs.view.extraction import destination, extract

    with destination(folder) as fd:
        try:
            done = extract(view, top, fd, name, kept)
        except BaseException:
            note(f"{shown}: not complete")
            raise
    _report(done)


def _report(done: "Extracted") -> None:
    for why, count in done.left_out.items():
        note(f"left out: {count} {why}")
