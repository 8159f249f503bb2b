"""Files taken out of the image: to the pager, or to a path."""

import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event
from typing import Protocol

from overlayfs.errors import OverlayError
from overlayfs.sizes import size
from overlayfs.tui import words
from overlayfs.tui.background import Background, Failure
from overlayfs.tui.pager import TOLD_EACH, Pager, Stopped, name_for, write_copy
from overlayfs.tui.reading import Reading
from overlayfs.view.entry import Entry
from overlayfs.view.extraction import Extracted


class Screen(Protocol):
    """What is drawn on, and can be lent to another program."""

    background: Background

    def say(self, text: str) -> None:
        """A line for the user."""

    def complain(self, failure: Failure) -> None:
        """Say why something could not be done."""

    def suspend(self) -> AbstractContextManager[None]:
        """The terminal as it was before."""


class Taking:
    """Takes one file after the other from *reading*; ``stop`` ends what takes long.

    *environ* says which pager to use, and is what that gets.
    """

    def __init__(self, screen: Screen, reading: Reading, environ: Mapping[str, str]) -> None:
        self._screen = screen
        self._reading = reading
        self._environ = environ
        self._stop = Event()
        self._folder: TemporaryDirectory[str] | None = None

    def open(self, path: bytes, entry: Entry) -> None:
        """Copy the regular file *path* to where only we can read it, and show that."""
        try:
            pager = Pager(self._environ)
        except OverlayError as exc:
            self._screen.complain(exc)
            return
        if self._folder is None:
            self._folder = TemporaryDirectory(prefix="pyoverlay-")
        target = Path(self._folder.name) / name_for(path)
        stop = self._begin()
        tell = self._teller(words.path(path), f"of {size(entry.size)}")

        def copy() -> None:
            with self._reading.open(path, entry.layer) as body:
                write_copy(
                    body, entry.size, target, as_it_is=pager.takes_bytes, stop=stop, tell=tell
                )

        def show(_: None) -> None:
            self._screen.say("")
            with self._screen.suspend():
                pager.show(target)
            target.unlink()

        def failed(failure: Failure) -> None:
            target.unlink(missing_ok=True)
            self._screen.complain(failure)

        self._screen.background.run(copy, show, failed)

    def extract(self, path: bytes, layers: range, where: str) -> None:
        """Make *path*, as these layers have it, *where* the user says.

        That is its new name, or a directory that it is put into.
        """
        target = Path(where).expanduser()
        if target.is_dir():
            target /= os.fsdecode(path.rpartition(b"/")[2] or b"image")
        stop = self._begin()
        tell = self._teller(f"extracting {words.path(path)}")
        copied = told = 0

        def progress(more: int) -> None:
            nonlocal copied, told
            if stop.is_set():
                raise Stopped
            copied += more
            if copied - told >= TOLD_EACH:
                told = copied
                tell(copied)

        def make() -> Extracted:
            return self._reading.extract(path, layers, target, progress)

        def made(found: Extracted) -> None:
            self._screen.say(words.extracted(path, target, found))

        self._screen.background.run(make, made, self._screen.complain)

    def stop(self) -> None:
        """End what is under way."""
        self._stop.set()

    def close(self) -> None:
        """End what is under way, and remove what was copied."""
        self.stop()
        if self._folder is not None:
            self._folder.cleanup()

    def _begin(self) -> Event:
        """End what was under way for something else, which the event will end."""
        self.stop()
        self._stop = Event()
        return self._stop

    def _teller(self, what: str, of_how_much: str = "") -> Callable[[int], None]:
        """For a thread: says how far *what* is."""

        def say(done: int) -> None:
            self._screen.say(" ".join([f"{what}: {size(done)}", of_how_much, "(esc stops)"]))

        return lambda done: self._screen.background.tell(say, done)
