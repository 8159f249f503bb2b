"""Where bytes go on their way out: each sink hands on to the next, and the last is a file."""

import hashlib
from typing import Protocol

from overlayfs.archive.writing.packing import Packing
from overlayfs.image.digest import Digest


class Sink(Protocol):
    """Takes bytes, all that it is given."""

    def write(self, data: bytes, /) -> object:
        """Take *data*; OSError when they cannot be kept."""


class Hashing:
    """Counts and hashes what passes to *out*."""

    def __init__(self, out: Sink | None = None) -> None:
        """Without *out* the bytes go nowhere else."""
        self._out = out
        self._hash = hashlib.sha256()
        self.count = 0

    def write(self, data: bytes) -> None:
        """Pass *data* on."""
        self._hash.update(data)
        self.count += len(data)
        if self._out is not None:
            self._out.write(data)

    @property
    def digest(self) -> Digest:
        """The digest of all that has passed."""
        return Digest("sha256", self._hash.hexdigest())


class Packed:
    """Compresses what passes to *out*; ``end`` writes the rest, and leaves *out* open."""

    def __init__(self, out: Sink, packing: Packing) -> None:
        self._out = out
        self._encoder = packing.encoder()

    def write(self, data: bytes) -> None:
        """Pass *data* on, perhaps later."""
        if packed := self._encoder.encode(data):
            self._out.write(packed)

    def end(self) -> None:
        """Pass on what was held back."""
        if packed := self._encoder.end():
            self._out.write(packed)
