"""Which names of a tree are wanted."""

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase

from overlayfs.errors import OverlayError
from overlayfs.printable import printable
from overlayfs.tui.node import Change, Node
from overlayfs.tui.scope import Scope
from overlayfs.union.attrs import Kind

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_SETUID_OR_SETGID = 0o6000


@dataclass(frozen=True, slots=True)
class Filter:
    """What must be true of a name; by default nothing.

    *without* are changes that are not wanted, None among them standing for no change.
    *glob* is for the name, or for the path if there is a slash in it.  *least* is a size in
    bytes that a file must have, *privileged* asks for set-user-ID or set-group-ID files,
    *hidden* for what a later layer replaces or removes.
    """

    without: frozenset[Change | None] = frozenset()
    glob: str = ""
    least: int = 0
    privileged: bool = False
    hidden: bool = False

    @property
    def wants_all(self) -> bool:
        """Whether nothing is filtered away."""
        return self == Filter()

    def wants(self, scope: Scope, node: Node) -> bool:
        """Whether *node*, which *scope* shows, is wanted for itself."""
        if self.without and scope.change(node) in self.without:
            return False
        if self.glob and not self._fits(node):
            return False
        if self.hidden and scope.hidden_by(node) is None:
            return False
        if not self.least and not self.privileged:
            return True
        entry = scope.entry(node)
        if entry.kind is not Kind.FILE or entry.size < self.least:
            return False
        return bool(entry.mode & _SETUID_OR_SETGID) or not self.privileged

    def _fits(self, node: Node) -> bool:
        # As a person sees the name, so that what is on the screen can be typed.
        if "/" in self.glob:
            return fnmatchcase(printable(b"/" + node.path), self.glob)
        return fnmatchcase(printable(node.name), self.glob)

    def __str__(self) -> str:
        """In a few words, for a line of state."""
        words = [f"no {change or 'unchanged'}" for change in sorted(self.without, key=str)]
        words += [self.glob] if self.glob else []
        words += [f"from {self.least} bytes"] if self.least else []
        words += ["suid"] if self.privileged else []
        words += ["hidden later"] if self.hidden else []
        return ", ".join(words)


def parse_size(text: str) -> int:
    """The bytes that *text* says: ``300``, ``4k``, ``1.5 MB``; 0 for nothing.

    Raises OverlayError for what is no size.
    """
    text = text.strip()
    if not text:
        return 0
    found = re.fullmatch(r"([0-9]{1,15}(?:\.[0-9]{1,6})?)\s*([kmgt]?)b?", text.lower())
    if found is None:
        raise OverlayError(f"{printable(text)}: not a size", hint="write 300, 4k or 1.5M")
    return int(float(found[1]) * _UNITS[found[2]])
