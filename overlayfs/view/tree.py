"""What a tar would make of a layer directory, in memory: names and places, no bodies."""

import errno
import os
import tarfile
from collections import defaultdict
from typing import TYPE_CHECKING, Protocol

from overlayfs.errors import InvalidImage
from overlayfs.layers import member as tar
from overlayfs.layers.directories import Directory, Tree, everything
from overlayfs.layers.links import Links, Place
from overlayfs.layers.markers import Markers
from overlayfs.printable import printable
from overlayfs.union.attrs import Kind
from overlayfs.view.headers import MOST_ENTRIES, Header

if TYPE_CHECKING:
    from overlayfs.view.entry import Entry
    from overlayfs.view.part import Part

_LONGEST_NAME = 255
_LONGEST_TARGET = 4095


class Below(Protocol):
    """The layers below one, merged."""

    def lookup(self, path: bytes) -> "tuple[Part, Entry] | None":
        """What *path* shows and the topmost part that has it, following no symbolic link."""


class Body:
    """A file that is no directory; *lent* is that of a lower layer that a hard link brings up."""

    __slots__ = ("header", "lent", "nlink")

    def __init__(self, header: Header, lent: "tuple[Part, bytes, Entry] | None" = None) -> None:
        self.header = header
        self.lent = lent
        self.nlink = 1

    @property
    def kind(self) -> Kind:
        """What it is."""
        return self.lent[2].kind if self.lent else tar.KINDS[self.header.type]


class LayerTree(Tree):
    """The files of a layer, entry by entry; the rules are those of ``layers.writer``.

    *files* are those of each directory beside its ``children``, None for a whiteout, and
    *headers* those of the directories that have one.
    """

    def __init__(self, what: str) -> None:
        super().__init__()
        self.files: defaultdict[Directory, dict[bytes, Body | None]] = defaultdict(dict)
        self.headers: dict[Directory, Header] = {}
        self._what = what
        self._made = 0
        self._markers = Markers()
        self._links = Links(self, self._link_to)

    # -- entries -----------------------------------------------------------------------

    def take(self, header: Header) -> None:
        """One entry more; InvalidImage for one that no layer can have."""
        try:
            self._take(header)
        except (ValueError, OSError) as exc:
            reason = exc.strerror if isinstance(exc, OSError) else printable(str(exc))
            raise InvalidImage(f"{self._where(header.path)}: {reason}") from exc

    def _where(self, path: bytes) -> str:
        return f"{self._what}: {printable(path, 200)}"

    def _take(self, header: Header) -> None:
        kind_of = header.type
        is_root = not header.path and kind_of == tarfile.DIRTYPE
        path = b"" if is_root else tar.path_of(header.path)
        parent, _, name = path.rpartition(b"/")
        if self._markers.take(path):
            return
        if len(name) > _LONGEST_NAME:
            raise ValueError(f"a name of {len(name)} bytes")
        if kind_of == tarfile.LNKTYPE:
            self._hard_link(parent, name, tar.path_of(header.target))
            return
        kind = tar.KINDS.get(kind_of)
        if kind is None:
            raise ValueError(f"an entry of the unknown type {kind_of!r}")
        if kind is Kind.CHAR and path and header.inode and header.inode.rdev == (0, 0):
            self._markers.hide(path)
        elif kind is Kind.DIRECTORY:
            self._directory(parent, name, header)
        elif not name:
            raise ValueError("the root is no directory")
        else:
            if kind is Kind.SYMLINK:
                _check_target(header.target)
            above = self.reach(parent)
            here = self.files[above]
            if name in here or name in above.children:
                self._clear(above, name)
            self._links.replaced((above, name))
            here[name] = Body(header)

    def _directory(self, parent: bytes, name: bytes, header: Header) -> None:
        if not name:
            self.headers[self.root] = header
            return
        above = self.reach(parent)
        known = above.children.get(name)
        if known is None:
            self._clear(above, name)
            known = self.add(above, name)
        # A later entry replaces the attributes of an earlier one: layer.md.
        self.headers[known] = header

    def _hard_link(self, parent: bytes, name: bytes, target: bytes) -> None:
        if not name or not target:
            raise ValueError("a hard link with the root")
        above = self.reach(parent)
        if self._links.is_itself((above, name), target):
            return
        self._clear(above, name)
        self._links.make((above, name), target)

    def _link_to(self, source: Place, place: Place) -> bool:
        known = self.files[source[0]].get(source[1])
        if known is None:
            return False
        self.files[place[0]][place[1]] = known
        return True

    def _clear(self, above: Directory, name: bytes) -> None:
        """Make room: the last entry of a name wins."""
        known = above.children.get(name)
        if known is not None:
            self._links.forget_beneath(known)
            self.forget(known)
            for gone in everything(known):
                self.files.pop(gone, None)
                self.headers.pop(gone, None)
        self._links.forget((above, name))
        self.files[above].pop(name, None)

    # -- what Tree asks for --------------------------------------------------------------

    def target(self, at: Directory, name: bytes) -> bytes | None:
        if len(name) > _LONGEST_NAME:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), name)
        here = self.files[at]
        if name not in here:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
        found = here[name]
        return found.header.target if found and found.kind is Kind.SYMLINK else None

    def add(self, parent: Directory, name: bytes) -> Directory:
        self._made += 1
        if self._made > MOST_ENTRIES:
            raise InvalidImage(f"{self._what}: more than {MOST_ENTRIES} directories")
        return super().add(parent, name)

    # -- the end -----------------------------------------------------------------------

    @property
    def has_foreign_links(self) -> bool:
        """Whether a hard link leads to a file of a lower layer, for all that is known yet."""
        return bool(self._links.foreign())

    def finish(self, below: Below) -> None:
        """Hide what is to be hidden, and complete hard links with what is *below*."""
        try:
            self._finish(below)
        except OSError as exc:
            raise InvalidImage(f"{self._what}: {exc.strerror}") from exc

    def _finish(self, below: Below) -> None:
        self._markers.write(self, self._whiteout)
        for group in self._links.groups():
            names = list(group)
            body = self.files[names[0][0]][names[0][1]]
            assert body is not None
            body.nlink = len(names)
        brought: dict[bytes, Body] = {}
        foreign = self._links.foreign()
        own = frozenset(path for path, _ in foreign)
        for path, target in foreign:
            self._complete(path, target, below, brought, own)

    def _whiteout(self, above: Directory, name: bytes) -> None:
        if name in self.files[above] or self._links.awaits((above, name)):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name)
        self.files[above][name] = None

    def _complete(
        self,
        path: bytes,
        target: bytes,
        below: Below,
        brought: dict[bytes, Body],
        own: frozenset[bytes],
    ) -> None:
        """Make *path* a name of the lower file *target*; see ``layers.complete``."""
        parent, _, name = path.rpartition(b"/")
        above = self.find(parent)
        assert above is not None
        known = brought.get(target)
        if known is not None:
            self.files[above][name] = known
            known.nlink += 1
            return
        found = below.lookup(target)
        if found is None:
            raise InvalidImage(
                f"{self._where(path)}: a hard link to {printable(target, 200)}, which is nowhere"
            )
        part, entry = found
        if entry.is_dir:
            raise InvalidImage(
                f"{self._where(path)}: a hard link to the directory {printable(target, 200)}"
            )
        number = -1 - len(brought)
        body = Body(Header(number, 0, 0, b"", path, b""), (part, target, entry))
        self.files[above][name] = brought[target] = body
        place = None if target in own else self._showing(target)
        if place is not None:
            self.files[place[0]][place[1]] = body
            body.nlink = 2

    def _showing(self, path: bytes) -> Place | None:
        """Where the lower file *path* is to come up as well, if the layer does not hide it."""
        *parents, name = path.split(b"/")
        at = self.root
        for folder in parents:
            known = at.children.get(folder)
            if known is None:
                if at.opaque or folder in self.files[at]:
                    return None
                known = self.add(at, folder)
            at = known
        if at.opaque or name in at.children or name in self.files[at]:
            return None
        return at, name

    # -- looking -----------------------------------------------------------------------

    def at(self, path: bytes) -> Directory | Body | None:
        """What is at *path*, following no symbolic link; KeyError when there is nothing.

        None is a whiteout.
        """
        if not path:
            return self.root
        parent, _, name = path.rpartition(b"/")
        above = self.folder(parent)
        return above.children[name] if name in above.children else self.files[above][name]

    def folder(self, path: bytes) -> Directory:
        """The directory *path*; KeyError when there is none."""
        at = self.root
        if path:
            for name in path.split(b"/"):
                at = at.children[name]
        return at


def _check_target(target: bytes) -> None:
    if not target or b"\0" in target:
        raise ValueError("a symbolic link to nothing")
    if len(target) > _LONGEST_TARGET:
        raise ValueError(f"a symbolic link to a path of {len(target)} bytes")
