"""Looking for damage: every blob is hashed again, every unpacked layer looked at."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import BinaryIO, cast

from overlayfs.errors import InvalidImage, OverlayError
from overlayfs.image.descriptor import Descriptor
from overlayfs.image.digest import Digest, verified
from overlayfs.image.manifest import Manifest
from overlayfs.printable import printable
from overlayfs.store import records
from overlayfs.store.chains import steps
from overlayfs.store.comparing import differences
from overlayfs.store.kept import KeptImage, read_blob
from overlayfs.store.names import name_of
from overlayfs.store.paths import Paths, record, tree
from overlayfs.store.records import LayerRecord
from overlayfs.store.store import Store
from overlayfs.store.usage import directory_of

_PIECE = 1 << 20


@dataclass(frozen=True, slots=True)
class Damage:
    """A blob (by its digest) or an unpacked layer (by the name of its directory) that is bad.

    *why* says in what, *image* whose it is: a name, or an id.
    """

    thing: Digest | str
    why: str
    image: str
    entry: Digest

    @property
    def says(self) -> str:
        """One line about it, without the image."""
        what = f"blob {self.thing}" if isinstance(self.thing, Digest) else f"layer {self.thing}"
        return f"{what}: {self.why}"


class Check:
    """One look at some images of a store; what several have is looked at once."""

    def __init__(self, paths: Paths, *, deep: Store | None = None) -> None:
        """*deep* is a store in which to unpack everything once more, and compare."""
        self._paths = paths
        self._deep = deep
        self._blobs: dict[Digest, str] = {}
        self._layers: dict[str, str] = {}

    def run(self, entries: Sequence[Descriptor]) -> Iterator[Damage]:
        """The damage of the images of *entries*, one after the other."""
        for entry in {one.digest: one for one in entries}.values():
            names = [
                name for one in entries if one.digest == entry.digest if (name := name_of(one))
            ]
            image = ", ".join(names) or f"image {entry.digest.short}"
            for thing, why in self._look_at(entry):
                yield Damage(thing, why, image, entry.digest)

    def _look_at(self, entry: Descriptor) -> Iterator[tuple[Digest | str, str]]:
        try:
            data = read_blob(self._paths, entry.digest)
            manifest = Manifest.parse(data, "manifest")
        except OverlayError as exc:
            yield entry.digest, f"manifest: {_short(exc, entry.digest)}"
            return
        for blob in manifest.layers:
            if why := self._blob(blob):
                yield blob.digest, why
        try:
            read_blob(self._paths, manifest.config.digest)
            kept = KeptImage(self._paths, entry)
        except OverlayError as exc:
            yield manifest.config.digest, f"configuration: {_short(exc, manifest.config.digest)}"
            return
        chain = steps(kept.parsed.diff_ids)
        layers = [directory_of(self._paths, step.chain.hex) for step in chain]
        names = [name for name in layers if name is not None]
        unseen = [name for name in names if name not in self._layers]
        for name in unseen:
            self._layers[name] = self._layer(name)
        whole = not any(self._blobs[blob.digest] for blob in manifest.layers)
        if self._deep is not None and whole and any(not self._layers[name] for name in unseen):
            self._compare(self._deep, kept, layers)
        for name in dict.fromkeys(names):
            if self._layers[name]:
                yield name, self._layers[name]

    def _blob(self, blob: Descriptor) -> str:
        """What is wrong with *blob*, empty if nothing is."""
        if blob.digest not in self._blobs:
            path = self._paths.blob(blob.digest)
            try:
                hashed(path, blob.digest, blob.size)
            except FileNotFoundError:
                why = "missing"
            except OSError as exc:
                why = exc.strerror or str(exc)
            except InvalidImage as exc:
                why = _short(exc, blob.digest)
            else:
                why = ""
            self._blobs[blob.digest] = why
        return self._blobs[blob.digest]

    def _layer(self, name: str) -> str:
        path = self._paths.layer(name)
        if not path.is_dir():
            return "missing"
        known = records.read(record(path), LayerRecord)
        if known is None or known.diff_id.hex != name.partition(".")[0]:
            return "its record cannot be read"
        if not records.survived(known.boot):
            return "it may not have survived a crash of the machine"
        return "" if tree(path).is_dir() else "its files are missing"

    def _compare(self, other: Store, kept: KeptImage, names: Iterable[str | None]) -> None:
        """Unpack *kept* once more elsewhere, and compare."""
        fresh = other.add(kept)
        for name, layer in zip(names, fresh.layers, strict=True):
            if name is None or self._layers[name]:
                continue
            found = next(differences(layer.path, tree(self._paths.layer(name))), None)
            if found is not None:
                path, what = found
                shown = printable("/" + path.decode("utf-8", "surrogateescape"))
                self._layers[name] = f"{shown}: {what}"


def hashed(path: Path, digest: Digest, size: int | None = None) -> None:
    """Read the file *path*; OSError, or InvalidImage unless it is what *digest* names."""
    raw = cast("BinaryIO", FileIO(path))
    with verified(raw, digest, size) as stream:
        while stream.read(_PIECE):
            pass


def _short(error: OverlayError, digest: Digest) -> str:
    """The reason alone, where the digest is said already."""
    return error.message.removeprefix(f"blob {digest}: ").removeprefix("blob: ")
