"""One layer of an image, by path."""

from collections.abc import Iterable
from typing import BinaryIO, Protocol

from overlayfs.image.digest import Digest
from overlayfs.union.merge import Found, Listing
from overlayfs.view.entry import Entry, Whiteout


class Part(Protocol):
    """A layer alone: what it has, and what it hides of those below.

    Paths are relative to the root, which is ``b""``, and no symbolic link in them is
    followed.  What a layer leaves unsaid is complete: the attributes of a directory that is
    only implied, and the file of a hard link into a lower layer, are those of the layers
    below.  Methods raise OSError as the system call of the same kind does, and InvalidImage
    for a layer that is damaged or hostile.
    """

    @property
    def number(self) -> int:
        """Its place in the image; 1 is the base."""

    @property
    def diff_id(self) -> Digest | None:
        """The digest of its tar; None for an upper directory, which has none."""

    def find(self, path: bytes) -> Entry | Whiteout | None:
        """What the layer has at *path*; None when it has nothing to say."""

    def look(self, path: bytes) -> Found | None:
        """The same at less cost: the kind, and whether it shows alone, nothing of below with it."""

    def is_implied(self, path: bytes) -> bool:
        """Whether its directory *path* is there only because something lies in it."""

    def listing(self, path: bytes) -> Listing:
        """Its part of the directory *path*: kinds and whiteouts, by name."""

    def entries(self, path: bytes, names: Iterable[bytes]) -> dict[bytes, Entry]:
        """Each of *names*, which are files in its directory *path*: one look for all."""

    def open(self, path: bytes) -> BinaryIO:
        """The body of its regular file *path*."""

    def xattrs(self, path: bytes) -> dict[bytes, bytes]:
        """The extended attributes of its file *path*."""

    def verify(self) -> None:
        """Read all of the layer, if that was not done yet; InvalidImage when it is another one."""

    def close(self) -> None:
        """Let go of what is open; bodies that were opened stay so."""
