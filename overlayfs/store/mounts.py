"""Records of mounts: which image where, with which upper directory, served by whom.

ROOT/mounts/ID/ has ``mount.json``, the daemon's ``log``, ``lock``, and ``upper`` and
``work`` unless the user named a directory of his own.  The daemon holds ``lock`` for as
long as it lives, so nothing has to be written when it dies.
"""

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import msgspec

from overlayfs.linux import locks
from overlayfs.linux.mounts import mounted
from overlayfs.store.drafts import remove_path

SUBTYPE = "fuse.pyoverlay"


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """What is written down of a mount; *layers* base first, *format* as union.names has it.

    *layer* is the number of the last of them where it was asked for.
    """

    id: str
    image: str
    image_id: str
    mountpoint: str
    pid: int
    upper: str | None
    work: str | None
    own_upper: bool
    since: datetime
    layers: list[str]
    format: str
    layer: int | None = None
    ended: bool = False


class MountDirectory:
    """The directory of one mount below ROOT/mounts."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.log = path / "log"
        self.upper = path / "upper"
        self.work = path / "work"
        self.empty = path / "empty"  # the lower layer of an image that has none
        self._record = path / "mount.json"
        self._lock = path / "lock"

    @classmethod
    def create(cls, root: Path) -> "MountDirectory":
        """A new one, with an empty log."""
        made = cls(root / "mounts" / secrets.token_hex(6))
        made.path.mkdir(parents=True, mode=0o700)
        made.log.touch(mode=0o600)
        made.empty.mkdir(mode=0o755)
        return made

    @classmethod
    def work_for(cls, upper: Path) -> Path:
        """The work directory that goes with *upper* when the user names none."""
        kept = cls(upper.parent)
        return kept.work if kept.upper == upper and kept.read() else Path(f"{upper}.work")

    def lock(self) -> int:
        """A descriptor that holds the lock until it and its copies are closed."""
        fd = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(fd, fcntl.LOCK_EX)
        return fd

    @property
    def locked(self) -> bool:
        """Whether a daemon lives for this mount."""
        try:
            fd = os.open(self._lock, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(fd)
        return False

    def wait(self) -> None:
        """Return once no daemon lives for this mount."""
        try:
            fd = os.open(self._lock, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        try:
            fcntl.flock(fd, fcntl.LOCK_SH)
        finally:
            os.close(fd)

    def write(self, record: Record) -> None:
        """Write *record* down, whole or not at all."""
        draft = self._record.with_suffix(".new")
        draft.write_bytes(msgspec.json.format(msgspec.json.encode(record)))
        draft.rename(self._record)

    def read(self) -> Record | None:
        """What was written down; None if nothing was yet, or a power cut has left none of it."""
        try:
            return msgspec.json.decode(self._record.read_bytes(), type=Record)
        except (FileNotFoundError, msgspec.DecodeError):
            return None

    @property
    def has_changes(self) -> bool:
        """Whether its own upper directory holds anything."""
        return self.upper.is_dir() and any(self.upper.iterdir())

    def finish(self) -> bool:
        """Clean up after the daemon; whether changes are kept.

        An upper directory with changes stays, with the record of what it belongs to.
        """
        record = self.read()
        if record is not None and self.has_changes:
            with suppress(FileNotFoundError):  # somebody else removes it just now
                self.write(msgspec.structs.replace(record, ended=True))
                return True
        self.remove()
        return False

    def remove(self) -> None:
        """Remove everything, the changes too."""
        # The name goes first, so that a half-removed directory is never taken for a mount.
        gone = self.path.with_name(f".{self.path.name}")
        try:
            self.path.rename(gone)
        except FileNotFoundError:
            return
        remove_half(gone)


def remove_half(gone: Path) -> None:
    """Remove *gone*, which has lost its name already; not if another does that now."""
    fd = locks.claimed(gone)
    if fd is not None:
        remove_path(gone)
        os.close(fd)


def directories(root: Path) -> Iterator[tuple[MountDirectory, Record]]:
    """Every mount that is written down, the oldest first."""
    parent = root / "mounts"
    found = []
    for path in parent.iterdir() if parent.is_dir() else ():
        directory = MountDirectory(path)
        record = directory.read() if not path.name.startswith(".") else None
        if record is not None:
            found.append((directory, record))
    found.sort(key=lambda pair: pair[1].since)
    yield from found


def is_mounted(mountpoint: Path) -> bool:
    """Whether the topmost mount at *mountpoint* is one of pyoverlay's."""
    kinds = [mount.kind for mount in mounted() if mount.mountpoint == mountpoint]
    return bool(kinds) and kinds[-1] == SUBTYPE
