"""Putting right what ``store.checking`` found, from good blobs and from other copies."""

import secrets
from collections.abc import Mapping, Sequence, Set
from pathlib import Path

from overlayfs.errors import InvalidImage
from overlayfs.image.digest import Digest
from overlayfs.image.source import ImageSource, LayerSource
from overlayfs.linux import locks
from overlayfs.linux.boot import this_boot
from overlayfs.store import adding, records
from overlayfs.store.checking import Damage
from overlayfs.store.drafts import Drafts
from overlayfs.store.intake import Intake
from overlayfs.store.kept import KeptImage
from overlayfs.store.layers import Layers
from overlayfs.store.names import Names
from overlayfs.store.paths import BLOB_MODE, Paths
from overlayfs.store.records import BlobRecord, DiffRecord
from overlayfs.store.store import Store
from overlayfs.store.usage import mounts_of


class Repair:
    """Repairs one store.  A thing keeps its name all the time, and good things stay."""

    def __init__(self, store: Store, paths: Paths, names: Names, drafts: Drafts) -> None:
        self._store = store
        self._paths = paths
        self._names = names
        self._layers = Layers(paths)
        self._drafts = drafts
        self._packed: dict[Digest, set[Digest]] = {}  # diff id -> blobs that images have for it
        for entry in names.images():
            try:
                kept = KeptImage(paths, entry)
            except InvalidImage:
                continue
            for layer in kept.layers:
                self._packed.setdefault(layer.diff_id, set()).add(layer.descriptor.digest)

    def blobs(self, damage: Sequence[Damage], source: ImageSource) -> list[str]:
        """Replace the blobs of *damage* that *source* has; a line about each."""
        wanted = {one.thing for one in damage if isinstance(one.thing, Digest)}
        done = []
        with self._drafts.fresh() as drafts:
            for layer in source.layers:
                if digest := self._layer_blob(layer, wanted, drafts):
                    wanted.discard(digest)
                    done.append(f"blob {digest}: replaced")
            for digest, data in self._documents(source).items():
                if digest in wanted:
                    path = self._paths.blob(digest)
                    records.publish(path, data, through=drafts, mode=BLOB_MODE)
                    done.append(f"blob {digest}: replaced")
        return done

    def _documents(self, source: ImageSource) -> Mapping[Digest, bytes]:
        """Configuration and manifest of *source*, also that which the store would write of it."""
        found = {source.config_digest: source.config}
        if source.manifest is not None:
            found[Digest.of(source.manifest)] = source.manifest
        # The store's own manifest names blobs that may be lost as well.
        blobs = [self._recorded(layer) for layer in source.layers]
        if all(blobs):
            given = adding.manifest_of(source)
            data = adding.rewritten(source, given, blobs).to_json()
            found[Digest.of(data)] = data
        return found

    def _recorded(self, layer: LayerSource) -> BlobRecord | None:
        """The blob that was known for *layer*, here or not."""
        known = records.read(self._paths.diff(layer.diff_id), DiffRecord)
        blobs = known.blobs if known else ()
        exact = [one for one in blobs if layer.descriptor and one.digest == layer.descriptor.digest]
        return next(iter((*exact, *blobs)), None)

    def _layer_blob(
        self, layer: LayerSource, wanted: Set[Digest | str], drafts: Path
    ) -> Digest | None:
        """Replace the blob of *layer* if it is *wanted*: as it is, or packed as it was before."""
        given = layer.descriptor
        ours = self._packed.get(layer.diff_id, set())
        if not (ours & wanted or (given and given.digest in wanted)):
            return None
        with adding.held([self._paths.lock(layer.diff_id.hex)]):
            folder = drafts / secrets.token_hex(8)
            taken = Intake(self._store.format, _ignore).take(layer, folder, tree=False)
            blob = taken.blob
            if blob.digest not in wanted:
                return None
            record = BlobRecord(blob.media_type, blob.digest, blob.size, this_boot())
            self._layers.add_blob(layer.diff_id, record, taken.blob_path, drafts)
            return blob.digest

    def trees(self, damage: Sequence[Damage]) -> list[str]:
        """Unpack the layers of *damage* again whose image has all its blobs; a line about each.

        One that is mounted stays as it is: who works in it would lose what is good of it.
        """
        lost = {one.entry for one in damage if isinstance(one.thing, Digest)}
        done = []
        for one in damage:
            if isinstance(one.thing, Digest) or one.entry in lost:
                continue
            said = self._put_away(one.thing)
            if said is None:
                entry = next(entry for entry in self._names.images() if entry.digest == one.entry)
                self._store.add(KeptImage(self._paths, entry))
                said = "unpacked again"
            done.append(f"layer {one.thing}: {said}")
        return done

    def _put_away(self, name: str) -> str | None:
        """Let the layer directory *name* go; why it does not, if so."""
        path = self._paths.layer(name)
        with locks.alone(self._paths.locks):
            for mount in mounts_of(self._paths):
                if mount.live and name in mount.layers:
                    return f"not repaired, it is {mount.says()}"
            with locks.attempted(self._paths.lock(name.partition(".")[0])) as ours:
                adopted = self._drafts.adopt(path) if ours else None
        if adopted is not None:
            adopted.remove()
        return "not repaired, somebody works with it" if path.exists() else None


def _ignore(_n: int) -> None:
    """Nobody asked how far it is."""
