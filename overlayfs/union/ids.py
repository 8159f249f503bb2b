"""Showing other owners than the layers have: id maps and squashing.

The options are those of fuse-overlayfs(1): ``uidmapping``, ``gidmapping``, ``squash_to_root``,
``squash_to_uid``, ``squash_to_gid``.
"""

import errno
from dataclasses import dataclass
from typing import NamedTuple

# What an id without a counterpart is shown as: /proc/sys/kernel/overflowuid.
OVERFLOW = 65534
# (uid_t) -1 stands for "leave it": chown(2).
_NO_ID = (1 << 32) - 1


def parse_id(text: str) -> int:
    """The number of a user or group; ValueError if it cannot be one."""
    number = _number(text)
    if number >= _NO_ID:
        raise ValueError(text)
    return number


def _number(text: str) -> int:
    # int() would take underscores, too.
    if not (text.isascii() and text.isdigit()):
        raise ValueError(text)
    return int(text)


class Range(NamedTuple):
    """*length* ids from *kept* on in the layers are shown as those from *shown* on."""

    kept: int
    shown: int
    length: int


@dataclass(frozen=True, slots=True)
class IdMap:
    """Which ids the layers have, and as which they are shown.

    With *squash* every id is shown as that one, and what is to be kept is *ours*, the id of
    the process that serves.
    """

    ranges: tuple[Range, ...] = ()
    squash: int | None = None
    ours: int = 0

    @classmethod
    def parse(cls, text: str) -> "IdMap":
        """``KEPT:SHOWN:COUNT[:KEPT:SHOWN:COUNT...]``; ValueError for anything else."""
        numbers = [_number(part) for part in text.split(":") if part]  # podman begins with one
        if len(numbers) % 3:
            raise ValueError(text)
        found = [Range(*numbers[at : at + 3]) for at in range(0, len(numbers), 3)]
        # As user_namespaces(7) has it: each id has one counterpart at most.
        for firsts in ([each.kept for each in found], [each.shown for each in found]):
            end = 0
            for first, length in sorted(zip(firsts, (r.length for r in found), strict=True)):
                if first < end or not length or first + length > _NO_ID:
                    raise ValueError(text)
                end = first + length
        return cls(tuple(found))

    def shown(self, kept: int) -> int:
        """What the id *kept* of a layer is shown as."""
        if self.squash is not None:
            return self.squash
        if not self.ranges:
            return kept
        for each in self.ranges:
            if 0 <= kept - each.kept < each.length:
                return kept - each.kept + each.shown
        return OVERFLOW

    def kept(self, shown: int) -> int:
        """The id to write down for *shown*; OSError EOVERFLOW when there is none."""
        if self.squash is not None:
            return self.ours
        if not self.ranges:
            return shown
        for each in self.ranges:
            if 0 <= shown - each.shown < each.length:
                return shown - each.shown + each.kept
        raise OSError(errno.EOVERFLOW, f"id {shown} is not mapped")

    def kept_if_any(self, shown: int) -> int:
        """Like ``kept``, with OVERFLOW for what there is none for."""
        try:
            return self.kept(shown)
        except OSError:
            return OVERFLOW


_SAME = IdMap()


@dataclass(frozen=True, slots=True)
class Ids:
    """Users and groups."""

    users: IdMap = _SAME
    groups: IdMap = _SAME

    @property
    def plain(self) -> bool:
        """Whether everything is shown as it is."""
        return self == PLAIN


PLAIN = Ids()
