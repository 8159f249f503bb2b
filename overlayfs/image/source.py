"""Where an image comes from: what a store needs to take one in."""

from abc import ABC, abstractmethod
from types import TracebackType
from typing import BinaryIO, Protocol, Self

from overlayfs.image.descriptor import Descriptor
from overlayfs.image.digest import Digest


class Closing(ABC):
    """What is closed at the end of a ``with``."""

    @abstractmethod
    def close(self) -> None:
        """Let go of what is held."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class LayerSource(Protocol):
    """One layer of an image, not yet verified."""

    @property
    def diff_id(self) -> Digest:
        """The digest of the uncompressed tar, as the image's configuration has it."""

    @property
    def descriptor(self) -> Descriptor | None:
        """What the blob must be; None where the source does not say (docker-archive)."""

    @property
    def size(self) -> int:
        """How many bytes ``open`` will give, as far as the source knows."""

    def open(self) -> BinaryIO:
        """The raw bytes of the blob, compressed or not, from the start.

        Every call gives a handle of its own, which any thread may read and which outlives
        the source.  Nothing is verified yet: who reads, hashes.
        """


class ImageSource(Protocol):
    """One image, already chosen; ``close`` (or ``with``) lets go of what it holds."""

    @property
    def names(self) -> tuple[str, ...]:
        """Familiar names (``busybox:latest``), perhaps none."""

    @property
    def manifest(self) -> bytes | None:
        """The manifest's exact bytes, verified; None where the source has none."""

    @property
    def manifest_descriptor(self) -> Descriptor | None:
        """The descriptor of those bytes."""

    @property
    def config(self) -> bytes:
        """The configuration's exact bytes, verified where its digest is known."""

    @property
    def config_digest(self) -> Digest:
        """The digest of those bytes: the image's id."""

    @property
    def layers(self) -> tuple[LayerSource, ...]:
        """The layers, base first, as many as the configuration has diff ids."""

    def close(self) -> None:
        """Let go of the source; handles that ``open`` gave stay usable."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...
