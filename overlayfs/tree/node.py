"""A file of the live tree, and what is known of it.

There is one for every name of every directory that was looked into, so their size is what
the tree costs.
"""

import os
from collections.abc import Sequence
from typing import Any, NamedTuple

from overlayfs.layers.lower import Layer
from overlayfs.tree.numbers import UPPER_NUMBER
from overlayfs.union.attrs import Attrs, Kind
from overlayfs.union.redirects import Turn


class Directory:
    """The union's listing of one directory, kept because only the tree changes it.

    *whiteouts* and *below* are those of ``union.merge.Covered``.  *beneath* are the names of
    copies that only a lower layer has, as an index keeps these files together.  *forgotten*
    counts the children that the kernel gave back, up to when their number was last looked at.
    """

    __slots__ = ("below", "beneath", "children", "forgotten", "whiteouts")

    def __init__(self) -> None:
        self.children: dict[bytes, Node] = {}
        # An empty set takes 216 bytes, and most directories have nothing to put into it.
        self.whiteouts: set[bytes] | frozenset[bytes] = _NOTHING
        self.below: set[bytes] | frozenset[bytes] = _NOTHING
        self.beneath: set[bytes] | frozenset[bytes] = _NOTHING
        self.forgotten = 0

    def lies_below(self, name: bytes) -> None:
        """Record that the upper layer hides something called *name*."""
        if isinstance(self.below, frozenset):
            self.below = set(self.below)
        self.below.add(name)

    def stays_beneath(self, name: bytes) -> None:
        """Record that *name*, of a copy, is one in a lower layer alone."""
        if isinstance(self.beneath, frozenset):
            self.beneath = set(self.beneath)
        self.beneath.add(name)

    def lifted(self, name: bytes) -> None:
        """Record that the upper layer has *name* now, as well as a lower one."""
        if isinstance(self.beneath, set):
            self.beneath.discard(name)
        self.lies_below(name)

    def hide(self, name: bytes) -> None:
        """Record that there is a whiteout for *name*."""
        if isinstance(self.whiteouts, frozenset):
            self.whiteouts = set(self.whiteouts)
        self.whiteouts.add(name)

    def show(self, name: bytes) -> None:
        """Record that there is no whiteout for *name*."""
        if isinstance(self.whiteouts, set):
            self.whiteouts.discard(name)


_NOTHING: frozenset[bytes] = frozenset()


# Most files have no extended attributes; they share one dictionary, which nothing changes.
NO_XATTRS: dict[bytes, bytes] = {}


class Name(NamedTuple):
    """Where a node is found."""

    parent: "Node"
    name: bytes


class Node:
    """One file, whatever its names; the kernel knows it by *ino*.

    That is *number*, which is the same at every mount, unless numbers are to be narrow.

    *layer* has the body: the topmost of *stack* for a directory, which merges all of
    *stack*.  *parent* and *name* are where it is found, and *others* what names it has
    besides; *parent* is None once the last name is gone, and for the root.  Every name is one
    in *layer*, or in a layer below while that has the body; a file that the kernel's index has
    (``Tree.indexed``) has its body there, and may have names in lower layers alone.

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
        "name",
        "number",
        "opens",
        "others",
        "parent",
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
        self.parent: Node | None = None
        self.name = b""
        self.others: tuple[Name, ...] = ()
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
        # What the edge made of the attributes, which are known no more then: they can be had
        # again.  Any, as the tree does not know what it is.
        self.reply: Any = None

    def __repr__(self) -> str:
        return f"<Node {self.ino:#x} {self.kind} {self.path()!r} in {self.layer!r}>"

    @property
    def names(self) -> tuple[Name, ...]:
        """All names, the first one being that by which the body is looked for."""
        if self.parent is None:
            return ()
        return (Name(self.parent, self.name), *self.others)

    @names.setter
    def names(self, names: Sequence[Name]) -> None:
        self.parent, self.name = names[0] if names else (None, b"")
        self.others = tuple(names[1:])

    def gain(self, parent: "Node", name: bytes) -> None:
        """Have one more name."""
        if self.parent is None:
            self.parent, self.name = parent, name
        else:
            self.others = (*self.others, Name(parent, name))

    def lose(self, parent: "Node", name: bytes) -> None:
        """Have a name less, if it was one."""
        if self.parent is not parent or self.name != name:
            self.others = tuple(other for other in self.others if other != (parent, name))
        elif self.others:
            self.names = self.others
        else:
            self.parent, self.name = None, b""

    def exchange(self, old: Name, new: Name) -> None:
        """Have the name *new* instead of *old*."""
        self.names = [new if name == old else name for name in self.names]

    def prefer(self, parent: "Node", name: bytes) -> None:
        """Let a name that it has be the first one."""
        if self.parent is not parent or self.name != name:
            first = Name(parent, name)
            self.names = [first, *(other for other in self.names if other != first)]

    def path(self) -> bytes:
        """One of the node's paths from the root, without a leading slash."""
        parts = []
        node = self
        while node.parent is not None:
            parts.append(node.name)
            node = node.parent
        return b"/".join(reversed(parts))

    def path_beneath(self, number: int) -> bytes:
        """Where the directory is in the union of the layers with numbers below *number*."""
        parts = []
        node = self
        while node.parent is not None:
            turn = next((turn for turn in node.turns if turn.at >= number), None)
            if turn is not None:
                parts.append(turn.path)
                break
            parts.append(node.name)
            node = node.parent
        return b"/".join(reversed(parts))

    def lower_path(self) -> bytes:
        """Where the lower parts of the directory are, from the root of the lower layers."""
        return self.path_beneath(UPPER_NUMBER)

    def all_turns(self) -> tuple[Turn, ...]:
        """The turns that lead to the parts of the directory, from the root of each layer."""
        found: list[Turn] = []
        node = self
        while node.parent is not None:
            for turn in node.turns:
                # What one further up says of the same layers, this one has in its path.
                if not found or turn.at > found[-1].at:
                    found.append(Turn(turn.at, self.path_beneath(turn.at)))
            node = node.parent
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

    def unload(self) -> None:
        """Let go of all that the disk can tell again."""
        self.attrs = None
        self.reply = None
        self.xattrs = None
        self.target = None

    @property
    def idle(self) -> bool:
        """Whether neither the kernel nor a handle knows the node."""
        return not self.lookups and not self.opens and self.directory is None
