"""Names with a meaning: OCI whiteout markers and the reserved extended attributes.

Names inside an image are bytes.  Extended attribute names are bytes too, as Linux gives
them; their values are never looked at here.
"""

from enum import StrEnum

from overlayfs.union.attrs import Kind

# image-spec, layer.md, "Whiteouts".
WHITEOUT_PREFIX = b".wh."
OPAQUE_MARKER = b".wh..wh..opq"
RESERVED_PREFIX = b".wh..wh."

OVERRIDE_STAT = b"user.containers.override_stat"
_OVERRIDE_PREFIX = b"user.containers.override_"
# What a plain user may not set as it is, so it is kept beneath the override prefix.
_PRIVILEGED = (b"security.", b"trusted.", b"system.")


class Format(StrEnum):
    """How a layer directory says what the disk itself cannot.

    KERNEL is the format of the kernel's overlayfs as root uses it: real owners, modes and
    devices, ``trusted.overlay.*`` (Documentation/filesystems/overlayfs.rst).

    USER needs no privilege: ``user.overlay.*`` as with the kernel's ``userxattr`` option,
    and owner, mode and type in ``user.containers.override_stat``, the form that
    containers/storage and fuse-overlayfs use.  Whiteouts are character devices 0:0 in both.
    """

    KERNEL = "kernel"
    USER = "user"

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
        if self is Format.USER and name.startswith((*_PRIVILEGED, _OVERRIDE_PREFIX)):
            return _OVERRIDE_PREFIX + name
        return name

    def to_guest(self, disk: bytes) -> bytes | None:
        """The guest's name of an attribute on disk; None when it belongs to the union."""
        if disk.startswith(self.prefix):
            rest = disk[len(self.prefix) :]
            return self.prefix + rest[8:] if rest.startswith(b"overlay.") else None
        if self is Format.USER:
            if disk.startswith(_OVERRIDE_PREFIX):
                name = disk[len(_OVERRIDE_PREFIX) :]
                return name if name.startswith((*_PRIVILEGED, _OVERRIDE_PREFIX)) else None
            if disk.startswith(_PRIVILEGED):
                # What the host put there (an SELinux label, say) is not the image's.
                return None
        return disk


_RESERVED = {Format.KERNEL: b"trusted.overlay.", Format.USER: b"user.overlay."}


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

    Raises ValueError for anything that is not such a value.
    """
    fields = value.decode("ascii").split(":")
    if len(fields) < 3:
        raise ValueError(f"not an override: {value!r}")
    uid, gid, mode = int(fields[0]), int(fields[1]), int(fields[2], 8)
    if len(fields) == 3:
        return None, mode, uid, gid, (0, 0)
    what, *numbers = fields[3].split("-")
    rdev = (int(numbers[0]), int(numbers[1])) if len(numbers) == 2 else (0, 0)
    return Kind(what), mode, uid, gid, rdev
