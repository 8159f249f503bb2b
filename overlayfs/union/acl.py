"""POSIX access control lists in the form that extended attributes carry them.

linux/posix_acl_xattr.h: a version word, then (tag, permissions, id) for each entry.  The
rules are those of acl(5), "OBJECT CREATION AND DEFAULT ACLs" and "CORRESPONDENCE
BETWEEN ACL ENTRIES AND FILE PERMISSION BITS".
"""

import struct
from collections.abc import Callable

ACCESS = b"system.posix_acl_access"
DEFAULT = b"system.posix_acl_default"
LISTS = (ACCESS, DEFAULT)

_VERSION = struct.pack("<I", 2)
_ENTRY = struct.Struct("<HHI")
_USER_OBJ, _GROUP_OBJ, _MASK, _OTHER = 0x01, 0x04, 0x10, 0x20
_USER, _GROUP = 0x02, 0x08
_PLAIN = {_USER_OBJ, _GROUP_OBJ, _OTHER}


def _entries(acl: bytes) -> list[tuple[int, int, int]]:
    if acl[:4] != _VERSION or (len(acl) - 4) % _ENTRY.size:
        raise ValueError(f"not an access control list: {acl!r}")
    return list(_ENTRY.iter_unpack(acl[4:]))


def _shifts(entries: list[tuple[int, int, int]]) -> dict[int, int]:
    """Which entries stand for permission bits, and where those are."""
    group = _MASK if any(tag == _MASK for tag, _, _ in entries) else _GROUP_OBJ
    return {_USER_OBJ: 6, group: 3, _OTHER: 0}


def permissions(acl: bytes) -> int:
    """The nine permission bits that *acl* stands for."""
    entries = _entries(acl)
    shifts = _shifts(entries)
    return sum(perm << shifts[tag] for tag, perm, _ in entries if tag in shifts)


def is_plain(acl: bytes) -> bool:
    """Whether permission bits say as much as *acl*, so that it need not be kept."""
    return all(tag in _PLAIN for tag, _, _ in _entries(acl))


def with_permissions(acl: bytes, mode: int) -> bytes:
    """*acl* after a chmod to *mode*."""
    entries = _entries(acl)
    shifts = _shifts(entries)
    return _VERSION + b"".join(
        _ENTRY.pack(tag, mode >> shifts[tag] & 7 if tag in shifts else perm, who)
        for tag, perm, who in entries
    )


def mapped(acl: bytes, user: Callable[[int], int], group: Callable[[int], int]) -> bytes:
    """*acl* for other ids: each named *user* and *group* is replaced."""
    change = {_USER: user, _GROUP: group}
    return _VERSION + b"".join(
        _ENTRY.pack(tag, perm, change[tag](who) if tag in change else who)
        for tag, perm, who in _entries(acl)
    )


def inherit(default: bytes, mode: int) -> tuple[int, bytes | None]:
    """Mode and access list of an object created with *mode* below a *default* list.

    The list is None when the mode alone says it.
    """
    permitted = permissions(default) & mode & 0o777
    acl = with_permissions(default, permitted)
    return mode & ~0o777 | permitted, None if is_plain(acl) else acl
