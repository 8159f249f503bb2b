"""How much may come out of an image: a bomb ends before the disk does.

Two limits, since neither does alone: a megabyte may stand for terabytes (deflate packs 1,032 to
one, zstd much more), and an honest image may be larger than the disk.
"""

import os
import re
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from overlayfs.errors import InvalidImage, OverlayError
from overlayfs.printable import printable

RATIO = "PYOVERLAY_MAX_RATIO"
BEYOND = "PYOVERLAY_MAX_RATIO_BEYOND"
FREE = "PYOVERLAY_MIN_FREE"

# How much comes between two looks at the disk; small images need none.
_STRIDE = 64 << 20
_SIZE = re.compile(r"([0-9]{1,9})([KMGT]?)", re.ASCII)
_SHARE = 5
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


@dataclass(frozen=True, slots=True)
class Limits:
    """Beyond *beyond* bytes an image unpacks to *ratio* times its size at most (0: any).

    The disk keeps *free* bytes, and *share* hundredths of what it has if that is less, of
    inodes as well; with a *share* of 0 it may be filled.
    """

    # Root file systems pack three or four to one, logs and the like up to thirty.
    ratio: int = 100
    # Files of nothing but zeros are in honest images too.
    beyond: int = 1 << 30
    free: int = 1 << 30
    share: int = _SHARE

    @classmethod
    def chosen(cls) -> Self:
        """Those of the environment; OverlayError for what is no number there."""
        usual = cls()
        free = _chosen(FREE)
        return cls(
            usual.ratio if (ratio := _chosen(RATIO)) is None else ratio,
            usual.beyond if (beyond := _chosen(BEYOND)) is None else beyond,
            usual.free if free is None else free,
            # Who says how much means it, however small the disk.
            usual.share if free is None else 100 if free else 0,
        )

    def says_full(self, disk: os.statvfs_result) -> bool:
        """Whether *disk* has no more to give."""
        whole, free = disk.f_blocks * disk.f_frsize, disk.f_bavail * disk.f_frsize
        if free < min(self.free, whole * self.share // 100):
            return True
        # Some file systems have no fixed number of inodes, and say 0.
        share = min(self.share, _SHARE)
        return disk.f_files > 0 and disk.f_favail * 100 < disk.f_files * share


class Allowance:
    """What may still come out of an image, or of an archive; any thread may take of it."""

    def __init__(
        self, packed: int, what: str, *, into: Path | None = None, limits: Limits | None = None
    ) -> None:
        """*packed* bytes are read, *what* begins messages, *into* is where files are written.

        Without *limits* they are those of the environment.
        """
        self._packed = packed
        self._what = what
        self._into = into
        self._limits = limits or Limits.chosen()
        self._lock = threading.Lock()
        self._taken = 0
        self._written = 0  # since the disk was looked at

    def take(self, n: int, *, packed: int = 0) -> None:
        """*n* bytes more come out; *packed* were read in all, if that was not known before.

        Raises InvalidImage when they are too many for what is packed, and OverlayError when
        the disk has no more to give.
        """
        with self._lock:
            self._taken += n
            self._packed = max(self._packed, packed)
            taken, known = self._taken, self._packed
        ratio, beyond = self._limits.ratio, self._limits.beyond
        if ratio and taken > beyond and taken > ratio * known:
            raise InvalidImage(
                f"{self._what} unpacks to more than {max(beyond, ratio * known) >> 20} MiB, "
                f"over {ratio} times its size",
                hint=f"if it should, allow more with {RATIO}={ratio * 10}, or any with 0",
            )
        self.write(n)

    def write(self, n: int) -> None:
        """*n* bytes more are written; OverlayError when the disk has no more to give."""
        with self._lock:
            self._written += n
            look = self._written >= _STRIDE
            if look:
                self._written = 0
        if look and self._into is not None and self._limits.says_full(os.statvfs(self._into)):
            raise OverlayError(
                f"{self._what} leaves too little free on the disk of {printable(str(self._into))}",
                hint=f"make room, choose another store with --root, or allow it with {FREE}=0",
            )


def _chosen(name: str) -> int | None:
    text = os.environ.get(name, "")
    if not text:
        return None
    match = _SIZE.fullmatch(text)
    if match is None:
        raise OverlayError(
            f"{name}: {printable(text, 40)!r} is no number", hint="write 100, 500M or 2G"
        )
    return int(match[1]) * _UNITS[match[2]]
