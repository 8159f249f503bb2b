"""An image by path: its layers, merged by the rules of the union."""

import errno
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from typing import BinaryIO

from overlayfs.image.source import Closing
from overlayfs.union.attrs import Kind
from overlayfs.union.merge import Merged, merge
from overlayfs.view.entry import Entry, refusal
from overlayfs.view.part import Part

# What path_resolution(7) allows.
_MOST_LINKS = 40
_DEEP = 100


class _Lazy:
    """The items of an iterator, as often as they are wanted, each taken when it is."""

    def __init__(self, source: Iterator[tuple[Part, Kind]]) -> None:
        self._source = source
        self._taken: list[tuple[Part, Kind]] = []

    def __iter__(self) -> Iterator[tuple[Part, Kind]]:
        at = 0
        while True:
            while at < len(self._taken):
                yield self._taken[at]
                at += 1
            item = next(self._source, None)
            if item is None:
                return
            self._taken.append(item)

    def exhaust(self) -> None:
        """Take them all."""
        self._taken += self._source

    def __bool__(self) -> bool:
        return bool(self._taken)


class ImageView(Closing):
    """The tree that a mount of the image shows, looked up and not mounted.

    Paths are bytes relative to the root, which is ``b""``; a slash in front and ``.`` are
    passed over.  Symbolic links are followed inside the image, where absolute ones begin at
    its root and ``..`` ends there.  *parts* are its layers, base first; what a layer further
    up decides is not asked of those below.

    Methods raise OSError with the path, as the system calls of the same kind do: ENOENT,
    ENOTDIR, EISDIR, ELOOP; and InvalidImage for a layer that is damaged or hostile.
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        """*parts* are this one's to close."""
        self.parts = tuple(parts)
        self._directories: dict[bytes, _Lazy] = {}

    def verify(self) -> None:
        """Read all layers that were not read whole; InvalidImage when one is another one."""
        for part in self.parts:
            part.verify()

    def close(self) -> None:
        """Let go of the layers; bodies that were opened stay so."""
        for part in self.parts:
            part.close()

    # -- one path ----------------------------------------------------------------------

    def lookup(self, path: bytes) -> tuple[Part, Entry] | None:
        """What *path* shows and the topmost part that has it, following no symbolic link."""
        for part, _ in self.showing(path):
            entry = part.find(path)
            assert isinstance(entry, Entry)
            return part, entry
        return None

    def showing(self, path: bytes) -> Iterator[tuple[Part, Kind]]:
        """The parts with a share in what *path* shows, topmost first.

        One for a file, one or more for a directory, none where there is nothing.  No symbolic
        link is followed, and no part is asked before its turn.
        """
        above: Iterable[Part]
        if path:
            above = (part for part, _ in self._directory(path.rpartition(b"/")[0]))
        else:
            above = reversed(self.parts)
        first = True
        for part in above:
            found = part.look(path)
            if found is None:
                continue
            is_dir = found.kind is Kind.DIRECTORY
            if found.kind is None or not (first or is_dir):
                return
            yield part, found.kind
            if found.alone or not is_dir:
                return
            first = False

    def _directory(self, path: bytes) -> _Lazy:
        """What ``showing`` says of a path that is likely to be asked for again."""
        found = self._directories.get(path)
        if found is None:
            # Each asks the one above; what is too deep for Python's stack is asked beforehand.
            for cut in _deep_cuts(path):
                if path[:cut] not in self._directories:
                    made = self._directories[path[:cut]] = _Lazy(self.showing(path[:cut]))
                    made.exhaust()
                    if not made:
                        return made  # nor is there anything beneath
            found = self._directories.setdefault(path, _Lazy(self.showing(path)))
        return found

    def resolve(self, path: bytes, *, follow: bool = True) -> bytes:
        """The path without symbolic links on the way; with *follow* the last one as well.

        The last name need not exist, unless a slash follows it.
        """
        left = _names(path)
        trailing = path.endswith((b"/", b"/."))
        at = b""
        links = 0
        while left:
            name = left.pop()
            if name == b"..":
                at = at.rpartition(b"/")[0]
                continue
            here = at + b"/" + name if at else name
            last = not left
            shares = self.showing(here) if last else self._directory(here)
            kind = next((kind for _, kind in shares), None)
            if kind is None:
                if last and not trailing:
                    return here
                raise refusal(errno.ENOENT, path)
            if kind is Kind.SYMLINK and (follow or not last or trailing):
                links += 1
                if links > _MOST_LINKS:
                    raise refusal(errno.ELOOP, path)
                target = self._target(here)
                if target.startswith(b"/"):
                    at = b""
                left += _names(target)
                trailing = trailing or (last and target.endswith(b"/"))
                continue
            if kind is not Kind.DIRECTORY and (not last or trailing):
                raise refusal(errno.ENOTDIR, path)
            at = here
        return at

    def _target(self, path: bytes) -> bytes:
        found = self.lookup(path)
        assert found is not None
        return found[1].target

    def stat(self, path: bytes, *, follow: bool = True) -> Entry:
        """What *path* is; of a symbolic link what it leads to, unless *follow* is False."""
        return self._find(path, follow=follow)[2]

    def open(self, path: bytes) -> BinaryIO:
        """The body of the regular file *path*, for the caller to close.

        EISDIR for a directory, EINVAL for another file without a body.
        """
        real, part, entry = self._find(path, follow=True)
        if entry.is_dir:
            raise refusal(errno.EISDIR, path)
        if entry.kind is not Kind.FILE:
            raise refusal(errno.EINVAL, path)
        return part.open(real)

    def xattrs(self, path: bytes, *, follow: bool = True) -> dict[bytes, bytes]:
        """The extended attributes of *path*, access lists among them."""
        real, part, _ = self._find(path, follow=follow)
        return part.xattrs(real)

    def _find(self, path: bytes, *, follow: bool) -> tuple[bytes, Part, Entry]:
        real = self.resolve(path, follow=follow)
        found = self.lookup(real)
        if found is None:
            if real:
                raise refusal(errno.ENOENT, path)
            raise refusal(errno.ENOENT, b"/")
        return (real, *found)

    # -- directories ---------------------------------------------------------------------

    def list(self, path: bytes) -> dict[bytes, Entry]:
        """The files in the directory *path*, by name, sorted."""
        real, _, entry = self._find(path, follow=True)
        if not entry.is_dir:
            raise refusal(errno.ENOTDIR, path)
        return self._list(real, self._parts_of(real))[0]

    def walk(self, top: bytes = b"", *, follow: bool = True) -> Iterator[tuple[bytes, Entry]]:
        """*top* and all beneath with their paths, directories before what is in them.

        Names come sorted, and a directory is followed by what is in it.  Symbolic links are
        not followed, but for those that lead to *top*, with *follow* the last one as well.
        """
        real, _, entry = self._find(top, follow=follow)
        yield real, entry
        if not entry.is_dir:
            return
        # Directories may be deeper than Python's stack.
        left = [self._inside(real, self._parts_of(real))]
        while left:
            step = next(left[-1], None)
            if step is None:
                left.pop()
                continue
            path, entry, parts = step
            yield path, entry
            if parts:
                left.append(self._inside(path, parts))

    def _inside(
        self, path: bytes, parts: Sequence[Part]
    ) -> Iterator[tuple[bytes, Entry, Sequence[Part]]]:
        entries, merged = self._list(path, parts)
        above = path + b"/" if path else b""
        for name, entry in entries.items():
            below = [parts[at] for at, _ in merged[name].parts] if entry.is_dir else ()
            yield above + name, entry, below

    def _parts_of(self, path: bytes) -> Sequence[Part]:
        return [part for part, _ in self.showing(path)]

    @staticmethod
    def _list(path: bytes, parts: Sequence[Part]) -> tuple[dict[bytes, Entry], dict[bytes, Merged]]:
        merged, _ = merge(part.listing(path) for part in parts)
        wanted = sorted((found.parts[0][0], name) for name, found in merged.items())
        entries: dict[bytes, Entry] = {}
        for at, names in groupby(wanted, key=itemgetter(0)):
            entries |= parts[at].entries(path, [name for _, name in names])
        return dict(sorted(entries.items())), merged


def _deep_cuts(path: bytes) -> Iterator[int]:
    """Where the names of *path* end that come after the first ``_DEEP``."""
    if path.count(b"/") < _DEEP:
        return
    at = -1
    for number in range(path.count(b"/")):
        at = path.index(b"/", at + 1)
        if number >= _DEEP:
            yield at
    yield len(path)


def _names(path: bytes) -> list[bytes]:
    """The names of *path*, last first."""
    return [name for name in reversed(path.split(b"/")) if name not in (b"", b".")]
