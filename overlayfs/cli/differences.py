"""What ``pyoverlay diff`` tells of two images."""

import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from overlayfs.cli.diff import LETTERS
from overlayfs.cli.inside import platform_of, utc_time
from overlayfs.cli.output import path_text, print_json, print_line, print_table, size
from overlayfs.cli.sources import viewed
from overlayfs.errors import OverlayError
from overlayfs.printable import printable
from overlayfs.union.attrs import Kind
from overlayfs.view.comparison import Difference, compare
from overlayfs.view.entry import Entry
from overlayfs.view.image import ImageView
from overlayfs.view.provenance import as_layers_have_it


def told(
    words: Sequence[str],
    root: Path | None,
    platform: str | None,
    *,
    times: bool,
    stat: bool,
    as_json: bool,
) -> bool:
    """Print what differs between two images; whether anything does.

    *words* are the images and perhaps a path.
    """
    with ExitStack() as opened:
        a, b = (
            opened.enter_context(viewed(root, word, platform_of(platform))) for word in words[:2]
        )
        path = _common(a, b, words[2]) if len(words) > 2 else b""
        found = compare(a, b, path, times=times)
        if stat:
            return _print_sums(found, path, as_json=as_json)
        if as_json:
            listed = [_json(difference) for difference in found]
            print_json(listed)
            return bool(listed)
        some = False
        for difference in found:
            some = True
            print_line(_line(difference))
        return some


def _common(a: ImageView, b: ImageView, word: str) -> bytes:
    """The path that is meant, which one of the images has."""
    for view in (a, b):
        path = as_layers_have_it(view, os.fsencode(word))
        if view.lookup(path) is not None:
            return path
    raise OverlayError(f"{printable(word)}: in neither of the images")


def _kind(difference: Difference) -> str:
    if difference.a is None:
        return "added"
    return "deleted" if difference.b is None else "modified"


def _line(difference: Difference) -> str:
    line = f"{LETTERS[_kind(difference)]} {path_text(difference.path)}"
    a, b = difference.a, difference.b
    if a is None or b is None:
        return line
    return f"{line}  {', '.join(_detail(field, a, b) for field in difference.fields)}"


def _detail(field: str, a: Entry, b: Entry) -> str:
    if field in ("content", "xattrs", "mtime"):
        return field
    one, other = _value(field, a), _value(field, b)
    return f"{field} {one} -> {other}"


def _value(field: str, entry: Entry) -> str:
    match field:
        case "mode":
            return f"{entry.mode & 0o7777:04o}"
        case "size":
            return size(entry.size)
        case "target":
            return os.fsdecode(entry.target)
        case "rdev":
            return f"{os.major(entry.rdev)}:{os.minor(entry.rdev)}"
        case _:
            return str(getattr(entry, field))


def _json(difference: Difference) -> dict[str, Any]:
    return {
        "kind": _kind(difference),
        "path": path_text(difference.path),
        "changed": list(difference.fields),
        "a": _entry_json(difference.a),
        "b": _entry_json(difference.b),
    }


def _entry_json(entry: Entry | None) -> dict[str, Any] | None:
    if entry is None:
        return None
    return {
        "layer": entry.layer,
        "kind": str(entry.kind),
        "mode": f"{entry.mode & 0o7777:04o}",
        "uid": entry.uid,
        "gid": entry.gid,
        "size": entry.size,
        "target": os.fsdecode(entry.target) if entry.target else None,
        "mtime": utc_time(entry.mtime_ns),
    }


# -- sums ------------------------------------------------------------------------------


class _Sum:
    """What differs in one directory; *grown* by how many bytes the second image has more."""

    def __init__(self) -> None:
        self.counts = dict.fromkeys(LETTERS, 0)
        self.grown = 0

    def take(self, difference: Difference, grown: int) -> None:
        """Count one difference, of *grown* bytes."""
        self.counts[_kind(difference)] += 1
        self.grown += grown

    def row(self, path: str) -> tuple[str, ...]:
        """A line of a table."""
        sign = "-" if self.grown < 0 else "+"
        return path, *(str(count) for count in self.counts.values()), sign + size(abs(self.grown))

    def json(self, path: str) -> dict[str, Any]:
        """The same for programs."""
        return {"path": path, **self.counts, "grown": self.grown}


def _bytes(entry: Entry | None, seen: set[tuple[int, int]]) -> int:
    """Those of a regular file, unless another name of it was *seen* before."""
    if entry is None or entry.kind is not Kind.FILE:
        return 0
    if entry.nlink > 1:
        if (entry.layer, entry.file) in seen:
            return 0
        seen.add((entry.layer, entry.file))
    return entry.size


def _print_sums(found: Iterable[Difference], top: bytes, *, as_json: bool) -> bool:
    """Print counts for each name in the directory *top*, and in all; whether there are any."""
    total = _Sum()
    sums: defaultdict[bytes, _Sum] = defaultdict(_Sum)
    seen_a: set[tuple[int, int]] = set()
    seen_b: set[tuple[int, int]] = set()
    depth = len(top.split(b"/")) + 1 if top else 1
    for difference in found:
        grown = _bytes(difference.b, seen_b) - _bytes(difference.a, seen_a)
        total.take(difference, grown)
        sums[b"/".join(difference.path.split(b"/")[:depth])].take(difference, grown)
    if as_json:
        print_json(
            {
                "directories": [each.json(path_text(path)) for path, each in sorted(sums.items())],
                "total": total.json(path_text(top)),
            }
        )
    else:
        rows = [each.row(path_text(path)) for path, each in sorted(sums.items())]
        head = ("PATH", *(kind.upper() for kind in LETTERS), "SIZE")
        print_table(head, [*rows, total.row("in all")])
    return any(total.counts.values())
