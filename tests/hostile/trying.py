"""Images at random through every door, many in one process."""

import os
import random
import resource
import signal
import time
import traceback
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from overlayfs.archive.detect import open_image
from overlayfs.errors import OverlayError
from overlayfs.store.drafts import remove_path
from overlayfs.store.store import Store
from overlayfs.view.extraction import Kept, extract
from overlayfs.view.opening import of_source
from tests.hostile.case import Ground
from tests.hostile.doors import MEMORY, SECONDS, check_message, looked_at, memory_of, tree_of
from tests.hostile.mutation import image

# No more can be had at all, which would be an error.
_SPACE = 4 << 30


@dataclass(frozen=True, slots=True)
class Failure:
    """The image *number* was neither taken nor refused."""

    number: int
    reason: str


@dataclass(frozen=True, slots=True)
class Trial:
    """Images by number, each on *ground*."""

    ground: Ground

    def run(self, numbers: Iterable[int]) -> list[Failure]:
        """What failed among *numbers*, in processes of their own; seeds are made but once."""
        image(random.Random(0), "")
        return [failure for number in numbers if (failure := self._apart(number)) is not None]

    def _apart(self, number: int) -> Failure | None:
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            signal.alarm(SECONDS)
            try:
                self._try(number)
            except BaseException:
                os.write(writing, traceback.format_exc()[-3000:].encode())
            finally:
                os._exit(0)
        os.close(writing)
        with os.fdopen(reading, "rb") as pipe:
            said = pipe.read().decode()
        status = os.waitpid(child, 0)[1]
        if os.WIFSIGNALED(status):
            said = f"ended by signal {os.WTERMSIG(status)} (14: not done in {SECONDS} s)"
        return Failure(number, said) if said else None

    def _try(self, number: int) -> None:
        resource.setrlimit(resource.RLIMIT_AS, (_SPACE, _SPACE))
        Path("/proc/self/clear_refs").write_text("5")
        had = memory_of("VmRSS")
        began = time.monotonic()
        path = self.ground.base / "fuzz.tar"
        path.write_bytes(image(random.Random(number), str(self.ground.outside)))
        home = self.ground.base / "fuzz"
        home.mkdir()
        try:
            for door in (_store, _view, _extract):
                try:
                    door(path, home)
                except OverlayError as exc:
                    check_message(exc.message, exc.hint)
        finally:
            remove_path(home)
        assert time.monotonic() - began < SECONDS
        assert memory_of("VmHWM") - had < MEMORY


def _store(path: Path, home: Path) -> None:
    store = Store.open(home / "store")
    try:
        with open_image(str(path), scratch=store.scratch) as source:
            tree_of(store.add(source), store.format)
    finally:
        assert not any((home / "store/tmp").iterdir())
        assert not any((home / "store/scratch").iterdir())


def _view(path: Path, home: Path) -> None:
    with (
        open_image(str(path), scratch=home) as source,
        of_source(source, what="image", scratch=home) as view,
    ):
        looked_at(view)


def _extract(path: Path, home: Path) -> None:
    folder = os.open(home, os.O_RDONLY | os.O_DIRECTORY)
    with (
        open_image(str(path), scratch=home) as source,
        of_source(source, what="image", scratch=home) as view,
    ):
        extract(view, b"/", folder, b"tree", Kept(owner=True))
