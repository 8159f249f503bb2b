"""Own values to pyfuse3's types and back."""

import errno
import os
from collections.abc import Collection

from pyfuse3 import EntryAttributes, RequestContext, SetattrFields, StatvfsData

from overlayfs.tree.node import Node
from overlayfs.union import acl
from overlayfs.union.attrs import AttrChange, Attrs, Caller, Kind
from overlayfs.union.presentation import Presentation


class Converter:
    """Converts as *presentation* wants it."""

    def __init__(self, presentation: Presentation) -> None:
        self._timeout = presentation.timeout
        self._one_link = presentation.one_link
        # None spares the look-ups where everything is shown as it is.
        self._ids = None if presentation.ids.plain else presentation.ids
        # The kernel takes a missing name for known, too.
        self.missing = EntryAttributes()
        self.missing.st_ino = 0
        self.missing.entry_timeout = presentation.timeout

    def entry(self, node: Node, attrs: Attrs) -> EntryAttributes:
        """The reply that describes *node*, with *attrs*, kept until they change."""
        made = EntryAttributes()
        made.st_ino = node.ino
        made.entry_timeout = self._timeout
        made.attr_timeout = self._timeout
        made.st_mode = attrs.mode
        made.st_nlink = attrs.nlink
        made.st_uid = attrs.uid
        made.st_gid = attrs.gid
        made.st_rdev = attrs.rdev
        made.st_size = attrs.size
        made.st_blksize = 4096
        made.st_blocks = attrs.blocks
        made.st_atime_ns = attrs.atime_ns
        made.st_mtime_ns = attrs.mtime_ns
        made.st_ctime_ns = attrs.ctime_ns
        if self._ids is not None:
            made.st_uid = self._ids.users.shown(attrs.uid)
            made.st_gid = self._ids.groups.shown(attrs.gid)
        if self._one_link and node.kind is Kind.DIRECTORY:
            made.st_nlink = 1
        node.reply = made
        if node.parent is not None:
            node.attrs = None  # they take as much room again, and are seldom asked for
        return made

    def change(self, attr: EntryAttributes, fields: SetattrFields) -> AttrChange:
        """What a setattr request wants."""
        uid = attr.st_uid if fields.update_uid else None
        gid = attr.st_gid if fields.update_gid else None
        if self._ids is not None:
            users, groups = self._ids.users, self._ids.groups
            # Where all owners look alike, giving a file away changes nothing.
            uid = users.kept(uid) if uid is not None and users.squash is None else None
            gid = groups.kept(gid) if gid is not None and groups.squash is None else None
        return AttrChange(
            attr.st_mode if fields.update_mode else None,
            uid,
            gid,
            attr.st_size if fields.update_size else None,
            attr.st_atime_ns if fields.update_atime else None,
            attr.st_mtime_ns if fields.update_mtime else None,
        )

    def caller(self, ctx: RequestContext) -> Caller:
        """Who asks.

        Podman's root, who makes the mount points in a container, may have no id there.
        """
        if self._ids is None:
            return Caller(ctx.uid, ctx.gid, not ctx.uid)
        users, groups = self._ids.users, self._ids.groups
        return Caller(users.kept_if_any(ctx.uid), groups.kept_if_any(ctx.gid), not ctx.uid)

    def groups(self, shown: Collection[int]) -> Collection[int]:
        """The groups of whoever asks, as the layers have them."""
        if self._ids is None:
            return shown
        return {self._ids.groups.kept_if_any(group) for group in shown}

    def xattr_shown(self, name: bytes, value: bytes) -> bytes:
        """The value of an extended attribute, for whoever asks."""
        if self._ids is None or name not in _LISTS:
            return value
        return acl.mapped(value, self._ids.users.shown, self._ids.groups.shown)

    def xattr_kept(self, name: bytes, value: bytes) -> bytes:
        """The value of an extended attribute, for the layer; OSError EINVAL for nonsense."""
        if self._ids is None or name not in _LISTS:
            return value
        try:
            return acl.mapped(value, self._ids.users.kept, self._ids.groups.kept)
        except ValueError as exc:
            raise OSError(errno.EINVAL, str(exc)) from exc


_LISTS = (acl.ACCESS, acl.DEFAULT)


def statvfs(found: os.statvfs_result, *, read_only: bool) -> StatvfsData:
    """The reply to statfs(2); nothing is free where nothing can be written."""
    made = StatvfsData()
    made.f_bsize = found.f_bsize
    made.f_frsize = found.f_frsize
    made.f_blocks = found.f_blocks
    made.f_bfree = 0 if read_only else found.f_bfree
    made.f_bavail = 0 if read_only else found.f_bavail
    made.f_files = found.f_files
    made.f_ffree = 0 if read_only else found.f_ffree
    made.f_favail = 0 if read_only else found.f_favail
    made.f_namemax = 255
    return made
