"""Taking away what nothing uses: unpacked layers, blobs, records, drafts and ended mounts.

First a plan, which can be shown, then the deed.  The store's lock is held alone from the plan to
where everything has lost its name; emptying directories takes longer and comes after it.  What
somebody is busy with is skipped, and goes the next time: a layer that is being added (its
diff id's lock), a layer or blob that is being read (its own).

All of it can be stopped anywhere: what a name leads to is whole until the name is gone.
"""

import os
import re
import stat
import time
from collections.abc import Iterable, Set
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from overlayfs.image.digest import Digest
from overlayfs.image.json import encode
from overlayfs.linux import locks
from overlayfs.linux.sync import sync_dir
from overlayfs.store import disk, records
from overlayfs.store.drafts import Adopted, Drafts
from overlayfs.store.mounts import MountDirectory, remove_half
from overlayfs.store.paths import BLOB_MODE, Paths
from overlayfs.store.records import DiffRecord
from overlayfs.store.usage import Usage, directory_of

_LAYER = re.compile(r"([0-9a-f]{64})(?:\.[0-9a-f]{16})?")
_DIFF = re.compile(r"([0-9a-f]{64})\.json")
_HEX = re.compile(r"[0-9a-f]{64}(?:[0-9a-f]{64})?")

# Another tool writes blobs first and their name last, and knows no lock of ours: what it wrote
# within an hour stays.
_GRACE = 3600.0


@dataclass(slots=True)
class Garbage:
    """What nothing uses.

    *chains* and *diffs* are hex ids, *layers* names of directories.  *trimmed* are records of
    diff ids that are in use, of which blobs go.  *kept_back* says why other things stay.
    """

    layers: list[str] = field(default_factory=list)
    chains: list[str] = field(default_factory=list)
    diffs: list[str] = field(default_factory=list)
    trimmed: dict[str, DiffRecord] = field(default_factory=dict)
    blobs: list[Digest] = field(default_factory=list)
    mounts: list[MountDirectory] = field(default_factory=list)
    halves: list[Path] = field(default_factory=list)
    drafts: list[Path] = field(default_factory=list)
    kept_back: str = ""

    def paths(self, paths: Paths) -> dict[str, list[Path]]:
        """Where all of it lies, by kind: ``layers``, ``blobs``, ``mounts``, ``drafts``."""
        return {
            "layers": [paths.layer(name) for name in self.layers],
            "blobs": [paths.blob(digest) for digest in self.blobs],
            "mounts": [one.path for one in self.mounts] + self.halves,
            "drafts": self.drafts,
        }


@dataclass(slots=True)
class Swept:
    """What is gone: the *chains* of layers (hex), and the *bytes* of the disk that were freed."""

    chains: list[str] = field(default_factory=list)
    freed: int = 0


def plan(paths: Paths, usage: Usage, drafts: Drafts, *, kept: bool = False) -> Garbage:
    """What nothing uses of what is there; with *kept* the changes of ended mounts as well.

    When it cannot be told what some image uses, layers and blobs stay, all of them.
    """
    garbage = Garbage(drafts=drafts.abandoned())
    _plan_mounts(paths, usage, garbage, kept=kept)
    if usage.damage:
        digest, why = next(iter(usage.damage.items()))
        garbage.kept_back = f"image {digest.short}: {why}"
        return garbage
    gone = {one.path for one in garbage.mounts}
    stay = tuple(one for one in usage.mounts if one.directory.path not in gone)
    usage = Usage(usage.entries, stay)
    owners = _plan_layers(paths, usage, garbage)
    _plan_chains(paths, usage, garbage)
    _plan_blobs(paths, usage, garbage, owners)
    return garbage


def _plan_mounts(paths: Paths, usage: Usage, garbage: Garbage, *, kept: bool) -> None:
    folder = paths.mounts
    used = {
        Path(place)
        for one in usage.mounts
        for place in (one.record.upper, one.record.work)
        if one.live and place is not None
    }
    known = {one.directory.path: one for one in usage.mounts}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.name.startswith("."):
            garbage.halves.append(path)
            continue
        directory = MountDirectory(path)
        mount = known.get(path)
        live = mount.live if mount else directory.locked
        if live or directory.upper in used or directory.work in used:
            continue
        if not directory.has_changes or (kept and mount is not None):
            garbage.mounts.append(directory)


def _plan_layers(paths: Paths, usage: Usage, garbage: Garbage) -> set[Digest]:
    """Find directories and records; the blobs of records."""
    listed = set()
    used = {diff_id.hex for diff_id in usage.diff_ids}
    for path in sorted(paths.layers.iterdir()):
        if _LAYER.fullmatch(path.name) and path.name not in usage.layers:
            garbage.layers.append(path.name)
        match = _DIFF.fullmatch(path.name)
        if match is None:
            continue
        known = records.read(path, DiffRecord)
        listed |= {blob.digest for blob in known.blobs} if known else set()
        if match[1] not in used:
            garbage.diffs.append(match[1])
        elif known is not None:
            stay = tuple(blob for blob in known.blobs if blob.digest in usage.blobs)
            if stay != known.blobs:
                garbage.trimmed[match[1]] = DiffRecord(known.diff_id, stay)
    return listed


def _plan_chains(paths: Paths, usage: Usage, garbage: Garbage) -> None:
    used = {chain.hex for chain in usage.chains}
    garbage.chains += sorted(
        path.name
        for path in paths.chains.iterdir()
        if _HEX.fullmatch(path.name) and path.name not in used
    )


def _plan_blobs(paths: Paths, usage: Usage, garbage: Garbage, ours: Set[Digest]) -> None:
    now = time.time()
    for path in sorted(paths.blobs.glob("*/*")):
        if not _HEX.fullmatch(path.name):
            continue  # what another tool is writing
        digest = Digest(path.parent.name, path.name)
        if digest in usage.blobs:
            continue
        try:
            found = path.stat()
        except FileNotFoundError:
            continue
        another = digest not in ours and stat.S_IMODE(found.st_mode) != BLOB_MODE
        if not another or now - found.st_mtime > _GRACE:
            garbage.blobs.append(digest)


@dataclass(slots=True)
class _Owned:
    """The garbage of one diff id: *layers* by name, *chains* by hex id."""

    layers: list[str] = field(default_factory=list)
    chains: list[str] = field(default_factory=list)


class Sweep:
    """Takes garbage away, in a store that is held alone."""

    def __init__(self, paths: Paths, drafts: Drafts) -> None:
        self._paths = paths
        self._drafts = drafts
        self._left: list[Adopted] = []
        self.swept = Swept()

    def unname(self, garbage: Garbage) -> None:
        """Let all of *garbage* lose its name, but what somebody is busy with."""
        self._adopt(one.path for one in garbage.mounts)
        free = set(garbage.blobs)
        for hexdigits, owned in sorted(self._owned(garbage).items()):
            with locks.attempted(self._paths.lock(hexdigits)) as ours:
                if ours:
                    self._unname_layer(hexdigits, owned, garbage, free)
                else:
                    free -= self._blobs_of(hexdigits)
        for digest in sorted(free):
            self._unlink_blob(digest)
        # What was emptied must not come back with its name after a power cut.
        if self._left:
            sync_dir(self._paths.layers)
            sync_dir(self._paths.drafts)

    def _owned(self, garbage: Garbage) -> dict[str, _Owned]:
        """What of *garbage* belongs to which diff id (hex), whose lock it takes."""
        owned: dict[str, _Owned] = {}
        for hexdigits in (*garbage.diffs, *garbage.trimmed):
            owned[hexdigits] = _Owned()
        for name in garbage.layers:
            owned.setdefault(name.partition(".")[0], _Owned()).layers.append(name)
        for chain in garbage.chains:
            directory = directory_of(self._paths, chain)
            assert directory is not None  # nobody else takes any away
            owned.setdefault(directory.partition(".")[0], _Owned()).chains.append(chain)
        return owned

    def _blobs_of(self, hexdigits: str) -> set[Digest]:
        path = self._paths.layers / f"{hexdigits}.json"
        known = records.read(path, DiffRecord)
        return {blob.digest for blob in known.blobs} if known else set()

    def _unname_layer(
        self, hexdigits: str, owned: _Owned, garbage: Garbage, free: set[Digest]
    ) -> None:
        for chain in owned.chains:
            if directory_of(self._paths, chain) in owned.layers:
                self.swept.chains.append(chain)
            (self._paths.chains / chain).unlink()
        self._adopt(self._paths.layer(name) for name in owned.layers)
        mine = self._blobs_of(hexdigits) & free
        free -= mine
        stay = [digest for digest in sorted(mine) if not self._unlink_blob(digest)]
        path = self._paths.layers / f"{hexdigits}.json"
        if stay:
            return
        if hexdigits in garbage.diffs:
            self.swept.freed += disk.used(path)
            path.unlink(missing_ok=True)
        elif hexdigits in garbage.trimmed:
            data = encode(garbage.trimmed[hexdigits])
            with self._drafts.fresh() as drafts:
                records.publish(path, data, through=drafts, durable=False)

    def _adopt(self, paths: Iterable[Path]) -> None:
        adopted = (self._drafts.adopt(path) for path in paths)
        self._left += [one for one in adopted if one is not None]

    def _unlink_blob(self, digest: Digest) -> bool:
        """Remove the blob *digest*; False while somebody reads it."""
        path = self._paths.blob(digest)
        fd = locks.claimed(path)
        if fd is None:
            return not path.exists()
        self.swept.freed += disk.used(path)
        path.unlink()
        os.close(fd)
        return True

    def empty(self, garbage: Garbage) -> Swept:
        """Remove what has no name any more; this can take long, and the store is not held."""
        with ExitStack() as stack:
            for one in self._left:
                stack.callback(one.remove)
                self.swept.freed += disk.used(one.path)
        for path in garbage.halves:
            self.swept.freed += disk.used(path)
            remove_half(path)
        self.swept.freed += sum(disk.used(path) for path in garbage.drafts)
        self._drafts.sweep()
        for path in self._paths.locks.iterdir():
            with locks.attempted(path):
                pass  # it goes with whoever lets go of it
        return self.swept
