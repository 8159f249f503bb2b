"""What each layer of an image did to one path."""

import errno
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import BinaryIO

from overlayfs.union.attrs import Kind
from overlayfs.view.entry import Entry
from overlayfs.view.image import ImageView
from overlayfs.view.part import Part

_PIECE = 1 << 18


class Action(StrEnum):
    """What a layer did to a path.

    ADDED where there was nothing; REPLACED by another file, or by a directory that shows
    nothing of the one below; CHANGED in its attributes alone; UNCHANGED when the layer has the
    same once more, as it has a directory in which something is its own; REMOVED.
    """

    ADDED = "added"
    REPLACED = "replaced"
    CHANGED = "changed"
    UNCHANGED = "unchanged"
    REMOVED = "removed"


class Cause(StrEnum):
    """What hides a path from a layer further up."""

    WHITEOUT = "whiteout"
    OPAQUE = "opaque"  # a directory
    FILE = "file"  # in the place of a directory


@dataclass(frozen=True, slots=True)
class Hiding:
    """What hides a path: something at *path*, which is that path or one above it."""

    cause: Cause
    path: bytes


@dataclass(frozen=True, slots=True)
class Event:
    """What the layer *number* did to a path.

    *entry* is what it has there, None when it removed it.  *fields* are the attributes that
    differ from what was there, *hidden* is what hides that.  *implied*: it has no entry for
    the directory, but something in it.
    """

    number: int
    action: Action
    entry: Entry | None
    fields: tuple[str, ...] = ()
    hidden: Hiding | None = None
    implied: bool = False


def history(view: ImageView, path: bytes) -> tuple[Event, ...]:
    """What the layers of *view* did to *path*, base first; no link is followed.

    Layers that say nothing of it are left out, and so are those that hide it where it was not.
    The last event is what shows; nothing shows when that is a removal.
    """
    events: list[Event] = []
    before: tuple[Part, Entry] | None = None
    for part in view.parts:
        hidden, entry = _said(part, path)
        if entry is None:
            if before is not None and hidden is not None:
                events.append(Event(part.number, Action.REMOVED, None, hidden=hidden))
                before = None
            continue
        implied = entry.is_dir and part.is_implied(path)
        if before is None:
            # What is hidden below was not there.
            event = Event(part.number, Action.ADDED, entry, implied=implied)
        else:
            fields = tuple(_differences(before, (part, entry), path))
            action = _action(before[1], entry, fields, hidden)
            event = Event(part.number, action, entry, fields, hidden, implied)
        events.append(event)
        before = part, entry
    return tuple(events)


def _said(part: Part, path: bytes) -> tuple[Hiding | None, Entry | None]:
    """What in *part* hides *path* of the layers below, and what it has there."""
    hidden = None
    for place in _down_to(path):
        found = part.look(place)
        if found is None:
            return hidden, None
        if found.kind is None:
            return Hiding(Cause.WHITEOUT, place), None
        if found.kind is not Kind.DIRECTORY and place != path:
            return Hiding(Cause.FILE, place), None
        if found.alone and hidden is None:
            hidden = Hiding(Cause.OPAQUE, place)
    entry = part.find(path)
    assert isinstance(entry, Entry)
    return hidden, entry


def _down_to(path: bytes) -> Iterator[bytes]:
    """The root, the directories that *path* is in, and *path*."""
    yield b""
    at = path.find(b"/")
    while at >= 0:
        yield path[:at]
        at = path.find(b"/", at + 1)
    if path:
        yield path


def _action(before: Entry, entry: Entry, fields: Iterable[str], hidden: Hiding | None) -> Action:
    if before.kind is not entry.kind or (hidden is not None and entry.is_dir):
        return Action.REPLACED
    if not fields:
        return Action.UNCHANGED
    return Action.REPLACED if _WHOLE.intersection(fields) else Action.CHANGED


# With one of these other than before it is another file.
_WHOLE = frozenset(("kind", "size", "content", "target", "rdev"))


def _differences(
    before: tuple[Part, Entry], after: tuple[Part, Entry], path: bytes
) -> Iterator[str]:
    """The names of what differs; the times of a directory come with what is in it."""
    times = not after[1].is_dir
    yield from differences(
        before[1],
        after[1],
        times=times,
        xattrs=lambda: before[0].xattrs(path) == after[0].xattrs(path),
        content=lambda: same_bytes(before[0].open(path), after[0].open(path)),
    )


def differences(
    a: Entry, b: Entry, *, times: bool, xattrs: Callable[[], bool], content: Callable[[], bool]
) -> Iterator[str]:
    """The names of what differs between two files, in the order in which people look at it.

    *xattrs* and *content* say whether those are equal, and are called only if need be.
    """
    if a.kind is not b.kind:
        yield "kind"
    if a.mode & 0o7777 != b.mode & 0o7777:
        yield "mode"
    if a.uid != b.uid:
        yield "uid"
    if a.gid != b.gid:
        yield "gid"
    if a.kind is b.kind:
        if a.rdev != b.rdev:
            yield "rdev"
        if a.target != b.target:
            yield "target"
        elif a.size != b.size:
            yield "size"
        elif a.kind is Kind.FILE and not content():
            yield "content"
    if not xattrs():
        yield "xattrs"
    if times and a.mtime_ns != b.mtime_ns:
        yield "mtime"


def same_bytes(one: BinaryIO, other: BinaryIO) -> bool:
    """Whether two files have the same bytes; both are closed."""
    with one, other:
        while True:
            piece = one.read(_PIECE)
            if piece != _exactly(other, len(piece)):
                return False
            if not piece:
                return not other.read(1)


def _exactly(file: BinaryIO, size: int) -> bytes:
    """*size* bytes, fewer only at the end."""
    pieces = []
    while size and (piece := file.read(size)):
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


def as_layers_have_it(view: ImageView, path: bytes) -> bytes:
    """*path* without the symbolic links that lead to it, as far as the image has them.

    A last name that is a link stays, unless a slash follows it.  What the image does not show
    any more is taken as it is written.
    """
    names = _names(path)
    slash = path.endswith((b"/", b"/."))
    for shown in range(len(names), 0, -1):
        try:
            above = view.resolve(b"/".join(names[:shown]), follow=shown < len(names) or slash)
        except OSError as exc:
            if exc.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                raise
        else:
            return b"/".join(_names(b"/".join((above, *names[shown:])), dots=True))
    return b"/".join(_names(path, dots=True))


def _names(path: bytes, *, dots: bool = False) -> list[bytes]:
    """The names in *path*; with *dots* a ``..`` takes away what is in front of it."""
    names: list[bytes] = []
    for name in path.split(b"/"):
        if dots and name == b"..":
            del names[-1:]
        elif name not in (b"", b"."):
            names.append(name)
    return names
