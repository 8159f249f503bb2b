"""Every path of the store, and nothing else."""

import os
from dataclasses import dataclass
from pathlib import Path

from overlayfs.image.digest import Digest
from overlayfs.linux.namespaces import is_root

# A blob never changes, as its name is its digest; those of other tools are told by this.
BLOB_MODE = 0o444


def default_root() -> Path:
    """``$PYOVERLAY_ROOT``, else /var/lib/pyoverlay for root and XDG's place for others.

    Root of a user namespace only is one of the others: the store is that of the user.
    """
    chosen = os.environ.get("PYOVERLAY_ROOT")
    if chosen:
        return Path(chosen)
    if is_root():
        return Path("/var/lib/pyoverlay")
    # XDG Base Directory Specification: a relative value is to be ignored.
    data = Path(os.environ.get("XDG_DATA_HOME", ""))
    return (data if data.is_absolute() else Path.home() / ".local/share") / "pyoverlay"


@dataclass(frozen=True, slots=True)
class Paths:
    """Where things are below *root*.

    ``oci-layout``, ``index.json`` and ``blobs`` make an OCI image layout; the rest lies
    beside it, as image-layout.md allows.  Each is made in one step, since an image may have
    hundreds of layers with several paths each.
    """

    root: Path

    @property
    def settings(self) -> Path:
        """What was decided when the store was made."""
        return self.root / "store.json"

    @property
    def layout(self) -> Path:
        """The file that makes the store an OCI image layout."""
        return self.root / "oci-layout"

    @property
    def index(self) -> Path:
        """The names of images."""
        return self.root / "index.json"

    @property
    def drafts(self) -> Path:
        """What is not finished."""
        return self.root / "tmp"

    @property
    def scratch(self) -> Path:
        """Nameless temporary files of those who read images."""
        return self.root / "scratch"

    @property
    def locks(self) -> Path:
        """The lock files that are in use."""
        return self.root / "locks"

    @property
    def reserve(self) -> Path:
        """Room on the disk that is kept back."""
        return self.root / "reserve"

    @property
    def mounts(self) -> Path:
        """The mounts, by their ids."""
        return self.root / "mounts"

    @property
    def blobs(self) -> Path:
        """The blobs, by algorithm and digest."""
        return self.root / "blobs"

    @property
    def layers(self) -> Path:
        """The unpacked layers, and for each diff id what is known of it."""
        return self.root / "layers/sha256"

    @property
    def chains(self) -> Path:
        """Which unpacked layer ends a chain, as symbolic links by chain id."""
        return self.root / "layers/chains"

    @property
    def settled(self) -> Path:
        """When the folder of layers had last changed that is on the disk as a whole."""
        return self.root / "layers/settled"

    def directories(self) -> tuple[Path, ...]:
        """What must be there before anything else."""
        blobs = self.blobs / "sha256"
        return (blobs, self.drafts, self.scratch, self.locks, self.layers, self.chains)

    def blob(self, digest: Digest) -> Path:
        """The bytes that *digest* names."""
        return self.root / f"blobs/{digest.algorithm}/{digest.hex}"

    def diff(self, diff_id: Digest) -> Path:
        """What is known about the layer *diff_id* whatever it lies on."""
        return self.root / f"layers/sha256/{diff_id.hex}.json"

    def layer(self, name: str) -> Path:
        """The layer directory *name*."""
        return self.root / f"layers/sha256/{name}"

    def chain(self, chain_id: Digest) -> Path:
        """The link to the unpacked layer that ends the chain *chain_id*."""
        return self.root / f"layers/chains/{chain_id.hex}"

    def lock(self, name: str) -> Path:
        """The lock file for *name*."""
        return self.locks / name


def tree(layer: Path) -> Path:
    """The unpacked files of the layer directory *layer*."""
    return layer / "root"


def record(layer: Path) -> Path:
    """What is known about the layer directory *layer*."""
    return layer / "layer.json"
