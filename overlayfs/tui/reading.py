"""The files of what is explored, for several threads."""

import os
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import BinaryIO

from overlayfs.errors import OverlayError
from overlayfs.printable import printable
from overlayfs.tui.model import Model
from overlayfs.tui.subject import Subject
from overlayfs.view.extraction import Extracted, Kept, destination, extract
from overlayfs.view.image import ImageView


class Reading:
    """The view of *subject*, which one thread at a time may use.

    Methods wait for that, and for what they read: call them beside the loop that draws.  They
    raise OSError and OverlayError as the view does.
    """

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._lock = Lock()
        self._view: ImageView | None = None

    def load(self) -> Model:
        """All layers, as they are now."""
        with self._lock:
            self._close()
            self._view = self._subject.view()
            return Model.of(self._view.parts)

    def open(self, path: bytes, layer: int) -> BinaryIO:
        """The body of the regular file *path* that *layer* has."""
        with self._lock:
            return self._opened().parts[layer - 1].open(path)

    def xattrs(self, path: bytes, layer: int) -> dict[bytes, bytes]:
        """The extended attributes of *path* in *layer*."""
        with self._lock:
            return self._opened().parts[layer - 1].xattrs(path)

    def extract(
        self, path: bytes, layers: range, target: Path, progress: Callable[[int], None]
    ) -> Extracted:
        """Make *path*, as the layers of these numbers have it, the new file *target*.

        It belongs to the user, and has no set-user-ID bit, then: a stranger made it.  Raises
        OverlayError when something is there already.
        """
        if os.path.lexists(target):
            raise OverlayError(f"{printable(str(target))}: is there already")
        with self._lock, destination(target.parent) as into:
            parts = self._opened().parts
            view = ImageView([parts[number - 1] for number in layers])
            return extract(
                view, path, into, os.fsencode(target.name), Kept(owner=False), progress=progress
            )

    def _opened(self) -> ImageView:
        if self._view is None:
            self._view = self._subject.view()
        return self._view

    def close(self) -> None:
        """Let go of the layers."""
        with self._lock:
            self._close()

    def _close(self) -> None:
        if self._view is not None:
            self._view.close()
            self._view = None
