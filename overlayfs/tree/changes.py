"""What an upper directory changes in the layers below it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import NamedTuple

from overlayfs.layers.lower import Layer
from overlayfs.tree.node import Node
from overlayfs.tree.tree import Tree
from overlayfs.union.attrs import Kind


class ChangeKind(StrEnum):
    """How a path differs from what it was."""

    ADDED = "added"
    MODIFIED = "modified"
    DELETED = "deleted"


class Change(NamedTuple):
    """One path that differs; *path* is relative to the root of the image."""

    kind: ChangeKind
    path: bytes


def changes(upper: Layer, lower: Tree) -> Iterator[Change]:
    """What *upper* adds to, changes in and removes from the read-only tree *lower*.

    In the order of the names, a directory before what is in it.  A directory in which
    something changed counts as modified, as `docker diff` has it; of a removed directory
    only the directory itself is told.
    """
    waiting = [_compare(upper, lower, b"", lower.root)]
    while waiting:
        found = next(waiting[-1], None)
        if found is None:
            waiting.pop()
            continue
        change, below, is_directory = found
        yield change
        if is_directory:
            waiting.append(_compare(upper, lower, change.path, below))


def _compare(
    upper: Layer, lower: Tree, path: bytes, node: Node | None
) -> Iterator[tuple[Change, Node | None, bool]]:
    """The changes in one directory, with what was there and whether to look inside."""
    with _opened(upper, path) as fd:
        listing = upper.scan(fd)
    before = dict(lower.directory(node).children) if node is not None else {}
    hidden = {name for name in before if listing.opaque and name not in listing.entries}
    for name in sorted({*listing.entries, *hidden}):
        below = before.get(name)
        here = path + b"/" + name if path else name
        found = listing.entries.get(name)
        if found is None or found.kind is None:
            if below is not None:
                yield Change(ChangeKind.DELETED, here), None, False
            continue
        change = Change(ChangeKind.ADDED if below is None else ChangeKind.MODIFIED, here)
        if below is not None and below.kind is not Kind.DIRECTORY:
            below = None
        yield change, below, found.kind is Kind.DIRECTORY


@contextmanager
def _opened(layer: Layer, path: bytes) -> Iterator[int]:
    fd = layer.open_dir(path)
    try:
        yield fd
    finally:
        os.close(fd)
