"""Images at random, chosen by atheris for what of our readers they reach."""

import random
import sys

# No dependency of the tests; who wants it installs it: pip install atheris.
import atheris  # type: ignore[import-not-found]  # it may be absent

from overlayfs.archive.detect import open_image
from overlayfs.errors import OverlayError
from overlayfs.view.opening import of_source
from tests.hostile.case import Ground
from tests.hostile.doors import check_message
from tests.hostile.mutation import image

__all__ = ["guided"]


def guided(ground: Ground, minutes: float | None) -> int:
    """Read one archive after the other, until something else than OverlayError is raised.

    The process ends then, or when the *minutes* are over, as libFuzzer has it.
    """
    path, scratch = ground.base / "guided.tar", ground.base / "scratch"
    scratch.mkdir()

    def once(data: bytes) -> None:
        path.write_bytes(image(_Chosen(data), str(ground.outside)))
        try:
            with (
                open_image(str(path), scratch=scratch) as source,
                of_source(source, what="it", scratch=scratch) as view,
            ):
                for name, entry in view.walk():
                    view.xattrs(name, follow=False)
                    assert entry.size >= 0
                view.verify()
        except OverlayError as exc:
            check_message(exc.message, exc.hint)

    arguments = [sys.argv[0], "-timeout=20", "-rss_limit_mb=2048"]
    if minutes is not None:
        arguments.append(f"-max_total_time={round(minutes * 60)}")
    atheris.instrument_all()
    atheris.Setup(arguments, once)
    atheris.Fuzz()
    return 0


class _Chosen(random.Random):
    """Chance, as somebody else chooses it; at the end of what was chosen it is real."""

    def __init__(self, data: bytes) -> None:
        super().__init__(len(data))
        self._data = data
        self._at = 0

    def random(self) -> float:
        if self._at + 2 > len(self._data):
            return super().random()
        two = self._data[self._at : self._at + 2]
        self._at += 2
        return int.from_bytes(two, "little") / (1 << 16)

    def getrandbits(self, k: int) -> int:
        wanted = (k + 7) // 8
        if self._at + wanted > len(self._data):
            return super().getrandbits(k)
        found = int.from_bytes(self._data[self._at : self._at + wanted], "little")
        self._at += wanted
        return found & ((1 << k) - 1)
