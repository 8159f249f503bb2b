"""What differs between the trees of two images."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import takewhile
from typing import NamedTuple

from overlayfs.union.merge import merge
from overlayfs.view.entry import Entry
from overlayfs.view.image import ImageView
from overlayfs.view.part import Part
from overlayfs.view.provenance import differences, same_bytes


class Difference(NamedTuple):
    """A path that is not the same in both: *a* and *b* are what it is there, None if nothing.

    *fields* are the names of what differs, none where it is in one of them only.
    """

    path: bytes
    a: Entry | None
    b: Entry | None
    fields: tuple[str, ...] = ()


class _Side(NamedTuple):
    """What one image has at a path, and the parts with a share in it, topmost first."""

    entry: Entry | None
    parts: tuple[Part, ...]


def compare(
    a: ImageView, b: ImageView, path: bytes = b"", *, times: bool = False
) -> Iterator[Difference]:
    """What differs at *path* and beneath, following no symbolic link; with *times*, those too.

    Directories come before what is in them, and names sorted.  Of a directory that is in one
    image only everything in it is told.  Contents are compared byte by byte, but for what both
    have from layers that they share from the base up.
    """
    comparison = _Comparison(_shared(a, b), times=times)
    waiting = [iter([(path, _side(a, path), _side(b, path))])]
    while waiting:
        found = next(waiting[-1], None)
        if found is None:
            waiting.pop()
            continue
        difference = comparison.difference(*found)
        if difference is not None:
            yield difference
        waiting.append(comparison.inside(*found))


def _shared(a: ImageView, b: ImageView) -> int:
    """How many layers are the same in both, from the base up."""
    pairs = zip(a.parts, b.parts, strict=False)
    same = takewhile(lambda two: two[0].diff_id and two[0].diff_id == two[1].diff_id, pairs)
    return sum(1 for _ in same)


def _side(view: ImageView, path: bytes) -> _Side:
    found = view.lookup(path)
    return _Side(found[1] if found else None, tuple(part for part, _ in view.showing(path)))


class _Comparison:
    """Compares images whose first *shared* layers are the same."""

    def __init__(self, shared: int, *, times: bool) -> None:
        self._shared = shared
        self._times = times

    def difference(self, path: bytes, a: _Side, b: _Side) -> Difference | None:
        """What differs at *path* itself."""
        if a.entry is None or b.entry is None:
            return None if a.entry is b.entry else Difference(path, a.entry, b.entry)
        if self._is_shared(a.parts, b.parts):
            return None
        one, other = a.parts[0], b.parts[0]
        fields = differences(
            a.entry,
            b.entry,
            times=self._times,
            xattrs=lambda: one.xattrs(path) == other.xattrs(path),
            content=lambda: same_bytes(one.open(path), other.open(path)),
        )
        named = tuple(fields)
        return Difference(path, a.entry, b.entry, named) if named else None

    def inside(self, path: bytes, a: _Side, b: _Side) -> Iterator[tuple[bytes, _Side, _Side]]:
        """What is in the directory *path* and may differ."""
        if self._is_shared(a.parts, b.parts):
            return
        in_a, in_b = _names(path, a), _names(path, b)
        wanted = [
            name
            for name in sorted({*in_a, *in_b})
            if not self._is_shared(in_a.get(name, ()), in_b.get(name, ()))
        ]
        sides_a, sides_b = _sides(path, in_a, wanted), _sides(path, in_b, wanted)
        above = path + b"/" if path else b""
        for name in wanted:
            yield above + name, sides_a.get(name, _NOTHING), sides_b.get(name, _NOTHING)

    def _is_shared(self, a: tuple[Part, ...], b: tuple[Part, ...]) -> bool:
        """Whether it is the same since both have it from the same layers."""
        return len(a) == len(b) and all(
            one.number == other.number <= self._shared for one, other in zip(a, b, strict=True)
        )


_NOTHING = _Side(None, ())


def _names(path: bytes, side: _Side) -> Mapping[bytes, tuple[Part, ...]]:
    """The names in a directory, with the parts that have a share in each; none in a file."""
    if side.entry is None or not side.entry.is_dir:
        return {}
    merged, _ = merge(part.listing(path) for part in side.parts)
    return {name: tuple(side.parts[at] for at, _ in found.parts) for name, found in merged.items()}


def _sides(
    path: bytes, names: Mapping[bytes, tuple[Part, ...]], wanted: Iterable[bytes]
) -> dict[bytes, _Side]:
    asked: defaultdict[int, list[bytes]] = defaultdict(list)
    for name in wanted:
        if name in names:
            asked[names[name][0].number].append(name)
    found = {}
    for same in asked.values():
        entries = names[same[0]][0].entries(path, same)
        found.update({name: _Side(entry, names[name]) for name, entry in entries.items()})
    return found
