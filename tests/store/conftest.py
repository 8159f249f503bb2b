"""What the tests of the store share: images made here, opened by the project's own readers."""

import gzip
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from overlayfs.archive.detect import open_image
from overlayfs.image.source import ImageSource
from overlayfs.store.store import Store, StoredImage
from tests.support.archives import Made, descriptor, from_1_10, layout, write_directory, write_tar
from tests.support.layers import file, folder, link, symlink, tar

OCI = "application/vnd.oci.image"

BASE = tar(
    folder("./", 0o711), folder("etc", 0o750, uid=3), file("etc/passwd", b"root" * 100),
    file("bin", b"b" * 300_000), symlink("sh", "bin"), file("etc/old"),
)  # fmt: skip
UPPER = tar(file("etc/new", b"new"), file("etc/.wh.old"), link("linked", "bin"))


def gzipped(data: bytes) -> bytes:
    """*data* in gzip, the same whatever the time."""
    return gzip.compress(data, mtime=0)


def oci(
    path: Path,
    *layers: bytes,
    name: str | None = "app:1",
    pack: Callable[[bytes], bytes] | None = gzipped,
    suffix: str = "+gzip",
) -> Path:
    """An OCI layout at *path* with one image of *layers*, each packed by *pack*."""
    made = Made(layers)
    blobs = [pack(layer) if pack else layer for layer in layers]
    kind = f"{OCI}.layer.v1.tar{suffix if pack else ''}"
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": f"{OCI}.manifest.v1+json",
            "config": descriptor(f"{OCI}.config.v1+json", made.config),
            "layers": [descriptor(kind, blob) for blob in blobs],
        },
        indent=1,
    ).encode()
    annotations = {"org.opencontainers.image.ref.name": name} if name else {}
    entry = descriptor(f"{OCI}.manifest.v1+json", manifest, annotations=annotations)
    return write_directory(path, layout([entry], manifest, made.config, *blobs))


def docker(path: Path, *layers: bytes, name: str = "app:1") -> Path:
    """What ``docker save`` writes of an image of *layers*."""
    return write_tar(path, from_1_10([(Made(layers), [name])]))


@contextmanager
def opened(store: Store, path: Path) -> Iterator[ImageSource]:
    """The only image at *path*."""
    with open_image(str(path), platform=None, scratch=store.scratch) as source:
        yield source


def add(store: Store, path: Path) -> StoredImage:
    """The only image at *path*, in the store."""
    with opened(store, path) as source:
        return store.add(source)


class Counter:
    """A progress that remembers."""

    def __init__(self) -> None:
        self.total: int | None = None
        self.began = 0
        self.done = 0

    def begin(self, total: int | None) -> None:
        self.began += 1
        self.total = total

    def advance(self, n: int) -> None:
        self.done += n


def contents(root: Path, *, but: Sequence[str] = ()) -> dict[str, bytes]:
    """Every file of the store by path, and every directory."""
    return {
        str(path.relative_to(root)): path.read_bytes() if path.is_file() else b""
        for path in sorted(root.rglob("*"))
        if not any(str(path.relative_to(root)).startswith(one) for one in but)
    }


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that any user can reach, unlike those that pytest makes."""
    with tempfile.TemporaryDirectory() as folder_:
        Path(folder_).chmod(0o755)
        yield Path(folder_)


@pytest.fixture
def store(tmp_path: Path, needs_root: None) -> Store:
    """An empty store in the kernel's format."""
    return Store.open(tmp_path / "store")
