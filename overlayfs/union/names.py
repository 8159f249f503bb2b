"""Names with a meaning: OCI whiteout markers and the reserved extended attributes.

Names inside an image are bytes.  Extended attribute names are bytes too, as Linux gives
them; their values are never looked at here.
"""

import re
from enum import StrEnum

from overlayfs.union.attrs import Kind

# image-spec, layer.md, "Whiteouts".
WHITEOUT_PREFIX = b".wh."
OPAQUE_MARKER = b".wh..wh..opq"
RESERVED_PREFIX = b".wh..wh."

OVERRIDE_STAT = b"user.containers.override_stat"
OLD_OVERRIDE_STAT = b"user.fuseoverlayfs.override_stat"
PRIVILEGED_OVERRIDE_STAT = b"security.fuseoverlayfs.override_stat"
# What a plain user may not set as it is, so it is kept beneath the prefix of the override.
_PRIVILEGED = (b"security.", b"trusted.", b"system.")


class Format(StrEnum):
    """How a layer directory says what the disk itself cannot.

    KERNEL is the format of the kernel's overlayfs as root uses it: real owners, modes and
    devices, ``trusted.overlay.*`` (Documentation/filesystems/overlayfs.rst).

    USERXATTR is the kernel's with its ``userxattr`` option, for root of a user namespace:
    real owners, modes and devices, ``user.overlay.*``.

    USER needs no privilege: ``user.overlay.*`` as well, and owner, mode and type in
    ``user.containers.override_stat``, the form that containers/storage and fuse-overlayfs
    use (``xattr_permissions=2`` of the latter).

    PRIVILEGED is KERNEL with owner, mode and type in ``security.fuseoverlayfs.override_stat``
    (``xattr_permissions=1``), for file systems that keep no owners.

    A whiteout is a character device 0:0 in all of them.
    """

    KERNEL = "kernel"
    USERXATTR = "userxattr"
    USER = "user"
    PRIVILEGED = "privileged"

    @property
    def override(self) -> bytes | None:
        """The attribute with owner, mode and type; None where those are the disk's."""
        return _OVERRIDES.get(self)

    @property
    def prefix(self) -> bytes:
        """The namespace the union keeps for itself, ``trusted.overlay.`` or ``user.overlay.``"""
        return _RESERVED[self]

    @property
    def opaque(self) -> bytes:
        """The attribute that makes a directory opaque when its value is ``y``."""
        return _RESERVED[self] + b"opaque"

    def to_disk(self, name: bytes) -> bytes:
        """The name that the guest's attribute *name* has on disk.

        Names in the reserved namespace are escaped as the kernel does it
        (``trusted.overlay.X`` is kept as ``trusted.overlay.overlay.X``), so that a guest can
        neither forge a marker nor lose an attribute, and an overlay can live in an overlay.
        """
        if name.startswith(self.prefix):
            return self.prefix + b"overlay." + name[len(self.prefix) :]
        escape = _ESCAPES.get(self)
        if escape is not None and self._is_escaped(name):
            return escape + name
        return name

    def to_guest(self, disk: bytes) -> bytes | None:
        """The guest's name of an attribute on disk; None when it belongs to the union."""
        if disk.startswith(self.prefix):
            rest = disk[len(self.prefix) :]
            return self.prefix + rest[8:] if rest.startswith(b"overlay.") else None
        escape = _ESCAPES.get(self)
        if escape is None:
            return disk
        if disk.startswith(escape):
            name = disk[len(escape) :]
            return name if self._is_escaped(name) else None
        # What the host put there (an SELinux label, say) is not the image's.
        return None if self._is_escaped(disk) else disk

    def _is_escaped(self, name: bytes) -> bool:
        if self is Format.USER:
            return name.startswith((*_PRIVILEGED, _ESCAPES[self])) or name == OLD_OVERRIDE_STAT
        return name.startswith(_ESCAPES[self])


_RESERVED = {
    Format.KERNEL: b"trusted.overlay.",
    Format.USERXATTR: b"user.overlay.",
    Format.USER: b"user.overlay.",
    Format.PRIVILEGED: b"trusted.overlay.",
}
_OVERRIDES = {Format.USER: OVERRIDE_STAT, Format.PRIVILEGED: PRIVILEGED_OVERRIDE_STAT}
_ESCAPES = {fmt: name.removesuffix(b"stat") for fmt, name in _OVERRIDES.items()}


def marker_of(name: bytes) -> bytes:
    """The OCI marker that hides *name*."""
    return WHITEOUT_PREFIX + name


def whiteout_target(name: bytes) -> bytes | None:
    """The name that the OCI marker *name* hides, None when it is no marker.

    The answer may be illegal (empty, ``.``, ``..``): the caller refuses those.  Reserved
    ``.wh..wh.*`` names, the opaque marker among them, must be told apart before.
    """
    return name[len(WHITEOUT_PREFIX) :] if name.startswith(WHITEOUT_PREFIX) else None


def encode_override(kind: Kind, mode: int, uid: int, gid: int, rdev: tuple[int, int]) -> bytes:
    """The value of ``user.containers.override_stat``: ``uid:gid:mode:type``."""
    what: str = kind.value
    if kind in (Kind.BLOCK, Kind.CHAR):
        what = f"{what}-{rdev[0]}-{rdev[1]}"
    return f"{uid}:{gid}:{mode & 0o7777:04o}:{what}".encode()


def decode_override(value: bytes) -> tuple[Kind | None, int, int, int, tuple[int, int]]:
    """kind (None when the value names none), mode, uid, gid, (major, minor).

    Raises ValueError for anything that is not such a value.  fuse-overlayfs 2 writes a
    device as ``block8:0``, everybody else as ``block-8-0``.
    """
    found = _OVERRIDE.fullmatch(value)
    if found is None:
        raise ValueError(f"not an override: {value!r}")
    uid, gid, octal, what, major, minor = found.groups()
    mode = int(octal, 8)
    kind = Kind(what.decode()) if what else None
    if kind is None and mode > 0o7777:
        kind = Kind.of(mode)  # fuse-overlayfs 1 writes all of st_mode
    device = int(major or 0), int(minor or 0)
    if max(int(uid), int(gid)) >= 1 << 32 or device[0] > 0xFFF or device[1] > 0xFFFFF:
        raise ValueError(f"not an override: {value!r}")
    return kind, mode & 0o7777, int(uid), int(gid), device


_OVERRIDE = re.compile(rb"(\d+):(\d+):([0-7]+)(?::([a-z]+)(?:-?(\d+)[-:](\d+))?)?")
