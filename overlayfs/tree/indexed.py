"""Copies that the kernel's index has: their bodies lie there, whatever names they have."""

from overlayfs.layers.kernelindex import Entry
from overlayfs.layers.upper import Upper
from overlayfs.linux.xattrs import Place
from overlayfs.tree.node import Node
from overlayfs.tree.numbers import Numbers, inode_in, is_inode
from overlayfs.union.merge import Found


class Indexed(dict[int, Entry]):
    """What the kernel's index of *upper* has, by number; nothing where there is none."""

    __slots__ = ("index",)

    def __init__(self, upper: Upper | None, numbers: Numbers) -> None:
        """Read nothing; give numbers to what was copied by the kernel."""
        super().__init__()
        self.index = upper.kernel_index if upper is not None else None
        for entry in self.index or ():
            if not entry.number:
                entry.number = numbers.of(entry.layer, Found(None, entry.source))
            if entry.number in self:
                entry.number = numbers.allocate()  # the layers are others than they were
            self[entry.number] = entry

    def location(self, entry: Entry) -> tuple[int, bytes]:
        """The directory descriptor and name under which the body of *entry* lies."""
        assert self.index is not None
        return self.index.fd, entry.name

    def put(self, node: Node, place: Place, work: int, draft: bytes, count: int) -> bool:
        """Move *draft* from the directory *work* into the index, as the copy of *node*.

        That is at *place* and has *count* links.  False, and nothing is done, where the index
        cannot have it.
        """
        source = inode_in(node.number, node.layer)
        if self.index is None or not count or not is_inode(source):
            return False
        entry = self.index.add(work, draft, place, (node.layer, source), count)
        if entry is None:
            return False
        entry.number = node.number
        self[node.number] = entry
        return True

    def lift(self, node: Node, dir_fd: int, name: bytes) -> None:
        """Give the copy *node* a name in the upper directory *dir_fd* that only a lower had."""
        assert self.index is not None
        self.index.lift(self[node.number], dir_fd, name)

    def lose(self, node: Node) -> None:
        """Remove the copy *node* from the index, if its last name is gone."""
        assert self.index is not None
        entry = self[node.number]
        if self.index.links(entry) <= 0:
            self.index.drop(entry)
            del self[node.number]
