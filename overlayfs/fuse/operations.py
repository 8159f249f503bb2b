"""pyfuse3's handlers: convert, call, convert back.

What a request means is decided in ``overlayfs.tree``.  A file handle is the inode number:
all handles of a file share its body.
"""

import errno
import os
import stat
from collections import deque
from collections.abc import Callable, Collection, Coroutine, Sequence
from typing import TYPE_CHECKING, Any

import pyfuse3
import trio
from pyfuse3 import (
    EntryAttributes,
    FileHandleT,
    FileInfo,
    FileNameT,
    FlagT,
    FUSEError,
    InodeT,
    ModeT,
    RequestContext,
    SetattrFields,
    StatvfsData,
    XAttrNameT,
)

from overlayfs.fuse.convert import Converter, statvfs
from overlayfs.fuse.guard import replies
from overlayfs.fuse.tidying import Tidying
from overlayfs.tree.filesystem import Filesystem
from overlayfs.tree.node import Node
from overlayfs.union import acl
from overlayfs.union.presentation import Presentation

if TYPE_CHECKING:
    from pyfuse3 import ReaddirToken

# So many files are forgotten in a millisecond or two.
_WITHOUT_PAUSE = 1000

# Flags of open(2) that ask for a copy.
_CHANGES = os.O_WRONLY | os.O_RDWR | os.O_TRUNC


class Operations(pyfuse3.Operations):
    """Serves *filesystem*; every handler answers with a reply or an errno."""

    # With it, late writes could bring back what a chmod took away (a suid bit cleared or
    # set in between); the kernel's own page cache for reads stays on without.
    enable_writeback_cache = False

    def __init__(
        self,
        filesystem: Filesystem,
        ready: Callable[[], None],
        presentation: Presentation,
        tidying: Tidying,
        *,
        checked: bool,
    ) -> None:
        """Serve *filesystem*; *ready* is called when the kernel starts to ask.

        With *checked* the kernel checks modes and access lists; FUSE_POSIX_ACL turns
        default_permissions on as well.
        """
        super().__init__()
        self.enable_acl = checked and presentation.acl and presentation.xattrs
        self._convert = Converter(presentation)
        self._has_xattrs = presentation.xattrs
        self._absent = () if presentation.acl else (acl.ACCESS, acl.DEFAULT)
        self._syncs = presentation.sync
        self._ready = ready
        self._tidying = tidying
        self._forgotten: deque[Sequence[tuple[InodeT, int]]] = deque()
        self._fs = filesystem
        self._nodes = filesystem.tree.nodes
        # Of answers that say nothing but this, pyfuse3 takes a copy at once.
        self._opened = FileInfo(keep_cache=True)

    def init(self) -> None:
        self._ready()

    def _entry(self, node: Node) -> EntryAttributes:
        known: EntryAttributes | None = node.reply
        if known is not None:
            return known
        tree = self._fs.tree
        made = self._convert.entry(node, tree.attrs(node))
        if tree.indexed.index is not None and tree.wants_name(node):
            made.entry_timeout = 0  # it is looked up whenever a name of it is used
        return made

    def _check_xattrs(self, name: bytes = b"") -> None:
        self._check(self._has_xattrs)
        if name in self._absent:
            # Nobody would heed it, as the kernel does not ask for it.
            raise FUSEError(errno.EOPNOTSUPP)

    @staticmethod
    def _check(offered: bool) -> None:
        if not offered:
            # The kernel asks just once: it does without the call from now on.
            raise FUSEError(errno.ENOSYS)

    # -- finding -----------------------------------------------------------------------

    @replies
    def lookup(self, parent_inode: InodeT, name: FileNameT, ctx: RequestContext) -> EntryAttributes:
        node = self._fs.lookup(parent_inode, name)
        if node is None:
            return self._convert.missing
        return node.reply or self._entry(node)

    async def forget(self, inode_list: Sequence[tuple[InodeT, int]]) -> None:
        self._forgotten.append(inode_list)
        if len(self._forgotten) > 1:
            return  # another task is at it
        while self._forgotten:
            # The kernel forgets 65,000 at once, and others are not to wait for that; the order
            # counts, as a directory comes after what is in it.
            for number, (ino, count) in enumerate(self._forgotten[0], 1):
                self._fs.forget(ino, count)
                if not number % _WITHOUT_PAUSE:
                    await trio.lowlevel.checkpoint()
            self._forgotten.popleft()
        self._tidying.look()

    @replies
    def getattr(self, inode: InodeT, ctx: RequestContext) -> EntryAttributes:
        node = self._nodes[inode]
        return node.reply or self._entry(node)

    @replies
    async def setattr(
        self,
        inode: InodeT,
        attr: EntryAttributes,
        fields: SetattrFields,
        fh: FileHandleT | None,
        ctx: RequestContext,
    ) -> EntryAttributes:
        node = self._nodes[inode]
        await self._fs.attributes.change(node, self._convert.change(attr, fields))
        if fields.update_size and ctx.uid:
            await self._drop_sgid(node, ctx)
        return self._entry(node)

    async def _drop_sgid(self, node: Node, ctx: RequestContext) -> None:
        """Take the sgid bit of a file that *ctx*, not of its group, truncated.

        The kernel asks for it where the group may execute the file, and leaves the other
        case, setattr_should_drop_sgid(), to nobody.
        """
        mode = self._fs.tree.attrs(node).mode
        if mode & (stat.S_ISGID | stat.S_IXGRP) == stat.S_ISGID:
            await self._fs.attributes.keep_sgid_for(node, self._groups(ctx))

    def _groups(self, ctx: RequestContext) -> Collection[int]:
        """The groups of whoever asks, as the layers have them."""
        return self._convert.groups({ctx.gid, *pyfuse3.get_sup_groups(ctx.pid)})

    @replies
    def readlink(self, inode: InodeT, ctx: RequestContext) -> FileNameT:
        return self._fs.readlink(inode)

    # -- names -------------------------------------------------------------------------

    @replies
    def mknod(
        self, parent_inode: InodeT, name: FileNameT, mode: ModeT, rdev: int, ctx: RequestContext
    ) -> EntryAttributes:
        made = self._fs.make(parent_inode, name, mode, self._convert.caller(ctx), rdev=rdev)
        return self._entry(made)

    @replies
    def mkdir(
        self, parent_inode: InodeT, name: FileNameT, mode: ModeT, ctx: RequestContext
    ) -> EntryAttributes:
        return self._entry(self._fs.make(parent_inode, name, mode, self._convert.caller(ctx)))

    @replies
    def unlink(
        self, parent_inode: InodeT, name: FileNameT, ctx: RequestContext
    ) -> Coroutine[Any, Any, None] | None:
        return self._fs.unlink(parent_inode, name)

    @replies
    def rmdir(self, parent_inode: InodeT, name: FileNameT, ctx: RequestContext) -> None:
        self._fs.rmdir(parent_inode, name)

    @replies
    def symlink(
        self, parent_inode: InodeT, name: FileNameT, target: FileNameT, ctx: RequestContext
    ) -> EntryAttributes:
        return self._entry(self._fs.symlink(parent_inode, name, target, self._convert.caller(ctx)))

    @replies
    async def rename(
        self,
        parent_inode_old: InodeT,
        name_old: FileNameT,
        parent_inode_new: InodeT,
        name_new: FileNameT,
        flags: FlagT,
        ctx: RequestContext,
    ) -> None:
        await self._fs.rename(parent_inode_old, name_old, parent_inode_new, name_new, flags)

    @replies
    async def link(
        self, inode: InodeT, new_parent_inode: InodeT, new_name: FileNameT, ctx: RequestContext
    ) -> EntryAttributes:
        return self._entry(await self._fs.link(inode, new_parent_inode, new_name))

    # -- files -------------------------------------------------------------------------

    @replies
    def open(
        self, inode: InodeT, flags: FlagT, ctx: RequestContext
    ) -> FileInfo | Coroutine[Any, Any, FileInfo]:
        node = self._nodes[inode]
        if flags & _CHANGES:
            return self._open_for_changes(node, flags, ctx)
        self._fs.files.hold(node)
        return self._handle(node)

    async def _open_for_changes(self, node: Node, flags: FlagT, ctx: RequestContext) -> FileInfo:
        await self._fs.files.open(node, flags, self._convert.caller(ctx))
        if flags & os.O_TRUNC and ctx.uid:
            await self._drop_sgid(node, ctx)
        return self._handle(node)

    def _handle(self, node: Node) -> FileInfo:
        self._opened.fh = FileHandleT(node.ino)
        return self._opened

    @replies
    def create(
        self,
        parent_inode: InodeT,
        name: FileNameT,
        mode: ModeT,
        flags: FlagT,
        ctx: RequestContext,
    ) -> tuple[FileInfo, EntryAttributes]:
        node = self._fs.create(parent_inode, name, mode, self._convert.caller(ctx))
        return self._handle(node), self._entry(node)

    @replies
    def read(  # type: ignore[override]  # any buffer serves: pyfuse3 asks for its bytes only
        self, fh: FileHandleT, off: int, size: int
    ) -> memoryview | Coroutine[Any, Any, memoryview]:
        return self._fs.files.read(self._nodes[fh], off, size)

    @replies
    def write(self, fh: FileHandleT, off: int, buf: bytes) -> int:
        return self._fs.files.write(self._nodes[fh], off, buf)

    @replies
    def flush(self, fh: FileHandleT) -> None:
        # Nothing is held back that close(2) should wait for; the kernel asks just once.
        raise FUSEError(errno.ENOSYS)

    @replies
    def release(self, fh: FileHandleT) -> None:
        self._fs.files.release(self._nodes[fh])

    @replies
    async def fsync(self, fh: FileHandleT, datasync: bool) -> None:
        self._check(self._syncs)
        await self._fs.files.fsync(self._nodes[fh], data_only=datasync)

    # -- directories -------------------------------------------------------------------

    @replies
    def opendir(self, inode: InodeT, ctx: RequestContext) -> FileHandleT:
        return FileHandleT(self._fs.opendir(inode))

    @replies
    def readdir(self, fh: FileHandleT, start_id: int, token: "ReaddirToken") -> None:
        listing = self._fs.listing(fh, start_id)
        here = listing.node
        reply = pyfuse3.readdir_reply
        # fuse_direntplus_link() of the kernel counts no reference for these two.
        if start_id < 1 and not reply(token, b".", self._entry(here), 1):
            return
        if start_id < 2 and not reply(token, b"..", self._entry(here.parent or here), 2):
            return
        names = listing.names
        child = self._fs.tree.directory(here).children.get
        filled = start_id < 2
        for position in range(max(start_id - 2, 0), len(names)):
            name = names[position]
            node = child(name)
            if node is None:
                continue  # gone since
            entry = node.reply
            if entry is None:
                try:
                    entry = self._entry(node)
                except OSError:
                    if filled:
                        return  # what is in it counts; the kernel asks for the rest
                    raise
            if not reply(token, name, entry, position + 3):
                return
            node.lookups += 1
            filled = True

    @replies
    def releasedir(self, fh: FileHandleT) -> None:
        self._fs.releasedir(fh)

    @replies
    async def fsyncdir(self, fh: FileHandleT, datasync: bool) -> None:
        self._check(self._syncs)
        await self._fs.files.fsync_directory(self._fs.directory(fh))

    # -- extended attributes -----------------------------------------------------------

    @replies
    def getxattr(self, inode: InodeT, name: XAttrNameT, ctx: RequestContext) -> bytes:
        self._check_xattrs(name)
        value = self._fs.attributes.xattr(self._nodes[inode], name)
        if value is None:
            # Asked for before each write (security.capability), so without a detour.
            raise FUSEError(errno.ENODATA)
        return self._convert.xattr_shown(name, value)

    @replies
    def listxattr(self, inode: InodeT, ctx: RequestContext) -> Sequence[XAttrNameT]:
        self._check_xattrs()
        found = self._fs.attributes.xattrs(self._nodes[inode])
        # xattr(7): to others they are invisible.  The kernel refuses their values by itself.
        hidden = b"trusted." if ctx.uid else ()
        shown = (name for name in found if name not in self._absent)
        return [XAttrNameT(name) for name in shown if not name.startswith(hidden)]

    @replies
    async def setxattr(
        self, inode: InodeT, name: XAttrNameT, value: bytes, ctx: RequestContext
    ) -> None:
        self._check_xattrs(name)
        node = self._nodes[inode]
        kept = self._convert.xattr_kept(name, value)
        if name == acl.ACCESS and ctx.uid:
            await self._fs.attributes.keep_sgid_for(node, self._groups(ctx))
        await self._fs.attributes.set_xattr(node, name, kept)

    @replies
    async def removexattr(self, inode: InodeT, name: XAttrNameT, ctx: RequestContext) -> None:
        self._check_xattrs(name)
        await self._fs.attributes.remove_xattr(self._nodes[inode], name)

    # -- the whole ---------------------------------------------------------------------

    @replies
    def statfs(self, ctx: RequestContext) -> StatvfsData:
        return statvfs(self._fs.statvfs(), read_only=self._fs.tree.upper is None)

    @replies
    def access(self, inode: InodeT, mode: ModeT, ctx: RequestContext) -> bool:
        # Asked only without default_permissions, where whoever mounted may do everything.
        raise FUSEError(errno.ENOSYS)
