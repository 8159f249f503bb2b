"""What the store remembers of layers, and whether it survived.

Layers and blobs are published without waiting for the disk: waiting costs more than
unpacking.  A record says in which boot of the machine its thing was written, until
everything has been brought to the disk and the record says so.  After a power cut the boot
is another one, and what was not known to be on the disk is not believed.
"""

import os
import secrets
from pathlib import Path
from typing import TypeVar

from msgspec import Struct

from overlayfs.errors import InvalidImage
from overlayfs.image.digest import Digest
from overlayfs.image.json import decode
from overlayfs.linux.boot import this_boot
from overlayfs.linux.sync import sync_dir

# The lists of directories and links of a layer; the writer bounds them.
_LIMIT = 1 << 30


class BlobRecord(Struct, frozen=True, omit_defaults=True):
    """A blob that was seen to unpack to a diff id; *boot* empty once it is on the disk."""

    media_type: str
    digest: Digest
    size: int
    boot: str = ""


class DiffRecord(Struct, frozen=True, omit_defaults=True):
    """The blobs that are known for one diff id, the first of them preferred."""

    diff_id: Digest
    blobs: tuple[BlobRecord, ...] = ()


class LayerRecord(Struct, frozen=True, omit_defaults=True):
    """An unpacked layer.

    *parent* is the chain that the layer was completed from, empty when it needed none.
    Paths are bytes, which JSON has as base64; what they mean, ``layers.writer.Unpacked`` says.
    """

    diff_id: Digest
    entries: int
    size: int
    parent: str = ""
    implied: tuple[bytes, ...] = ()
    foreign: tuple[tuple[bytes, bytes], ...] = ()
    aliases: tuple[tuple[bytes, ...], ...] = ()
    whiteouts: tuple[bytes, ...] = ()
    boot: str = ""


Record = TypeVar("Record", bound=Struct)


def read(path: Path, kind: type[Record]) -> Record | None:
    """The record in the file *path*; None when there is none that can be read.

    A crash may leave a file without its bytes: what it said is then unknown.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        return decode(data, kind, str(path), limit=_LIMIT, values=_LIMIT)
    except InvalidImage:
        return None


def publish(
    path: Path, data: bytes, *, through: Path, durable: bool = True, mode: int | None = None
) -> None:
    """A file that appears at *path* complete, or not at all.

    *through* is a folder for drafts on the same file system.  *durable*: through a power
    cut as well.  *mode* are its permissions, if they should not depend on the umask.
    """
    draft = through / f"{path.name}.{secrets.token_hex(4)}"
    try:
        with draft.open("xb") as file:
            if mode is not None:
                os.fchmod(file.fileno(), mode)
            file.write(data)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        draft.rename(path)
    finally:
        draft.unlink(missing_ok=True)
    if durable:
        sync_dir(path.parent)


def survived(boot: str) -> bool:
    """Whether what was written in *boot* is there still."""
    return boot in ("", this_boot())
