"""Reading a directory of the layers into the live tree."""

import errno
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from overlayfs.layers.kernelindex import Entry
from overlayfs.layers.lower import Layer
from overlayfs.linux import fds
from overlayfs.tree.node import Directory, Name, Node
from overlayfs.tree.numbers import inode_in
from overlayfs.union.attrs import Kind
from overlayfs.union.merge import Found, Listing, Merged, cover, merge
from overlayfs.union.redirects import Turn, resolve

if TYPE_CHECKING:
    from overlayfs.tree.tree import Tree

Part = tuple[Layer, Found]


class Loading:
    """Gives the directories of *tree* their listings."""

    def __init__(self, tree: "Tree") -> None:
        self._tree = tree
        self._follows = any(layer.follows for layer in tree.layers)

    def load(self, node: Node) -> None:
        """Read the listing of the directory *node*, and make nodes of what is in it."""
        tree = self._tree
        stack = node.stack
        upper = tree.upper
        above = None
        if upper is not None and stack[0] is upper:
            above = upper.scan(tree.fd(node, upper))
            stack = () if above.opaque else stack[1:]
        listings: Iterable[Listing] = (layer.scan(tree.fd(node, layer)) for layer in stack)
        if above is None and len(stack) == 1:
            (listing,) = listings = list(listings)
            if self._take(node, stack[0], listing):
                return
        merged, depth = merge(listings)
        lowers = stack[:depth]
        covered = cover(above.entries if above else {}, merged)
        node.stack = (upper, *lowers) if above and upper is not None else lowers
        directory = node.directory = Directory()
        if covered.whiteouts:
            directory.whiteouts = covered.whiteouts
        if covered.below:
            directory.below = covered.below
        strange = {
            layer for layer in node.stack if os.fstat(tree.fd(node, layer)).st_dev != layer.device
        }
        late: list[tuple[Node, Name]] = []
        for name, (found, beneath) in covered.names.items():
            child = self._intern(node, name, found, beneath, strange)
            directory.children[name] = child
            here = Name(node, name)
            if child.kind is Kind.DIRECTORY or (child.layer is upper) == (found is not None):
                child.gain(node, name)
            elif found is None and child.number in tree.indexed:
                child.gain(node, name)
                directory.stays_beneath(name)
            elif found is None:
                late.append((child, here))
            else:
                late.extend((child, other) for other in child.names)
                child.names = [here]
                self._rise(child)
        self._note_hidden(node, merged, lowers, strange)
        try:
            for child, other in late:
                # One name of a lower file was copied up before this one was seen.
                tree.adopt(child, other)
        except OSError:
            tree.fold(node)
            raise

    def _take(self, node: Node, layer: Layer, listing: Listing) -> bool:
        """Make nodes of the *listing* of the only part of *node*, if they are all new.

        Most directories are in one layer alone; this is what is left of ``load`` then.
        """
        tree = self._tree
        numbers, nodes, stack = tree.numbers, tree.nodes, node.stack
        if layer.follows or tree.indexed:
            return False
        if tree.upper is not None and (layer is tree.upper or tree.upper.index):
            return False
        if os.fstat(tree.fd(node, layer)).st_dev != layer.device:
            return False
        directory = Directory()
        children = directory.children
        met = set()
        for name, found in listing.entries.items():
            kind = found.kind
            if kind is None:
                continue
            number = numbers.of(layer, found)
            ino = numbers.shown(number)
            if ino in nodes or ino in met:
                return False  # one more name of a file
            met.add(ino)
            is_directory = kind is Kind.DIRECTORY
            child = Node(ino, kind, layer, stack if is_directory else (), number=number)
            child.parent, child.name = node, name
            child.lost = len(tree.hidden.get(number, ()))
            children[name] = child
        nodes.update((child.ino, child) for child in children.values())
        node.directory = directory
        return True

    def _note_hidden(
        self,
        node: Node,
        merged: Mapping[bytes, Merged],
        lowers: Sequence[Layer],
        strange: set[Layer],
    ) -> None:
        """Note which names of hard-linked files in *lowers* the upper part of *node* hides."""
        directory = node.directory
        assert directory is not None
        for name in directory.below:
            beneath = merged[name]
            position, part = beneath.parts[0]
            layer = lowers[position]
            if beneath.kind is Kind.DIRECTORY or layer in strange:
                continue
            number = self._tree.numbers.of(layer, part, strange)
            here = directory.children.get(name)
            if here is not None and here.number == number:
                continue  # its copy
            fd = self._tree.fd(node, layer)
            if os.stat(name, dir_fd=fd, follow_symlinks=False).st_nlink > 1:
                hidden = self._tree.hidden.setdefault(number, set())
                hidden.add((node.ino, name))
                known = self._tree.nodes.get(self._tree.numbers.shown(number))
                if known is not None and known.layer is not self._tree.upper:
                    known.lost = len(hidden)
                    known.changed()

    def _intern(
        self,
        parent: Node,
        name: bytes,
        found: Found | None,
        beneath: Merged | None,
        strange: set[Layer],
    ) -> Node:
        """The node for one name, known by another name already or new."""
        upper = self._tree.upper
        lowers = parent.stack[1:] if parent.stack[0] is upper else parent.stack
        parts = [(lowers[position], part) for position, part in beneath.parts] if beneath else []
        layer: Layer
        turns: tuple[Turn, ...] = ()
        barred = 0
        if found is None or upper is None:
            assert beneath is not None
            layer, kind = parts[0][0], beneath.kind
        else:
            assert found.kind is not None
            layer, kind = upper, found.kind
            fd = self._tree.fd(parent, upper)
            if kind is Kind.DIRECTORY:
                parts, turns, barred = self._led(upper, parent, name, parts)
        if kind is Kind.DIRECTORY and not turns and self._follows:
            parts, turns, barred = self._led_below(parent, name, parts, barred)
        number = 0
        entry: Entry | None = None
        if kind is not Kind.DIRECTORY:
            entry = self._entry(layer, found or parts[0][1], strange)
        if entry is not None:
            assert upper is not None
            number, layer = entry.number, upper
        elif not parts and kind is not Kind.DIRECTORY and upper is not None:
            number = upper.origin(fd, name) or 0
            index = self._tree.indexed.index
            if number in self._tree.indexed:
                number = 0  # a copy that was made without the index
            elif number and index is not None and index.has_had(fds.beneath(fd, name)):
                number = 0
        if not number:
            # A directory keeps the number of its topmost lower part through copy-up.
            if parts:
                layer_of, shown = parts[0]
            else:
                assert found is not None
                layer_of, shown = layer, found
            number = self._tree.numbers.of(layer_of, shown, strange)
        known = self._tree.nodes.get(self._tree.numbers.shown(number))
        if known is not None:
            if kind is not Kind.DIRECTORY and self._is_same(known, kind, layer, found):
                return known
            number = self._tree.numbers.allocate()
        elif kind is not Kind.DIRECTORY and upper is not None and number in upper.index:
            layer = upper
        stack: tuple[Layer, ...] = ()
        if kind is Kind.DIRECTORY:
            stack = tuple(part_layer for part_layer, _ in parts)
            if layer is upper:
                stack = (layer, *stack)
        node = Node(self._tree.numbers.shown(number), kind, layer, stack, number=number)
        self._tree.nodes[node.ino] = node
        node.turns, node.barred = turns, barred
        if layer is not upper:
            node.lost = len(self._tree.hidden.get(number, ()))
        if kind is Kind.FILE and (layer is upper or layer.follows):
            node.apart = None
        return node

    def _entry(self, layer: Layer, found: Found, strange: set[Layer]) -> Entry | None:
        """The copy in the kernel's index that *found* in *layer* is, or leads to."""
        index = self._tree.indexed.index
        if index is None or layer in strange:
            return None
        if layer is self._tree.upper:
            return index.of_copy(found.ino)
        return index.of_source(layer, found.ino)

    def _led_below(
        self, parent: Node, name: bytes, parts: list[Part], barred: int
    ) -> tuple[list[Part], tuple[Turn, ...], int]:
        """*parts* of a directory as far as the topmost lower layer that leads elsewhere.

        With what ``_led`` gives beyond that.
        """
        for depth, (layer, _) in enumerate(parts, 1):
            if layer.follows:
                beneath, turns, why = self._led(layer, parent, name, parts[depth:])
                if turns or why or len(beneath) < len(parts) - depth:
                    return parts[:depth] + beneath, turns, barred or why
        return parts, (), barred

    def _led(
        self, layer: Layer, parent: Node, name: bytes, parts: list[Part]
    ) -> tuple[list[Part], tuple[Turn, ...], int]:
        """The parts of a directory beneath *layer*, *parts* unless that says otherwise.

        With the turns that lead to them, and with an errno for whoever looks into it when
        nobody knows what it has to show.
        """
        fd = self._tree.fd(parent, layer)
        value = layer.redirect(fds.beneath(fd, name))
        if (parts or value is not None) and layer.is_opaque(fd, name):
            return [], (), 0
        if value is None:
            return parts, (), 0
        if not layer.follows:
            return [], (), errno.EPERM
        try:
            path = resolve(value, parent.path_beneath(layer.number))
        except ValueError:
            return [], (), errno.EINVAL
        if not value.startswith(b"/") and parent.stack[-1] is layer:
            return [], (), 0
        try:
            _, there = self._tree.elsewhere.find(path, layer.number)
        except (FileNotFoundError, NotADirectoryError):
            return [], (), 0  # the layers are others than they were
        if there.kind is not Kind.DIRECTORY:
            return [], (), 0
        found = [(each, Found(there.kind, inode_in(there.number, each))) for each in there.stack]
        return found, (*there.all_turns(), Turn(layer.number, path)), there.barred

    def _is_same(self, known: Node, kind: Kind, layer: Layer, found: Found | None) -> bool:
        """Whether a file of the number of *known* is *known*, under another name."""
        upper = self._tree.upper
        if known.kind is not kind:
            return False
        if known.names and known.layer is upper and layer is upper and found is not None:
            # Two copies of one lower file, made where there was no index.
            try:
                at, name = self._tree.location(known)
                st = os.stat(name, dir_fd=at, follow_symlinks=False)
            except OSError:
                return False  # somebody took it away beneath the mount
            return st.st_ino == found.ino
        if known.names or known.number in self._tree.indexed:
            return True
        if upper is not None and known.number in upper.index:
            return True
        # Removed under all names that were known; one more proves that it lives on.
        return self._tree.attrs(known).nlink > 0

    def _rise(self, node: Node) -> None:
        """The body of *node* turned out to be in the upper layer, copied in a past mount."""
        assert self._tree.upper is not None
        self._tree.bodies.drop(node.ino)
        node.layer = self._tree.upper
        node.lay()
        node.lost = 0
        node.xattrs = None
        node.apart = None
        node.changed()
        if node.fd >= 0 and not self._tree.elsewhere.is_apart(node):
            fd = self._tree.upper.open_rw(*self._tree.location(node))
            os.dup2(fd, node.fd, inheritable=False)
            os.close(fd)
