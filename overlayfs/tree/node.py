"""A file of the live tree, and what is known of it."""

import os
from typing import NamedTuple

from overlayfs.layers.lower import Layer
from overlayfs.tree.numbers import UPPER_NUMBER
from overlayfs.union.attrs import Attrs, Kind
from overlayfs.union.redirects import Turn


class Directory:
    """The union's listing of one directory, kept because only the tree changes it.

    *whiteouts* and *below* are those of ``union.merge.Covered``.
    """

    __slots__ = ("below", "children", "whiteouts")

    def __init__(self) -> None:
        self.children: dict[bytes, Node] = {}
        self.whiteouts: set[bytes] = set()
        self.below: set[bytes] = set()


class Name(NamedTuple):
    """Where a node is found."""

    parent: "Node"
    name: bytes


class Node:
    """One file, whatever its names; the kernel knows it by *ino*.

    That is *number*, which is the same at every mount, unless numbers are to be narrow.

    *layer* has the body: the topmost of *stack* for a directory, which merges all of
    *stack*.  *names* is empty once the last name is gone (and for the root).  Every entry
    of *names* is one in *layer*, or in a layer below while that has the body.

    The parts of a directory are where its *turns*, by number, and those of the directories
    above say, else where the directory is; who looks into it gets the errno *barred*, unless
    that is 0.  *apart* says whether a file has its data in a layer beneath, None when
    nobody has looked; *redirect* is where that is, when the file's last name is gone.
    """

    __slots__ = (
        "apart",
        "attrs",
        "barred",
        "directory",
        "fd",
        "ghost",
        "ino",
        "kind",
        "layer",
        "lookups",
        "lost",
        "names",
        "number",
        "opens",
        "redirect",
        "reply",
        "stack",
        "target",
        "turns",
        "xattrs",
    )

    def __init__(
        self, ino: int, kind: Kind, layer: Layer, stack: tuple[Layer, ...], *, number: int
    ) -> None:
        self.ino = ino
        self.number = number
        self.kind = kind
        self.layer = layer
        self.stack = stack
        self.names: list[Name] = []
        self.directory: Directory | None = None
        self.attrs: Attrs | None = None
        self.xattrs: dict[bytes, bytes] | None = None
        self.target: bytes | None = None
        self.fd = -1  # the open body, shared by all handles
        self.ghost = -1  # open for its attributes, once the last name is gone
        self.redirect: bytes | None = None
        self.turns: tuple[Turn, ...] = ()
        self.barred = 0
        self.apart: bool | None = False
        self.opens = 0
        self.lookups = 0
        self.lost = 0  # names of a lower file that are hidden by now
        self.reply: object = None  # what the edge made of the attributes

    def __repr__(self) -> str:
        return f"<Node {self.ino:#x} {self.kind} {self.path()!r} in {self.layer!r}>"

    def path(self) -> bytes:
        """One of the node's paths from the root, without a leading slash."""
        parts = []
        node = self
        while node.names:
            parent, name = node.names[0]
            parts.append(name)
            node = parent
        return b"/".join(reversed(parts))

    def path_beneath(self, number: int) -> bytes:
        """Where the directory is in the union of the layers with numbers below *number*."""
        parts = []
        node = self
        while node.names:
            turn = next((turn for turn in node.turns if turn.at >= number), None)
            if turn is not None:
                parts.append(turn.path)
                break
            parent, name = node.names[0]
            parts.append(name)
            node = parent
        return b"/".join(reversed(parts))

    def lower_path(self) -> bytes:
        """Where the lower parts of the directory are, from the root of the lower layers."""
        return self.path_beneath(UPPER_NUMBER)

    def all_turns(self) -> tuple[Turn, ...]:
        """The turns that lead to the parts of the directory, from the root of each layer."""
        found: list[Turn] = []
        node = self
        while node.names:
            for turn in node.turns:
                # What one further up says of the same layers, this one has in its path.
                if not found or turn.at > found[-1].at:
                    found.append(Turn(turn.at, self.path_beneath(turn.at)))
            node = node.names[0].parent
        return tuple(found)

    def lay(self) -> None:
        """Close what keeps the node reachable without a name."""
        if self.ghost >= 0:
            os.close(self.ghost)
            self.ghost = -1

    def changed(self) -> None:
        """Ask the disk for the attributes the next time."""
        self.attrs = None
        self.reply = None

    @property
    def idle(self) -> bool:
        """Whether neither the kernel nor a handle knows the node."""
        return not self.lookups and not self.opens and self.directory is None
