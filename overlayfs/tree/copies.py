"""Where copies stand in the upper layer: their drafts, their directories and their names."""

import errno
import os
from contextlib import suppress

from overlayfs.layers.upper import Birth, Upper
from overlayfs.linux import fds
from overlayfs.tree.node import Name, Node
from overlayfs.tree.tree import Tree
from overlayfs.union.attrs import Attrs, Kind


class Copies:
    """Gives copies of nodes of *tree* their places; no task runs meanwhile."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        if tree.upper is not None:
            tree.adopt = self.adopt

    def upper(self) -> Upper:
        """The upper layer; OSError EROFS when the tree is read-only."""
        if self._tree.upper is None:
            raise OSError(errno.EROFS, "read-only file system")
        return self._tree.upper

    def directory(self, node: Node) -> None:
        """Bring the directory *node* and those above it into the upper layer.

        The topmost missing one comes first, so that every prefix of the work is a legal
        tree.  What is visible, times included, does not change.
        """
        upper = self.upper()
        missing = []
        while node.layer is not upper:
            if not node.names:
                raise FileNotFoundError(errno.ENOENT, "directory was removed")
            missing.append(node)
            node = node.names[0].parent
        for node in reversed(missing):
            draft = self.draft_directory(node)
            parent, name = node.names[0]
            try:
                upper.publish(draft, self._tree.fd(parent, upper), name)
            except OSError:
                with suppress(FileNotFoundError):
                    os.rmdir(draft, dir_fd=upper.work)
                raise
            self._tree.directory(parent).lies_below(name)
            node.layer = upper
            node.stack = (upper, *node.stack)
            node.changed()

    def draft_directory(self, node: Node) -> bytes:
        """The name in the work directory of an empty directory with the attributes of *node*."""
        upper = self.upper()
        attrs = self._tree.attrs(node)
        draft = upper.draft()
        upper.make(upper.work, draft, self._birth(node, attrs))
        upper.utime(fds.beneath(upper.work, draft), attrs.atime_ns, attrs.mtime_ns)
        return draft

    def _put_in_directory(self, node: Node, draft: bytes) -> None:
        """Give *draft* the first name of *node*, whose other ones are to follow."""
        upper = self.upper()
        names = node.names
        unmet = self._tree.attrs(node).nlink - len(names)  # some may be gone since
        for parent, _ in names:
            self.directory(parent)
        lasting = self._tree.numbers.is_lasting(node.number) and self._tree.indexed.index is None
        if unmet > 0 and lasting:
            # Before the copy is seen: a crash in between leaves an index entry too many,
            # for a copy that no lower name leads to yet, and the next mount takes that.
            upper.index.add(node.number, unmet, upper.work, draft)
        if names:
            upper.publish(draft, self._tree.fd(names[0].parent, upper), names[0].name)
        else:
            os.unlink(draft, dir_fd=upper.work)

    def is_counted(self, node: Node) -> bool:
        """Whether the kernel's index is to know how many names *node* has.

        It has all files of lower layers with several names that are changed in any way
        (ovl_need_index() of the kernel).
        """
        return node.number in self._tree.indexed or self._tree.wants_name(node)

    def _lift(self, place: Name) -> None:
        """Let the upper directory have the name *place*, which only a lower layer has."""
        parent, name = place
        directory = self._tree.directory(parent)
        if name not in directory.beneath:
            return
        upper = self.upper()
        node = directory.children[name]
        self.directory(parent)
        dir_fd = self._tree.fd(parent, upper)
        before = os.fstat(dir_fd)
        self._tree.indexed.lift(node, dir_fd, name)
        upper.utime(dir_fd, before.st_atime_ns, before.st_mtime_ns)
        directory.lifted(name)
        node.changed()

    def again(self, node: Node, attrs: Attrs) -> None:
        """Put a new file with *attrs*, and all else as it is, in the place of *node*.

        For a symbolic link that cannot say on disk whose it is to be.
        """
        upper = self.upper()
        draft = upper.draft()
        upper.make(upper.work, draft, self._birth(node, attrs))
        self._put_in_place(node, attrs, draft)

    def _put_in_place(self, node: Node, attrs: Attrs, draft: bytes) -> None:
        """Give all names of *node* to *draft*, which is like it but for what is new."""
        upper = self.upper()
        place = fds.beneath(upper.work, draft)
        upper.utime(place, attrs.atime_ns, attrs.mtime_ns)
        if self._tree.numbers.is_lasting(node.number):
            upper.set_origin(place, node.number)
        else:
            st = os.stat(draft, dir_fd=upper.work, follow_symlinks=False)
            self._tree.numbers.give(st.st_ino, node.number)
        if not node.names:
            os.unlink(draft, dir_fd=upper.work)
            return
        names, node.names = node.names, node.names[:1]
        first, *others = names
        upper.publish(draft, self._tree.fd(first.parent, upper), first.name)
        for other in others:
            self._link_over(node, other)

    def _link_over(self, node: Node, name: Name) -> None:
        """Let *name* in the upper layer be one of *node*, whatever it is there now."""
        upper = self.upper()
        if node.names:
            source, known_as = self._tree.location(node)
        else:
            source, known_as = upper.index.fd, upper.index.name(node.number)
        draft = upper.draft()
        os.link(known_as, draft, src_dir_fd=source, dst_dir_fd=upper.work, follow_symlinks=False)
        upper.publish(draft, self._tree.fd(name.parent, upper), name.name)
        node.gain(*name)

    def adopt(self, node: Node, name: Name) -> None:
        """Give *node*, a file in the upper layer, the name there that a lower layer has.

        A write through one name of a hard link is then seen through the other, now and
        after the next mount.
        """
        upper = self.upper()
        self.directory(name.parent)
        self._link_over(node, name)
        if node.number in upper.index:
            upper.index.met(node.number)
        self._tree.directory(name.parent).lies_below(name.name)
        node.changed()

    def _birth(self, node: Node, attrs: Attrs) -> Birth:
        layer = node.layer
        target = b""
        if node.kind is Kind.SYMLINK:
            target = layer.readlink(*self._tree.location(node))
        known = self._xattrs(node)
        return Birth(node.kind, attrs.mode, attrs.uid, attrs.gid, attrs.rdev, target, known)

    def _xattrs(self, node: Node) -> dict[bytes, bytes]:
        known = node.xattrs  # those of a lower file never change
        if known is None or node.layer is self._tree.upper:
            return node.layer.xattrs(self._tree.place(node))
        return known

    def _drop(self, draft: bytes) -> None:
        """Remove a draft, unless it has its final name already."""
        with suppress(FileNotFoundError):
            os.unlink(draft, dir_fd=self.upper().work)
