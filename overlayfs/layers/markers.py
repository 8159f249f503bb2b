"""Whiteouts and opaque markers of one layer (image-spec, layer.md, "Whiteouts").

They hide what is in lower layers, never what the same layer brings, and they apply
wherever in the tar they stand.  So they are noted first and written when all else is there.
"""

from collections.abc import Callable

from overlayfs.layers.directories import Directory, Tree
from overlayfs.union.names import OPAQUE_MARKER, RESERVED_PREFIX, WHITEOUT_PREFIX, whiteout_target


class Markers:
    """What the layer hides."""

    def __init__(self) -> None:
        self._whiteouts: set[bytes] = set()
        self._opaque: set[bytes] = set()

    def take(self, path: bytes) -> bool:
        """Note the marker *path*, whatever its type; whether it is one, or a reserved name.

        Names that begin with ``.wh..wh.`` belong to aufs and are skipped, with all beneath.
        Raises ValueError for a marker that hides nothing that could exist.
        """
        if WHITEOUT_PREFIX not in path:
            return False
        parent, _, name = path.rpartition(b"/")
        reserved = [part.startswith(RESERVED_PREFIX) for part in path.split(b"/")]
        if any(reserved):
            if name == OPAQUE_MARKER and sum(reserved) == 1:
                self._opaque.add(parent)
            return True
        if any(part.startswith(WHITEOUT_PREFIX) for part in parent.split(b"/")):
            raise ValueError("an entry beneath a whiteout")
        hidden = whiteout_target(name)
        if hidden is None:
            return False
        if hidden in (b"", b".", b"..") or len(hidden) > 255:
            raise ValueError("a whiteout of a name that cannot exist")
        self.hide(parent + b"/" + hidden if parent else hidden)
        return True

    def hide(self, path: bytes) -> None:
        """Note a whiteout of *path*."""
        self._whiteouts.add(path)

    def write(self, directories: Tree, whiteout: Callable[[Directory, bytes], None]) -> set[bytes]:
        """Let *whiteout* put them where something below could show.

        It raises FileExistsError where the layer has a file of its own.  Gives the
        directories that hold whiteouts now.  Those beneath a hidden name are
        needless, and the kernel would list them (semantics of an opaque directory).
        """
        holders = set()
        marks = [(path.count(b"/"), path, False) for path in self._whiteouts]
        # The root has no slash less than its entries, but is above them.
        marks += [(path.count(b"/") if path else -1, path, True) for path in self._opaque]
        for _, path, opaque in sorted(marks, key=lambda mark: (mark[0], mark[2], mark[1])):
            if opaque:
                found = _reach(directories, path)
                if found is not None:
                    found.opaque = True
                continue
            parent, _, name = path.rpartition(b"/")
            above = _reach(directories, parent)
            if above is None:
                continue
            if name in above.children:
                above.children[name].opaque = True
                continue
            try:
                whiteout(above, name)
            except FileExistsError:
                continue  # the layer's own file hides as well
            holders.add(above.path)
        return holders


def _reach(directories: Tree, path: bytes) -> Directory | None:
    """The directory *path*, made if need be; None when all below it is hidden already."""
    try:
        known = directories.find(path)
        above = path
        while known is None:
            above = above.rpartition(b"/")[0]
            known = directories.find(above)
        at: Directory | None = known
        while at is not None:
            if at.opaque:
                return None
            at = at.parent
        return directories.reach(path)
    except NotADirectoryError:
        return None  # a file of this layer, or a whiteout
