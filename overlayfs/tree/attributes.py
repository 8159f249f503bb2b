"""Attributes of the tree's files: owner, mode, size, times, extended attributes."""

import errno
import os
import stat
from collections.abc import Collection

from overlayfs.layers.upper import Upper
from overlayfs.linux import fds
from overlayfs.linux.xattrs import Place
from overlayfs.tree.copyup import CopyUp
from overlayfs.tree.node import NO_XATTRS, Node
from overlayfs.tree.provenance import Provenance
from overlayfs.tree.recent import Recent
from overlayfs.tree.tree import Tree
from overlayfs.union import acl
from overlayfs.union.attrs import AttrChange, Attrs, Kind
from overlayfs.union.names import Format

# So many files' extended attributes are kept in mind; files without any cost nothing.
_KEPT = 10_000


class Attributes:
    """Reads and changes what is known of the nodes of *tree*, which come from *provenance*."""

    def __init__(self, tree: Tree, copy_up: CopyUp, provenance: Provenance) -> None:
        self._tree = tree
        self._copy_up = copy_up
        self._provenance = provenance
        self._kept = Recent(tree, _forget_xattrs, _KEPT)

    async def change(self, node: Node, change: AttrChange) -> None:
        """Apply *change*; what is None in it stays.

        The order matters: a truncation and a chown(2) drop suid bits, which the mode
        gives back, and everything moves the times.
        """
        if change.size is None and self._copy_up.born_with(node, change):
            return
        upper = await self._in_upper(node, keep=change.size, data=change.size is not None)
        place = self._tree.place(node)
        try:
            if change.size is not None:
                self._truncate(node, upper, change.size)
            if change.uid is not None or change.gid is not None:
                self._chown(node, upper, place, change.uid, change.gid)
            if change.mode is not None and node.kind is not Kind.SYMLINK:
                before = self._again(node)
                upper.chmod(place, before, stat.S_IMODE(change.mode))
                node.xattrs = None
            if change.atime_ns is not None or change.mtime_ns is not None:
                now = self._again(node)
                atime = now.atime_ns if change.atime_ns is None else change.atime_ns
                mtime = now.mtime_ns if change.mtime_ns is None else change.mtime_ns
                upper.utime(place, atime, mtime)
        finally:
            node.changed()

    async def _in_upper(self, node: Node, *, keep: int | None = None, data: bool = False) -> Upper:
        await self._copy_up.ensure(node, keep=keep, data=data)
        return self._copy_up.upper()

    def _again(self, node: Node) -> Attrs:
        node.changed()
        return self._tree.attrs(node)

    def _truncate(self, node: Node, upper: Upper, size: int) -> None:
        if node.kind is not Kind.FILE:
            raise OSError(errno.EINVAL, "only regular files have a size to set")
        if node.fd >= 0 and fds.is_writable(node.fd):
            os.ftruncate(node.fd, size)
        else:
            upper.truncate(self._tree.place(node), size)
        node.xattrs = None  # a truncation drops security.capability

    def _chown(
        self, node: Node, upper: Upper, place: Place, uid: int | None, gid: int | None
    ) -> None:
        before = self._tree.attrs(node)
        uid = before.uid if uid is None else uid
        gid = before.gid if gid is None else gid
        real = upper.format is Format.USER and node.kind is Kind.SYMLINK
        if real and (uid or gid) and upper.is_real_symlink(place):
            self._copy_up.again(node, before._replace(uid=uid, gid=gid))
        else:
            upper.chown(place, before, uid, gid)
        node.xattrs = None  # a chown drops security.capability

    def xattrs(self, node: Node) -> dict[bytes, bytes]:
        """All extended attributes of *node*, by the guest's names, as they are listed."""
        if node.xattrs is None:
            found = node.layer.xattrs(self._tree.place(node))
            for name in self._provenance.names.intersection(found):
                del found[name]  # an image must not say where its files come from
            node.xattrs = found or NO_XATTRS
            if found:
                self._kept.add(node)
        return node.xattrs

    def xattr(self, node: Node, name: bytes) -> bytes | None:
        """The extended attribute *name*, a virtual one too; None when it is not there.

        OSError EOPNOTSUPP for what no file can have.
        """
        value = self.xattrs(node).get(name)
        if value is not None:
            return value
        if name in self._provenance.names:
            return self._provenance.value(node, name)
        if not name.startswith(_NAMESPACES):
            raise OSError(errno.EOPNOTSUPP, "no such namespace", name)
        return None

    def _check_real(self, name: bytes) -> None:
        if name in self._provenance.names:
            raise OSError(errno.EPERM, "a virtual attribute", name)

    async def set_xattr(self, node: Node, name: bytes, value: bytes) -> None:
        """Set the extended attribute *name*; OSError EPERM for a virtual one."""
        self._check_real(name)
        upper = await self._in_upper(node)
        upper.set_xattr(self._tree.place(node), self._tree.attrs(node), name, value)
        node.xattrs = None
        node.changed()

    async def keep_sgid_for(self, node: Node, groups: Collection[int]) -> None:
        """Take the sgid bit of *node* unless its group is one of *groups*, the caller's.

        A new access list asks for it, as chmod(2) does (posix_acl_update_mode() of the
        kernel); what FUSE says of it does not reach us (FUSE_SETXATTR_ACL_KILL_SGID).
        """
        attrs = self._tree.attrs(node)
        if attrs.mode & stat.S_ISGID and attrs.gid not in groups:
            await self.change(node, AttrChange(mode=attrs.mode & ~stat.S_ISGID))

    async def remove_xattr(self, node: Node, name: bytes) -> None:
        """Remove the extended attribute *name*.

        OSError ENODATA when it is not there, EPERM for a virtual one.
        """
        self._check_real(name)
        if name in _LISTS and name not in self.xattrs(node):
            return  # as on a disk: the mode says it all then
        if self.xattr(node, name) is None:
            raise OSError(errno.ENODATA, "no such attribute", name)
        upper = await self._in_upper(node)
        node.xattrs = None
        node.changed()
        upper.remove_xattr(self._tree.place(node), name)

    def inherited(self, parent: Node, mode: int) -> tuple[int, dict[bytes, bytes]]:
        """Mode and access lists that a file made in *parent* gets; *mode* with type bits."""
        default = self.xattrs(parent).get(acl.DEFAULT)
        if default is None:
            return mode, {}
        permitted, access = acl.inherit(default, mode)
        lists = {acl.ACCESS: access} if access is not None else {}
        if stat.S_ISDIR(mode):
            lists[acl.DEFAULT] = default
        return permitted, lists


def _forget_xattrs(node: Node) -> None:
    node.xattrs = None


_LISTS = (acl.ACCESS, acl.DEFAULT)
# What a file can have; for others there is no handler, on any file (xattr(7)).
_NAMESPACES = (b"user.", b"trusted.", b"security.", *_LISTS)
