"""A small image to show things with: three layers over the machine's own static busybox."""

import hashlib
import io
import json
import shutil
import struct
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from overlayfs.errors import OverlayError
from overlayfs.image.platform import Platform

PT_INTERP = 3  # elf.h
COMMANDS = ("cat", "cp", "echo", "find", "id", "ls", "mkdir", "mv", "rm", "sh", "stat", "uname")


@dataclass(frozen=True, slots=True)
class Layer:
    """Its uncompressed tar, and the words in the image's history."""

    tar: bytes
    created_by: str


def write_demo_image(target: Path, scratch: Path) -> None:
    """An OCI layout in a tar at *target*, its image called ``demo:latest``.

    The second layer deletes a file of the first, the third makes a directory opaque.
    Raises OverlayError when there is no static busybox and none can be had.
    """
    layers = list(_layers(find_busybox(scratch)))
    host = Platform.host()
    config = _json(
        {
            "architecture": host.architecture,
            "os": host.os,
            "config": {"Cmd": ["/bin/sh"], "Env": ["PATH=/bin"]},
            "rootfs": {"type": "layers", "diff_ids": [_digest(layer.tar) for layer in layers]},
            "history": [{"created_by": layer.created_by} for layer in layers],
        }
    )
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": _descriptor("config.v1+json", config),
            "layers": [_descriptor("layer.v1.tar", layer.tar) for layer in layers],
        }
    )
    name = {"org.opencontainers.image.ref.name": "demo:latest"}
    index = {
        "schemaVersion": 2,
        "manifests": [_descriptor("manifest.v1+json", manifest) | {"annotations": name}],
    }
    with tarfile.open(target, "w") as archive:
        _add(archive, "oci-layout", _json({"imageLayoutVersion": "1.0.0"}))
        _add(archive, "index.json", _json(index))
        for blob in (manifest, config, *(layer.tar for layer in layers)):
            _add(archive, f"blobs/sha256/{hashlib.sha256(blob).hexdigest()}", blob)


def find_busybox(scratch: Path) -> bytes:
    """A busybox that needs no libraries: this machine's, else of Debian's package.

    The package is unpacked in *scratch*; nothing is installed.
    """
    installed = shutil.which("busybox", path="/usr/bin:/bin")
    if installed is not None and _is_static(found := Path(installed).read_bytes()):
        return found
    try:
        for command in (
            ["apt-get", "download", "busybox-static"],
            ["sh", "-c", "dpkg-deb --extract busybox-static_*.deb ."],
        ):
            subprocess.run(command, cwd=scratch, check=True, capture_output=True)
        unpacked = [scratch / "usr/bin/busybox", scratch / "bin/busybox"]
        return next(path for path in unpacked if path.exists()).read_bytes()
    except (OSError, subprocess.CalledProcessError, StopIteration) as exc:
        raise OverlayError(
            "the demo needs a statically linked busybox, and neither has this machine one "
            "nor could its package be downloaded",
            hint="as root: apt-get install busybox-static",
        ) from exc


def _is_static(program: bytes) -> bool:
    """Whether *program* needs no libraries: it names no dynamic linker (elf(5), PT_INTERP)."""
    if program[:4] != b"\x7fELF":
        return False
    order = "<" if program[5] == 1 else ">"
    if program[4] == 2:
        (start,) = struct.unpack_from(f"{order}Q", program, 0x20)
        size, count = struct.unpack_from(f"{order}HH", program, 0x36)
    else:
        (start,) = struct.unpack_from(f"{order}I", program, 0x1C)
        size, count = struct.unpack_from(f"{order}HH", program, 0x2A)
    kinds = (struct.unpack_from(f"{order}I", program, start + at * size)[0] for at in range(count))
    return PT_INTERP not in kinds


def _layers(busybox: bytes) -> Iterator[Layer]:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as layer:
        for folder in ("bin", "etc", "root", "srv", "srv/cache"):
            _add(layer, folder, None)
        _add(layer, "bin/busybox", busybox, 0o755)
        for command in COMMANDS:
            link = tarfile.TarInfo(f"bin/{command}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            layer.addfile(link)
        _add(layer, "etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n")
        _add(layer, "etc/motd", b"Layer 1 wrote this.\n")
        _add(layer, "etc/secret", b"Layer 2 deletes this.\n")
        for number in (1, 2, 3):
            _add(layer, f"srv/cache/old-{number}", b"Layer 3 hides this.\n")
    yield Layer(stream.getvalue(), "busybox, /etc and a cache in /srv/cache")

    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as layer:
        _add(layer, "etc/.wh.secret", b"")
        _add(layer, "srv/hello.txt", b"Hello from layer 2.\n")
    yield Layer(stream.getvalue(), "a whiteout: /etc/secret is deleted")

    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as layer:
        _add(layer, "srv/cache", None)
        _add(layer, "srv/cache/.wh..wh..opq", b"")
        _add(layer, "srv/cache/new", b"Layer 3 starts afresh.\n")
    yield Layer(stream.getvalue(), "an opaque directory: /srv/cache hides what was below")


def _add(archive: tarfile.TarFile, name: str, content: bytes | None, mode: int = 0o644) -> None:
    member = tarfile.TarInfo(name)
    member.mtime = 1_700_000_000
    if content is None:
        member.type, member.mode = tarfile.DIRTYPE, 0o755
        archive.addfile(member)
    else:
        member.size, member.mode = len(content), mode
        archive.addfile(member, io.BytesIO(content))


def _descriptor(kind: str, blob: bytes) -> dict[str, Any]:
    return {
        "mediaType": f"application/vnd.oci.image.{kind}",
        "digest": _digest(blob),
        "size": len(blob),
    }


def _digest(blob: bytes) -> str:
    return f"sha256:{hashlib.sha256(blob).hexdigest()}"


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()
