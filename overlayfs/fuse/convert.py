"""Own values to pyfuse3's types and back."""

import os

from pyfuse3 import EntryAttributes, RequestContext, SetattrFields, StatvfsData

from overlayfs.tree.node import Node
from overlayfs.union.attrs import AttrChange, Attrs, Caller

# Lower layers never change and the upper one changes only through the mount, so the kernel
# may keep what it was told until it is told otherwise: seconds, well below overflow.
FOREVER = 1e9

# The kernel takes a missing name for known, too.
MISSING = EntryAttributes()
MISSING.st_ino = 0
MISSING.entry_timeout = FOREVER


def entry(node: Node, attrs: Attrs) -> EntryAttributes:
    """The reply that describes *node*, made once until its attributes change."""
    known = node.reply
    if known is not None:
        assert isinstance(known, EntryAttributes)
        return known
    made = EntryAttributes()
    made.st_ino = node.ino
    made.entry_timeout = FOREVER
    made.attr_timeout = FOREVER
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
    node.reply = made
    return made


def change(attr: EntryAttributes, fields: SetattrFields) -> AttrChange:
    """What a setattr request wants."""
    return AttrChange(
        attr.st_mode if fields.update_mode else None,
        attr.st_uid if fields.update_uid else None,
        attr.st_gid if fields.update_gid else None,
        attr.st_size if fields.update_size else None,
        attr.st_atime_ns if fields.update_atime else None,
        attr.st_mtime_ns if fields.update_mtime else None,
    )


def caller(ctx: RequestContext) -> Caller:
    """Who asks."""
    return Caller(ctx.uid, ctx.gid)


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
