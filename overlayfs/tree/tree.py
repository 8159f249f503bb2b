"""The live tree: nodes by inode number, listings by directory.

Only the event loop calls in here.  Nothing here awaits, so what one call decides is
recorded before another task can look.
"""

import errno
import gc
import os
from collections.abc import Callable, Sequence
from contextlib import suppress

from overlayfs.layers.lower import Layer
from overlayfs.layers.upper import Upper
from overlayfs.linux import fds
from overlayfs.linux.memory import trim
from overlayfs.linux.xattrs import Place
from overlayfs.tree.bodies import Bodies
from overlayfs.tree.descriptors import DirectoryDescriptors
from overlayfs.tree.elsewhere import Elsewhere
from overlayfs.tree.indexed import Indexed
from overlayfs.tree.loading import Loading
from overlayfs.tree.node import Directory, Name, Node
from overlayfs.tree.numbers import ROOT, Numbers
from overlayfs.union.attrs import Attrs, Kind
from overlayfs.union.merge import Found

# What can be opened without an effect on others.
_OPENED = (Kind.FILE, Kind.DIRECTORY, Kind.FIFO)
_OPENED_BELOW = (Kind.FILE,)


# So many files of lower layers stay open at most, some KiB of the kernel's memory each.
_BODIES = 4096


class Nodes(dict[int, Node]):
    """Nodes by the numbers that the kernel knows; OSError ESTALE for any other."""

    __slots__ = ()

    def __missing__(self, ino: int) -> Node:
        raise OSError(errno.ESTALE, f"no inode {ino:#x}")


class Tree:
    """The union of *layers* (topmost first), beneath *upper* if there is one."""

    def __init__(
        self,
        layers: Sequence[Layer],
        upper: Upper | None,
        *,
        descriptors: int = 1024,
        narrow: bool = False,
    ) -> None:
        """Merge them.

        At most *descriptors* directories are open at once.  With *narrow* inode numbers
        have 32 bits, and other values at the next mount.
        """
        self.upper = upper
        self.layers = tuple(layers)
        stack = (upper, *layers) if upper is not None else self.layers
        self.root = Node(ROOT, Kind.DIRECTORY, stack[0], stack, number=ROOT)
        self.root.lookups = 1
        self.nodes = Nodes({ROOT: self.root})
        self.dropped = 0  # nodes, since the tree was last tidied
        self.descriptors = DirectoryDescriptors(descriptors)
        self.bodies = Bodies(min(descriptors, _BODIES))
        self.elsewhere = Elsewhere(self)
        self._loading = Loading(self)
        self.numbers = Numbers(narrow=narrow)
        # Names of lower files with several that the upper layer hides, as far as seen, by the
        # number of the file: who has forgotten the file must not count them again.
        self.hidden: dict[int, set[tuple[int, bytes]]] = {}
        self.indexed = Indexed(upper, self.numbers)
        # Gives a lower name of a file in the upper layer a name there: see Copies.
        self.adopt: Callable[[Node, Name], None] = _no_upper

    def close(self) -> None:
        """Close all descriptors but the layers' own."""
        self.descriptors.close()
        self.bodies.close()
        for node in self.nodes.values():
            if node.fd >= 0:
                os.close(node.fd)
                node.fd = -1
            node.lay()
        self.elsewhere.close()

    # -- finding -----------------------------------------------------------------------

    def node(self, ino: int) -> Node:
        """The node that the kernel knows as *ino*; OSError ESTALE if there is none."""
        return self.nodes[ino]

    def directory(self, node: Node) -> Directory:
        """The listing of *node*, read from the layers when first asked for."""
        if node.directory is None:
            if node.kind is not Kind.DIRECTORY:
                raise NotADirectoryError(errno.ENOTDIR, "not a directory", node.path())
            if node.parent is None and node.ino != ROOT:
                return Directory()  # removed while in use
            if node.barred:
                raise OSError(node.barred, "what it has in lower layers is not to be found")
            self._loading.load(node)
            assert node.directory is not None
        return node.directory

    def child(self, parent: Node, name: bytes) -> Node:
        """The node called *name* in *parent*; FileNotFoundError if there is none."""
        node = self.directory(parent).children.get(name)
        if node is None:
            raise FileNotFoundError(errno.ENOENT, "no such file", name)
        return node

    def fd(self, node: Node, layer: Layer) -> int:
        """A descriptor of the directory *node* in *layer*, good until the next await."""
        return self.descriptors.get(node, layer)

    def location(self, node: Node) -> tuple[int, bytes]:
        """The directory descriptor and name under which the body of *node* lies.

        OSError ESTALE when the last name is gone.
        """
        entry = self.indexed.get(node.number)
        if entry is not None:
            return self.indexed.location(entry)
        if node.parent is not None:
            return self.descriptors.get(node.parent, node.layer), node.name
        if node.ino == ROOT:
            return node.layer.root, b"."
        raise OSError(errno.ESTALE, "unlinked")

    def place(self, node: Node) -> Place:
        """The body of *node* for calls by path, by descriptor once it has no name."""
        if node.parent is None:
            if node.ghost >= 0:
                return node.ghost
            if node.fd >= 0:
                return node.fd
        return fds.beneath(*self.location(node))

    def keep_reachable(self, node: Node) -> None:
        """Prepare for the removal of a name of *node*, which may be the last.

        The kernel may ask about files that somebody has open, and change them, by their
        numbers; there is no place to ask afterwards.
        """
        if (
            node.parent is not None
            and not node.others
            and node.lookups
            and node.kind in (_OPENED if node.layer is self.upper else _OPENED_BELOW)
            and (node.fd < 0 or node.apart is not False)
            and node.ghost < 0
        ):
            if node.apart is not False and self.elsewhere.is_apart(node):
                with suppress(OSError):
                    node.redirect = self.elsewhere.data_path(node)
            flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
            at, name = self.location(node)
            try:
                node.ghost = os.open(name, flags, dir_fd=at)
            except OSError as exc:
                # Too many are open, or a lower file cannot be read: removing is worth more
                # than what may be asked later.
                if exc.errno not in (errno.EMFILE, errno.ENFILE) and node.layer is self.upper:
                    raise
        if node.layer is not self.upper or max(node.fd, node.ghost) < 0:
            self.attrs(node)

    def wants_name(self, node: Node) -> bool:
        """Whether it matters by which of its names *node* is used: its copy gets that one."""
        if self.indexed.index is None or node.kind is Kind.DIRECTORY:
            return False
        if node.layer is self.upper:
            entry = self.indexed.get(node.number)
            return entry is not None and entry.has_names_beneath
        return self.attrs(node).nlink + node.lost > 1

    def open_body(self, node: Node) -> int:
        """A descriptor for reading the file *node* in its layer, without a name, too."""
        if node.parent is not None or node.ghost < 0:
            return node.layer.open_file(*self.location(node))
        return os.open(fds.itself(node.ghost), os.O_RDONLY | os.O_CLOEXEC)

    def attrs(self, node: Node) -> Attrs:
        """What stat says of *node*."""
        known = node.attrs
        if known is None:
            if node.ghost >= 0:
                known = node.layer.attrs_of(node.ghost)
            elif node.fd >= 0 and not node.apart:
                known = node.layer.attrs_of(node.fd)
            else:
                known = node.layer.attrs(*self.location(node))
            if node.apart is not False and known.size and self.elsewhere.is_apart(node):
                known = known._replace(blocks=self.elsewhere.blocks(node))
            if node.kind is Kind.DIRECTORY and (node.parent is not None or node.ino == ROOT):
                # 1 says "not counted": the number of directories in a union takes a look
                # into each (find(1) knows it, and so does the kernel's overlayfs).
                known = known._replace(nlink=1 if len(node.stack) > 1 else known.nlink)
            elif node.lost:
                known = known._replace(nlink=max(known.nlink - node.lost, 0))
            elif node.number in self.indexed:
                known = known._replace(nlink=known.nlink + self.indexed[node.number].extra)
            elif self.upper is not None and node.number in self.upper.index:
                pending = self.upper.index.pending(node.number)
                known = known._replace(nlink=known.nlink - 1 + pending)
            node.attrs = known
        return known

    # -- keeping -----------------------------------------------------------------------

    def add(self, parent: Node, name: bytes, kind: Kind) -> Node:
        """A node for *name*, which was just made in the upper directory *parent*."""
        assert self.upper is not None
        inode, attrs = self.upper.look(self.fd(parent, self.upper), name)
        numbers = self.numbers
        numbers.forget(inode)
        number = numbers.of(self.upper, Found(kind, inode))
        if numbers.shown(number) in self.nodes:
            # The kernel has not forgotten a removed file whose inode came to new honours.
            number = numbers.allocate()
            numbers.give(inode, number)
        stack = (self.upper,) if kind is Kind.DIRECTORY else ()
        node = Node(numbers.shown(number), kind, self.upper, stack, number=number)
        if kind is Kind.DIRECTORY:
            node.directory = Directory()
        self.nodes[node.ino] = node
        self.enter(node, parent, name)
        node.attrs = attrs
        return node

    def enter(self, node: Node, parent: Node, name: bytes) -> None:
        """Record that *name* in *parent* is *node* now, in the upper layer."""
        directory = self.directory(parent)
        directory.children[name] = node
        directory.show(name)
        node.gain(parent, name)
        node.changed()
        parent.changed()

    def leave(self, parent: Node, name: bytes, *, moving: bool = False) -> None:
        """Record that *name* in *parent* is gone, or about to be entered elsewhere.

        What the kernel may still ask of a file without name or handle stays known.
        """
        directory = self.directory(parent)
        node = directory.children.pop(name)
        node.lose(parent, name)
        if not directory.children:
            directory.children.clear()  # gives back the room of those that there were
        if node.layer is not self.upper:
            directory.lies_below(name)
            if node.attrs is None or node.attrs.nlink + node.lost > 1:
                self.hidden.setdefault(node.number, set()).add((parent.ino, name))
            node.lost += 1
        if name in directory.below:
            directory.hide(name)
        parent.changed()
        named = node.parent is not None
        reachable = named or node.fd >= 0 or node.ghost >= 0
        if reachable or node.attrs is None or moving:
            node.changed()
        else:
            # A file may have names left that nobody has looked at yet.
            left = 0 if node.kind is Kind.DIRECTORY else max(node.attrs.nlink - 1, 0)
            node.attrs = node.attrs._replace(nlink=left)
            node.reply = None
        if moving:
            return
        if node.number in self.indexed:
            self.indexed.lose(node)
        if not named:
            self.collect(node)

    def forget(self, ino: int, count: int) -> None:
        """The kernel gave back *count* of its references."""
        node = self.nodes.get(ino)
        if node is None:
            return
        node.lookups -= count
        if not node.lookups:
            self.collect(node)

    def collect(self, node: Node) -> None:
        """Free what nobody can ask for any more."""
        if node.ino == ROOT or node.lookups:
            return
        if node.directory is not None:
            if not _is_quiet(node.directory):
                return
            self.fold(node)
        if node.kind is Kind.DIRECTORY:
            self.descriptors.drop(node)
        else:
            self.bodies.drop(node.ino)
        if node.parent is not None:
            node.unload()
            for parent, _ in node.names:
                self._count_forgotten(parent)
        elif not node.opens:
            self._drop(node)

    def _count_forgotten(self, parent: Node) -> None:
        """Fold *parent*, which may stay known for long, once all its children are forgotten.

        They are looked at once for as many as there are, so that each costs the same
        however many there are.
        """
        directory = parent.directory
        if directory is None:
            return
        directory.forgotten += 1
        if directory.forgotten >= len(directory.children):
            directory.forgotten = 0
            if not parent.lookups:
                self.collect(parent)
            elif _is_quiet(directory):
                self.fold(parent)

    def fold(self, node: Node) -> None:
        """Drop the listing of *node*; the layers have it."""
        assert node.directory is not None
        for name, child in node.directory.children.items():
            child.lose(node, name)
            if child.parent is None and not child.opens and not child.lookups:
                self._drop(child)
        node.directory = None

    def _drop(self, node: Node) -> None:
        if node.kind is Kind.DIRECTORY:
            self.descriptors.drop(node)
        else:
            self.bodies.drop(node.ino)
        self.nodes.pop(node.ino, None)
        node.lay()
        self.dropped += 1

    def tidy(self) -> None:
        """Give back the memory that many dropped nodes leave, which takes milliseconds."""
        self.dropped = 0
        kept = dict(self.nodes)
        self.nodes.clear()  # a dictionary never becomes smaller by itself
        self.nodes.update(kept)
        gc.collect()  # and the interpreter keeps 2,000 tuples of each size, all over the place
        trim()


def _is_quiet(directory: Directory) -> bool:
    """Whether nobody knows any of the children."""
    return all(child.idle for child in directory.children.values())


def _no_upper(node: Node, name: Name) -> None:
    raise OSError(errno.EROFS, "read-only file system")
