"""What an upper directory changes in the layers below it."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from typing import NamedTuple

from overlayfs.layers.lower import Layer
from overlayfs.linux import fds
from overlayfs.tree.node import Node
from overlayfs.tree.tree import Tree
from overlayfs.union.attrs import Kind
from overlayfs.union.merge import Listing
from overlayfs.union.redirects import join, resolve


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
    only the directory itself is told.  Where a directory was moved in place, all that it
    shows is told.
    """
    root = _Place(b"", True, lower.root, lower.root)
    waiting = [_compare(upper, lower, root)]
    while waiting:
        found = next(waiting[-1], None)
        if found is None:
            waiting.pop()
            continue
        change, beneath = found
        yield change
        if beneath is not None:
            waiting.append(_compare(upper, lower, beneath))


class _Place(NamedTuple):
    """A directory of the union.

    *written* says whether the upper layer has it.  *before* is the directory that the path
    was without that layer, *beside* the one whose entries show, where the layer has none.
    """

    path: bytes
    written: bool
    before: Node | None
    beside: Node | None


def _compare(upper: Layer, lower: Tree, place: _Place) -> Iterator[tuple[Change, _Place | None]]:
    """The changes in one directory, each with the directory to look into next, if any."""
    listing, redirects = _written(upper, place)
    beside = None if listing.opaque else place.beside
    before, shown = _children(lower, place.before), _children(lower, beside)
    for name in sorted({*listing.entries, *before, *shown}):
        was, kept, found = before.get(name), shown.get(name), listing.entries.get(name)
        if found is None and kept is was and beside is place.before:
            continue
        kind = found.kind if found is not None else kept.kind if kept is not None else None
        path = join(place.path, name)
        if kind is None:
            if was is not None:
                yield Change(ChangeKind.DELETED, path), None
            continue
        beneath = None
        if kind is Kind.DIRECTORY:
            if found is not None and found.alone:
                kept = None
            if name in redirects:
                kept = _led_to(lower, redirects[name], beside)
            beneath = _Place(path, found is not None, _directory(was), _directory(kept))
        yield Change(ChangeKind.ADDED if was is None else ChangeKind.MODIFIED, path), beneath


def _written(upper: Layer, place: _Place) -> tuple[Listing, dict[bytes, bytes]]:
    """What the upper layer has in a directory, and the redirects of directories in it."""
    if not place.written:
        return Listing({}, opaque=False), {}
    with _opened(upper, place.path) as fd:
        listing = upper.scan(fd)
        found = {
            name: upper.redirect(fds.beneath(fd, name))
            for name, entry in listing.entries.items()
            if entry.kind is Kind.DIRECTORY
        }
    return listing, {name: value for name, value in found.items() if value is not None}


def _children(lower: Tree, node: Node | None) -> Mapping[bytes, Node]:
    return dict(lower.directory(node).children) if node is not None else {}


def _directory(node: Node | None) -> Node | None:
    return node if node is not None and node.kind is Kind.DIRECTORY else None


def _led_to(lower: Tree, redirect: bytes, beside: Node | None) -> Node | None:
    """The lower directory that *redirect* leads to from one that is *beside*; None if none."""
    if beside is None and not redirect.startswith(b"/"):
        return None
    try:
        node = lower.root
        for name in resolve(redirect, beside.path() if beside else b"").split(b"/"):
            node = lower.child(node, name)
    except (ValueError, FileNotFoundError, NotADirectoryError):
        return None
    return _directory(node)


@contextmanager
def _opened(layer: Layer, path: bytes) -> Iterator[int]:
    fd = layer.open_dir(path)
    try:
        yield fd
    finally:
        os.close(fd)
