"""The live tree: nodes by inode number, listings by directory.

Only the event loop calls in here.  Nothing here awaits, so what one call decides is
recorded before another task can look.
"""

import errno
import logging
import os
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from overlayfs.layers.lower import Layer
from overlayfs.layers.upper import Upper
from overlayfs.linux import fds
from overlayfs.linux.xattrs import Place
from overlayfs.tree.node import Directory, Name, Node
from overlayfs.union.attrs import Attrs, Kind
from overlayfs.union.merge import Found, Merged, cover, merge
from overlayfs.union.redirects import join, resolve

log = logging.getLogger(__name__)

ROOT = 1  # FUSE_ROOT_ID, linux/fuse.h

# An inode number is the layer's number and the inode in that layer: the same at every
# mount of the same layers, and never the same twice, whatever file systems they lie on.
_SHIFT = 48
UPPER_NUMBER = 0x7FFF
_ALLOCATED = 0x7FFE << _SHIFT

# So many files of the lower layers alone are kept in mind at most, some 500 bytes each.
_ENOUGH = 20_000

# What can be opened without an effect on others.
_OPENED = (Kind.FILE, Kind.DIRECTORY, Kind.FIFO)


class DirectoryDescriptors:
    """Open directories of the layers, the least recently used closed when too many."""

    def __init__(self, limit: int) -> None:
        self._limit = max(limit, 64)
        self._open: OrderedDict[tuple[int, int], int] = OrderedDict()

    def get(self, node: Node, layer: Layer) -> int:
        """A descriptor of the part of *node* in *layer*, good until the next await."""
        if not node.names:
            if node.ino != ROOT:
                raise OSError(errno.ESTALE, "unlinked")
            return layer.root
        key = (node.ino, layer.number)
        fd = self._open.get(key)
        if fd is None:
            path = node.path() if layer.number == UPPER_NUMBER else node.lower_path()
            fd = layer.open_dir(path)
            self._open[key] = fd
            if len(self._open) > self._limit:
                os.close(self._open.popitem(last=False)[1])
        else:
            self._open.move_to_end(key)
        return fd

    def drop(self, node: Node) -> None:
        """Close what is open of *node*."""
        for layer in node.stack:
            fd = self._open.pop((node.ino, layer.number), None)
            if fd is not None:
                os.close(fd)

    def close(self) -> None:
        """Close everything."""
        while self._open:
            os.close(self._open.popitem()[1])


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
        self.nodes: dict[int, Node] = {ROOT: self.root}
        self.descriptors = DirectoryDescriptors(descriptors)
        self._lower: Tree | None = None
        # The numbers that are shown instead of those that last, if they are to be narrow.
        self._narrowed: dict[int, int] | None = {} if narrow else None
        self._allocated = _ALLOCATED
        # Numbers of files in the upper layer that were in use when these were made, and what
        # these have instead: for each of their names, and when the kernel comes back to them.
        self._renumbered: dict[int, int] = {}
        # Names of lower files with several that the upper layer hides, as far as seen, by the
        # number of the file: who has forgotten the file must not count them again.
        self._hidden: dict[int, set[tuple[int, bytes]]] = {}
        # Gives a lower name of a file in the upper layer a name there: see CopyUp.
        self.adopt: Callable[[Node, Name], None] = _no_upper

    def close(self) -> None:
        """Close all descriptors but the layers' own."""
        self.descriptors.close()
        for node in self.nodes.values():
            if node.fd >= 0:
                os.close(node.fd)
                node.fd = -1
            _lay(node)
        if self._lower is not None:
            self._lower.close()

    # -- finding -----------------------------------------------------------------------

    def node(self, ino: int) -> Node:
        """The node that the kernel knows as *ino*; OSError ESTALE if there is none."""
        try:
            return self.nodes[ino]
        except KeyError:
            raise OSError(errno.ESTALE, f"no inode {ino:#x}") from None

    def directory(self, node: Node) -> Directory:
        """The listing of *node*, read from the layers when first asked for."""
        if node.directory is None:
            if node.kind is not Kind.DIRECTORY:
                raise NotADirectoryError(errno.ENOTDIR, "not a directory", node.path())
            if not node.names and node.ino != ROOT:
                return Directory()  # removed while in use
            if node.barred:
                raise OSError(node.barred, "what it has in lower layers is not to be found")
            self._load(node)
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
        if node.names:
            parent, name = node.names[0]
            return self.descriptors.get(parent, node.layer), name
        if node.ino == ROOT:
            return node.layer.root, b"."
        raise OSError(errno.ESTALE, "unlinked")

    def place(self, node: Node) -> Place:
        """The body of *node* for calls by path, by descriptor once it has no name."""
        if not node.names:
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
        self.attrs(node)
        if (
            len(node.names) == 1
            and node.lookups
            and node.layer is self.upper
            and node.kind in _OPENED
            and (node.fd < 0 or node.apart is not False)
            and node.ghost < 0
        ):
            if node.apart is not False and self.is_apart(node):
                with suppress(OSError):
                    node.redirect = self.data_path(node)
            flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
            at, name = self.location(node)
            try:
                node.ghost = os.open(name, flags, dir_fd=at)
            except OSError as exc:
                # Too many are open: removing is worth more than what may be asked later.
                if exc.errno not in (errno.EMFILE, errno.ENFILE):
                    raise

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
            if node.apart is not False and known.size and self.is_apart(node):
                known = known._replace(blocks=self._blocks(node))
            if node.kind is Kind.DIRECTORY and (node.names or node.ino == ROOT):
                # 1 says "not counted": the number of directories in a union takes a look
                # into each (find(1) knows it, and so does the kernel's overlayfs).
                known = known._replace(nlink=1 if len(node.stack) > 1 else known.nlink)
            elif node.lost:
                known = known._replace(nlink=max(known.nlink - node.lost, 0))
            elif self.upper is not None and node.number in self.upper.index:
                pending = self.upper.index.pending(node.number)
                known = known._replace(nlink=known.nlink - 1 + pending)
            node.attrs = known
        return known

    # -- lower parts that are elsewhere ------------------------------------------------

    def lower(self, path: bytes) -> Node:
        """What the lower layers alone have at *path*; FileNotFoundError if nothing."""
        names = path.split(b"/")
        known = self._lower
        if known is not None and len(known.nodes) > _ENOUGH and not known._has_read(names):
            known.close()
            known = None
        if known is None:
            known = self._lower = Tree(self.layers, None, descriptors=64)
        node = known.root
        for name in names:
            node = known.child(node, name)
        return node

    def _has_read(self, names: Sequence[bytes]) -> bool:
        """Whether the way along *names* from the root is known without a look at the layers."""
        node: Node | None = self.root
        for name in names:
            if node is None or node.directory is None:
                return node is None
            node = node.directory.children.get(name)
        return True

    def is_apart(self, node: Node) -> bool:
        """Whether *node*, a file of the upper layer, has its data in a lower one."""
        if node.apart is None:
            assert self.upper is not None
            node.apart = self.upper.is_metacopy(self.place(node))
        return node.apart

    def open_data(self, node: Node) -> int:
        """A descriptor for reading the data of *node*, which is apart.

        Raises OSError EIO when it is not there, as the layers are others than they were.
        """
        if node.fd >= 0:
            return os.dup(node.fd)
        layer, spot = self._data(node)
        try:
            return layer.open_file(*spot)
        except FileNotFoundError as exc:
            raise OSError(errno.EIO, "the data is not there") from exc

    def data_path(self, node: Node) -> bytes:
        """Where lower layers have the data of *node*, which is apart, from their root.

        OSError EIO when it says no such place, EPERM when what it says does not count.
        """
        upper = self.upper
        assert upper is not None
        if not node.names:
            if node.redirect is None:
                raise OSError(errno.EIO, "there was no data when it was removed")
            return node.redirect
        found = upper.redirect(self.place(node))
        if found is not None and not upper.follows:
            raise OSError(errno.EPERM, "a redirect, with redirect_dir=nofollow", found)
        parent = node.names[0].parent
        if not (found and found.startswith(b"/")) and parent.stack == (upper,):
            raise OSError(errno.EIO, "a place in a directory without lower parts", found)
        try:
            # Without a path the data lies where the file is.
            return file_path(node) if found is None else resolve(found, parent.lower_path())
        except ValueError as exc:
            raise OSError(errno.EIO, str(exc), found) from exc

    def _data(self, node: Node) -> tuple[Layer, tuple[int, bytes]]:
        """The layer, and the place in it, of the data of *node*, which is apart."""
        path = self.data_path(node)
        try:
            source = self.lower(path)
        except (FileNotFoundError, NotADirectoryError) as exc:
            raise OSError(errno.EIO, "the data is not there", path) from exc
        if source.kind is not Kind.FILE:
            raise OSError(errno.EIO, "the data is no file", path)
        assert self._lower is not None
        return source.layer, self._lower.location(source)

    def _blocks(self, node: Node) -> int:
        """How many blocks the data of *node*, which is apart, takes where it is."""
        try:
            if node.fd >= 0:
                return os.fstat(node.fd).st_blocks
            _, (at, name) = self._data(node)
            return os.stat(name, dir_fd=at, follow_symlinks=False).st_blocks
        except OSError as exc:
            log.debug("no data of %r: %s", node, exc)
            return 0  # whoever opens it gets the error; it can be listed and removed

    # -- reading the layers ------------------------------------------------------------

    def _load(self, node: Node) -> None:
        stack = node.stack
        upper = self.upper
        above = None
        if upper is not None and stack[0] is upper:
            above = upper.scan(self.fd(node, upper))
            stack = () if above.opaque else stack[1:]
        merged, depth = merge(layer.scan(self.fd(node, layer)) for layer in stack)
        lowers = stack[:depth]
        covered = cover(above.entries if above else {}, merged)
        node.stack = (upper, *lowers) if above and upper is not None else lowers
        directory = node.directory = Directory()
        directory.whiteouts, directory.below = covered.whiteouts, covered.below
        strange = {
            layer for layer in node.stack if os.fstat(self.fd(node, layer)).st_dev != layer.device
        }
        late: list[tuple[Node, Name]] = []
        for name, (found, beneath) in covered.names.items():
            child = self._intern(node, name, found, beneath, strange)
            directory.children[name] = child
            here = Name(node, name)
            if child.kind is Kind.DIRECTORY or (child.layer is upper) == (found is not None):
                child.names.append(here)
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
                self.adopt(child, other)
        except OSError:
            self._fold(node)
            raise

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
            number = self._number(layer, part, strange)
            here = directory.children.get(name)
            if here is not None and here.number == number:
                continue  # its copy
            fd = self.fd(node, layer)
            if os.stat(name, dir_fd=fd, follow_symlinks=False).st_nlink > 1:
                hidden = self._hidden.setdefault(number, set())
                hidden.add((node.ino, name))
                known = self.nodes.get(self._shown(number))
                if known is not None and known.layer is not self.upper:
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
        upper = self.upper
        lowers = parent.stack[1:] if parent.stack[0] is upper else parent.stack
        parts = [(lowers[position], part) for position, part in beneath.parts] if beneath else []
        layer: Layer
        redirect, barred = None, 0
        if found is None or upper is None:
            assert beneath is not None
            layer, kind = parts[0][0], beneath.kind
        else:
            assert found.kind is not None
            layer, kind = upper, found.kind
            fd = self.fd(parent, upper)
            if kind is Kind.DIRECTORY:
                parts, redirect, barred = self._lower_parts(upper, parent, fd, name, parts)
        ino = 0
        if not parts and kind is not Kind.DIRECTORY and upper is not None:
            ino = upper.origin(fd, name) or 0
        if not ino:
            # A directory keeps the number of its topmost lower part through copy-up.
            ino = self._number(*(parts[0] if parts else (layer, found)), strange)
            ino = self._renumbered.get(ino, ino)
        known = self.nodes.get(self._shown(ino))
        if known is not None:
            if kind is not Kind.DIRECTORY and self._is_same(known, kind, layer, found):
                return known
            ino = self._allocate()
        elif kind is not Kind.DIRECTORY and upper is not None and ino in upper.index:
            layer = upper
        stack: tuple[Layer, ...] = ()
        if kind is Kind.DIRECTORY:
            stack = tuple(part_layer for part_layer, _ in parts)
            if layer is upper:
                stack = (layer, *stack)
        node = Node(self._shown(ino), kind, layer, stack, number=ino)
        self.nodes[node.ino] = node
        node.redirect, node.barred = redirect, barred
        if layer is not upper:
            node.lost = len(self._hidden.get(ino, ()))
        if layer is upper and kind is Kind.FILE:
            node.apart = None
        return node

    def _lower_parts(
        self,
        upper: Upper,
        parent: Node,
        fd: int,
        name: bytes,
        parts: list[tuple[Layer, Found]],
    ) -> tuple[list[tuple[Layer, Found]], bytes | None, int]:
        """The lower parts of an upper directory, *parts* unless it says otherwise.

        With the path of their place, when it is not where the directory is, and with an
        errno for whoever looks into it when nobody knows what it has to show.
        """
        value = upper.redirect(fds.beneath(fd, name))
        if (parts or value is not None) and upper.is_opaque(fd, name):
            return [], None, 0
        if value is None:
            return parts, None, 0
        if not upper.follows:
            return [], None, errno.EPERM
        try:
            path = resolve(value, parent.lower_path())
        except ValueError:
            return [], None, errno.EINVAL
        if not value.startswith(b"/") and parent.stack == (upper,):
            return [], None, 0
        try:
            there = self.lower(path)
        except (FileNotFoundError, NotADirectoryError):
            return [], None, 0  # the layers are others than they were
        if there.kind is not Kind.DIRECTORY:
            return [], None, 0
        found = [(layer, Found(there.kind, _inode(there, layer))) for layer in there.stack]
        return found, path, 0

    def _is_same(self, known: Node, kind: Kind, layer: Layer, found: Found | None) -> bool:
        """Whether a file of the number of *known* is *known*, under another name."""
        upper = self.upper
        if known.kind is not kind:
            return False
        if known.names and known.layer is upper and layer is upper and found is not None:
            # Two copies of one lower file, made where there was no index.
            try:
                at, name = self.location(known)
                st = os.stat(name, dir_fd=at, follow_symlinks=False)
            except OSError:
                return False  # somebody took it away beneath the mount
            return st.st_ino == found.ino
        if known.names or (upper is not None and known.number in upper.index):
            return True
        # Removed under all names that were known; one more proves that it lives on.
        return self.attrs(known).nlink > 0

    def _rise(self, node: Node) -> None:
        """The body of *node* turned out to be in the upper layer, copied in a past mount."""
        assert self.upper is not None
        node.layer = self.upper
        node.lost = 0
        node.xattrs = None
        node.apart = None
        node.changed()
        if node.fd >= 0 and not self.is_apart(node):
            fd = self.upper.open_rw(*self.location(node))
            os.dup2(fd, node.fd, inheritable=False)
            os.close(fd)

    def _number(self, layer: Layer, found: Found | None, strange: set[Layer]) -> int:
        assert found is not None
        if layer in strange or found.ino >> _SHIFT:
            return self._allocate()
        return layer.number << _SHIFT | found.ino

    def _allocate(self) -> int:
        self._allocated += 1
        return self._allocated

    def _shown(self, number: int) -> int:
        """The number by which the kernel knows the file *number*."""
        if self._narrowed is None:
            return number
        return self._narrowed.setdefault(number, ROOT + 1 + len(self._narrowed))

    @staticmethod
    def is_lasting(number: int) -> bool:
        """Whether *number* will mean the same file at the next mount."""
        return not _ALLOCATED <= number < UPPER_NUMBER << _SHIFT

    # -- keeping -----------------------------------------------------------------------

    def renumber(self, inode: int, number: int) -> None:
        """Let *inode* of the upper layer have *number*, which no mount will know again."""
        assert self.upper is not None
        self._renumbered[self.upper.number << _SHIFT | inode] = number

    def add(self, parent: Node, name: bytes, kind: Kind) -> Node:
        """A node for *name*, which was just made in the upper directory *parent*."""
        assert self.upper is not None
        st = os.stat(name, dir_fd=self.fd(parent, self.upper), follow_symlinks=False)
        ino = self._number(self.upper, Found(kind, st.st_ino), set())
        self._renumbered.pop(ino, None)
        if self._shown(ino) in self.nodes:
            # The kernel has not forgotten a removed file whose inode came to new honours.
            taken, ino = ino, self._allocate()
            self._renumbered[taken] = ino
        stack = (self.upper,) if kind is Kind.DIRECTORY else ()
        node = Node(self._shown(ino), kind, self.upper, stack, number=ino)
        if kind is Kind.DIRECTORY:
            node.directory = Directory()
        self.nodes[node.ino] = node
        self.enter(node, parent, name)
        return node

    def enter(self, node: Node, parent: Node, name: bytes) -> None:
        """Record that *name* in *parent* is *node* now, in the upper layer."""
        directory = self.directory(parent)
        directory.children[name] = node
        directory.whiteouts.discard(name)
        node.names.append(Name(parent, name))
        node.changed()
        parent.changed()

    def leave(self, parent: Node, name: bytes, *, moving: bool = False) -> None:
        """Record that *name* in *parent* is gone, or about to be entered elsewhere.

        What the kernel may still ask of a file without name or handle stays known.
        """
        directory = self.directory(parent)
        node = directory.children.pop(name)
        node.names.remove(Name(parent, name))
        if node.layer is not self.upper:
            directory.below.add(name)
            if node.attrs is None or node.attrs.nlink + node.lost > 1:
                self._hidden.setdefault(node.number, set()).add((parent.ino, name))
            node.lost += 1
        if name in directory.below:
            directory.whiteouts.add(name)
        parent.changed()
        reachable = node.names or node.fd >= 0 or node.ghost >= 0
        if reachable or node.attrs is None or moving:
            node.changed()
        else:
            # A file may have names left that nobody has looked at yet.
            left = 0 if node.kind is Kind.DIRECTORY else max(node.attrs.nlink - 1, 0)
            node.attrs = node.attrs._replace(nlink=left)
            node.reply = None
        if not node.names and not moving:
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
            if any(not child.idle for child in node.directory.children.values()):
                return
            self._fold(node)
        self.descriptors.drop(node)
        if node.names:
            node.changed()
        elif not node.opens:
            self.nodes.pop(node.ino, None)
            _lay(node)

    def _fold(self, node: Node) -> None:
        """Drop the listing of *node*; the layers have it."""
        assert node.directory is not None
        for name, child in node.directory.children.items():
            if (here := Name(node, name)) in child.names:
                child.names.remove(here)
            if not child.names and not child.opens and not child.lookups:
                self.descriptors.drop(child)
                self.nodes.pop(child.ino, None)
                _lay(child)
        node.directory = None


def file_path(node: Node) -> bytes:
    """Where lower layers would have the file *node*, from their root."""
    parent, name = node.names[0]
    return join(parent.lower_path(), name)


def _inode(node: Node, layer: Layer) -> int:
    """The inode of a lower directory *node* in the topmost of its layers.

    Only that is asked for: it gives the number.  One without a lasting number gets a
    number that no layer can have, and so a new one.
    """
    number = node.number
    return number & (1 << _SHIFT) - 1 if number >> _SHIFT == layer.number else 1 << _SHIFT


def _lay(node: Node) -> None:
    """Close what keeps *node* reachable without a name."""
    if node.ghost >= 0:
        os.close(node.ghost)
        node.ghost = -1


def _no_upper(node: Node, name: Name) -> None:
    raise OSError(errno.EROFS, "read-only file system")
