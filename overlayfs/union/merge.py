"""Merging the listings of one directory in several layers."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from overlayfs.union.attrs import Kind


class Found(NamedTuple):
    """What one layer has under a name; *kind* None is a whiteout.

    *alone* says of a directory that nothing below it shows, whatever else marks it.
    """

    kind: Kind | None
    ino: int
    alone: bool = False


class Listing(NamedTuple):
    """One layer's part of a directory; *opaque* hides the parts below."""

    entries: Mapping[bytes, Found]
    opaque: bool


class Merged(NamedTuple):
    """One name of the union.

    *parts* are the layers' shares, topmost first, each with the position of its layer:
    one for a file, one or more for a directory.
    """

    kind: Kind
    parts: list[tuple[int, Found]]


def merge(listings: Iterable[Listing]) -> tuple[dict[bytes, Merged], int]:
    """The names of the union of *listings* (topmost first), and how many took part.

    *listings* is read lazily: nothing below an opaque directory is asked for.  A
    directory merges with the directories of that name below it, as far as the first file
    or whiteout (Documentation/filesystems/overlayfs.rst, "Upper and Lower").
    """
    names: dict[bytes, Merged] = {}
    closed: set[bytes] = set()
    depth = 0
    for depth, listing in enumerate(listings, 1):
        for name, found in listing.entries.items():
            if name in closed:
                continue
            merged = names.get(name)
            if found.kind is None:
                closed.add(name)
            elif merged is None:
                names[name] = Merged(found.kind, [(depth - 1, found)])
                if found.kind is not Kind.DIRECTORY or found.alone:
                    closed.add(name)
            elif found.kind is Kind.DIRECTORY:
                merged.parts.append((depth - 1, found))
                if found.alone:
                    closed.add(name)
            else:
                closed.add(name)
        if listing.opaque:
            break
    return names, depth


class Covered(NamedTuple):
    """A directory of the union with the upper layer on top.

    *names* are what is visible: the upper's own entry if it has one, and the lower parts
    that show.  *whiteouts* are the upper's; *below* are the names that the upper layer
    has, as an entry or as a whiteout, and that would show something else without it.
    """

    names: dict[bytes, tuple[Found | None, Merged | None]]
    whiteouts: set[bytes]
    below: set[bytes]


def cover(upper: Mapping[bytes, Found], lower: Mapping[bytes, Merged]) -> Covered:
    """The union of the merged lower layers with the *upper* listing above them."""
    names: dict[bytes, tuple[Found | None, Merged | None]] = {
        name: (None, merged) for name, merged in lower.items()
    }
    whiteouts = set()
    below = set()
    for name, found in upper.items():
        beneath = lower.get(name)
        if beneath is not None:
            below.add(name)
        if found.kind is None:
            whiteouts.add(name)
            names.pop(name, None)
        elif found.kind is Kind.DIRECTORY and beneath and beneath.kind is Kind.DIRECTORY:
            names[name] = (found, beneath)
        else:
            names[name] = (found, None)
    return Covered(names, whiteouts, below)
