"""The layers that the store has: unpacked directories, and blobs by diff id."""

import secrets
import time
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from overlayfs.image.digest import Digest
from overlayfs.image.json import encode
from overlayfs.linux.boot import this_boot
from overlayfs.store import records
from overlayfs.store.chains import Step
from overlayfs.store.drafts import remove_path
from overlayfs.store.paths import BLOB_MODE, Paths, record
from overlayfs.store.records import BlobRecord, DiffRecord, LayerRecord

if TYPE_CHECKING:
    from overlayfs.layers.complete import Completion
    from overlayfs.layers.writer import Unpacked

# The coarsest clock of a file system has seconds.
_CLOCK_TICK = 2_000_000_000


class Layers:
    """What lies in the folder of layers; who changes a diff id's things holds its lock.

    A layer is unpacked once for all images that have it.  One that takes attributes or
    files from the layers below it is complete on those only, and has their chain in its
    name.
    """

    def __init__(self, paths: Paths) -> None:
        self._paths = paths

    # -- directories -------------------------------------------------------------------

    def find(self, step: Step) -> tuple[Path, LayerRecord] | None:
        """The directory that is the layer *step* of its chain, if there is one."""
        try:
            target = self._paths.chain(step.chain).readlink()
        except FileNotFoundError:
            return None
        return self.directory(target.name)

    def directory(self, name: str) -> tuple[Path, LayerRecord] | None:
        """The directory called *name* with its record; None unless it is whole."""
        path = self._paths.layer(name)
        found = records.read(record(path), LayerRecord)
        if found is None or not records.survived(found.boot):
            return None
        return path, found

    def settle_chain(self, step: Step, name: str, drafts: Path) -> None:
        """Let the directory *name* be the layer *step* of its chain."""
        draft = drafts / secrets.token_hex(8)
        draft.symlink_to(Path("..") / self._paths.layers.name / name)
        draft.rename(self._paths.chain(step.chain))

    def publish(self, draft: Path, name: str, drafts: Path) -> None:
        """Give the complete directory *draft* its final *name*."""
        path = self._paths.layer(name)
        if path.exists():
            # Written in a boot that ended before the disk had it.
            old = drafts / secrets.token_hex(8)
            path.rename(old)
            remove_path(old)
        draft.rename(path)

    # -- blobs -------------------------------------------------------------------------

    def blobs(self, diff_id: Digest) -> tuple[BlobRecord, ...]:
        """The blobs that unpack to *diff_id* and are here, whole."""
        found = records.read(self._paths.diff(diff_id), DiffRecord)
        if found is None:
            return ()
        return tuple(blob for blob in found.blobs if self._is_here(blob))

    def _is_here(self, blob: BlobRecord) -> bool:
        if not records.survived(blob.boot):
            return False
        try:
            return self._paths.blob(blob.digest).stat().st_size == blob.size
        except FileNotFoundError:
            return False

    def add_blob(self, diff_id: Digest, blob: BlobRecord, data: Path, drafts: Path) -> None:
        """Keep the verified file *data* as a blob of *diff_id*."""
        path = self._paths.blob(blob.digest)
        path.parent.mkdir(exist_ok=True)
        data.chmod(BLOB_MODE)
        data.rename(path)
        others = tuple(one for one in self.blobs(diff_id) if one.digest != blob.digest)
        self._write_diff(DiffRecord(diff_id, (*others, blob)), drafts)

    def _write_diff(self, diff: DiffRecord, drafts: Path) -> None:
        path = self._paths.diff(diff.diff_id)
        records.publish(path, encode(diff), through=drafts, durable=False)

    # -- the disk ----------------------------------------------------------------------

    def unsettled(self) -> list[tuple[Path, DiffRecord | LayerRecord]]:
        """The records of what was written in this boot and may not be on the disk."""
        found: list[tuple[Path, DiffRecord | LayerRecord]] = []
        boot = this_boot()
        for path in self._paths.layers.iterdir():
            if path.name.endswith(".json"):
                diff = records.read(path, DiffRecord)
                if diff is not None and any(blob.boot == boot for blob in diff.blobs):
                    found.append((path, diff))
                continue
            layer = records.read(record(path), LayerRecord)
            if layer is not None and layer.boot == boot:
                found.append((record(path), layer))
        return found

    def changed(self) -> int | None:
        """When the last thing was added; None while that is too near to be told from the next.

        Everything gets its name in one folder, so the time of that tells, in nanoseconds.
        """
        when = self._paths.layers.stat().st_mtime_ns
        return when if time.time_ns() - when > _CLOCK_TICK else None

    def is_settled(self) -> bool:
        """Whether nothing was added since ``note_settled``: no record need be read then."""
        try:
            noted = self._paths.settled.read_text()
        except FileNotFoundError:
            return False
        return noted == str(self.changed())

    def note_settled(self, changed: int, drafts: Path) -> None:
        """Note that there is nothing unsettled of what was added until *changed*."""
        data = str(changed).encode()
        records.publish(self._paths.settled, data, through=drafts, durable=False)

    def settled(self, path: Path, known: DiffRecord | LayerRecord, drafts: Path) -> None:
        """Note that the thing that *known* tells of in *path* is on the disk."""
        boot = this_boot()
        if records.read(path, type(known)) != known:
            return  # it says something newer
        if isinstance(known, LayerRecord):
            data = encode(replace(known, boot=""))
        else:
            blobs = (replace(blob, boot="") if blob.boot == boot else blob for blob in known.blobs)
            data = encode(replace(known, blobs=tuple(blobs)))
        records.publish(path, data, through=drafts)


def name_of(step: Step, needed: "Completion") -> str:
    """What the directory of the layer *step* is called that *needed* that completion."""
    return own_name(step) if needed else step.diff_id.hex


def own_name(step: Step) -> str:
    """The name of a directory that is the layer *step* on its own chain only."""
    parent = step.parent.hex if step.parent else "0" * 16
    return f"{step.diff_id.hex}.{parent[:16]}"


def write_record(folder: Path, step: Step, unpacked: "Unpacked", needed: "Completion") -> None:
    """Write the record of the layer that is drafted in *folder*."""
    known = LayerRecord(
        step.diff_id,
        unpacked.entries,
        unpacked.size,
        str(step.parent or "") if needed else "",
        unpacked.implied,
        unpacked.foreign,
        unpacked.aliases,
        unpacked.whiteouts,
        this_boot(),
    )
    record(folder).write_bytes(encode(known))
