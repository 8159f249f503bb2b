"""Layers: tars made entry by entry, and layer directories as a guest sees them."""

import io
import os
import tarfile
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from overlayfs.layers.lower import Layer
from overlayfs.linux import fds
from overlayfs.union.attrs import Kind
from overlayfs.union.names import Format

# Everything that this file makes without saying a time has this one.
TIME = 1_600_000_000


@dataclass(frozen=True, slots=True)
class Item:
    """One entry of a tar."""

    name: str
    type: bytes = tarfile.REGTYPE
    data: bytes = b""
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    mtime: float = TIME
    target: str = ""
    device: tuple[int, int] = (0, 0)
    pax: Mapping[str, str] = field(default_factory=dict)


def file(name: str, data: bytes = b"", **more: object) -> Item:
    """A regular file."""
    return Item(name, data=data, **more)  # type: ignore[arg-type]  # fields of Item


def folder(name: str, mode: int = 0o755, **more: object) -> Item:
    """A directory."""
    return Item(name, tarfile.DIRTYPE, mode=mode, **more)  # type: ignore[arg-type]


def symlink(name: str, target: str, **more: object) -> Item:
    """A symbolic link."""
    return Item(name, tarfile.SYMTYPE, mode=0o777, target=target, **more)  # type: ignore[arg-type]


def link(name: str, target: str) -> Item:
    """A hard link."""
    return Item(name, tarfile.LNKTYPE, target=target)


def device(name: str, kind: bytes, major: int, minor: int, **more: object) -> Item:
    """A device, or with FIFOTYPE a fifo."""
    return Item(name, kind, device=(major, minor), **more)  # type: ignore[arg-type]


def tar(*items: Item, form: int = tarfile.PAX_FORMAT, end: bool = True) -> bytes:
    """A tar of *items*; without its end marker unless *end*."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form, errors="surrogateescape") as archive:
        for item in items:
            info = tarfile.TarInfo(item.name)
            info.type, info.mode, info.uid, info.gid = item.type, item.mode, item.uid, item.gid
            info.mtime, info.linkname, info.size = item.mtime, item.target, len(item.data)
            info.devmajor, info.devminor = item.device
            info.pax_headers = dict(item.pax)
            archive.addfile(info, io.BytesIO(item.data))
        length = archive.offset
    return out.getvalue() if end else out.getvalue()[:length]


@dataclass(frozen=True, slots=True)
class Shown:
    """What a layer directory has under one name; *kind* None is a whiteout."""

    kind: Kind | None
    mode: int = 0
    uid: int = 0
    gid: int = 0
    mtime_ns: int = 0
    nlink: int = 0
    rdev: tuple[int, int] = (0, 0)
    body: bytes = b""
    xattrs: Mapping[bytes, bytes] = field(default_factory=dict)
    opaque: bool = False


WHITEOUT = Shown(None)


def shown(root: Path, fmt: Format) -> dict[bytes, Shown]:
    """All that is in the layer directory *root*, the root as ``b""``."""
    layer = Layer(root, fmt, 1)
    try:
        found = {b"": _shown(layer, layer.root, b".")}
        left = [b""]
        while left:
            path = left.pop()
            fd = layer.open_dir(path)
            try:
                for name, entry in layer.scan(fd).entries.items():
                    below = path + b"/" + name if path else name
                    found[below] = WHITEOUT if entry.kind is None else _shown(layer, fd, name)
                    if entry.kind is Kind.DIRECTORY:
                        left.append(below)
            finally:
                os.close(fd)
        return found
    finally:
        layer.close()


def _shown(layer: Layer, fd: int, name: bytes) -> Shown:
    attrs = layer.attrs(fd, name)
    kind = Kind.of(attrs.mode)
    body = b""
    if kind is Kind.SYMLINK:
        body = layer.readlink(fd, name)
    elif kind is Kind.FILE:
        opened = layer.open_file(fd, name)
        with os.fdopen(opened, "rb") as content:
            body = content.read()
    is_device = kind in (Kind.CHAR, Kind.BLOCK)
    return Shown(
        kind,
        attrs.mode & 0o7777,
        attrs.uid,
        attrs.gid,
        attrs.mtime_ns,
        0 if kind is Kind.DIRECTORY else attrs.nlink,
        (os.major(attrs.rdev), os.minor(attrs.rdev)) if is_device else (0, 0),
        body,
        layer.xattrs(fds.beneath(fd, name)),
        kind is Kind.DIRECTORY and layer.is_opaque(fd, name),
    )


def kinds(root: Path, fmt: Format) -> dict[bytes, str]:
    """Names and kinds only: ``file``, ``dir`` and so on, ``opaque`` and ``whiteout``."""
    return {
        path: "whiteout" if one.kind is None else "opaque" if one.opaque else str(one.kind)
        for path, one in shown(root, fmt).items()
    }


def as_user(work: Callable[[], None], home: Path, uid: int = 54321) -> None:
    """Do *work* in a process of the plain user *uid*, in *home*, which is given to it.

    Paths in *work* are relative: what lies above *home* is closed to that user.
    """
    os.chown(home, uid, uid)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(reading)
            os.chdir(home)
            os.setgroups([])
            os.setgid(uid)
            os.setuid(uid)
            work()
            status = 0
        except BaseException:
            os.write(writing, traceback.format_exc().encode()[-4000:])
        finally:
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read().decode()
    _, status = os.waitpid(child, 0)
    assert status == 0, said


def in_child(work: Callable[[], object]) -> int:
    """Do *work* in a process of its own; how it ended, as waitpid(2) says."""
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        except BaseException:
            os.write(2, traceback.format_exc().encode())
            os._exit(1)
    return os.waitpid(child, 0)[1]
