"""Open files: reading, writing, bringing to the disk.

A handle is its node: all handles of a file share one descriptor, so a reader sees what
any writer wrote, before a copy up and after (semantics as of a local file system).
"""

import errno
import os
import stat
from collections.abc import Coroutine
from typing import Any

import trio

from overlayfs.linux import fds
from overlayfs.linux.files import read_at, write_at
from overlayfs.tree.copyup import CopyUp
from overlayfs.tree.node import Node
from overlayfs.tree.tree import Tree
from overlayfs.union.attrs import Caller


class Files:
    """The bodies of the regular files of *tree*."""

    def __init__(self, tree: Tree, copy_up: CopyUp) -> None:
        self._tree = tree
        self._copy_up = copy_up
        self._threads = trio.CapacityLimiter(8)
        self._buffer = Buffer()
        self._byte = bytearray(1)

    async def open(self, node: Node, flags: int, caller: Caller) -> None:
        """Open *node* once more for *caller*, to write; *flags* as in open(2)."""
        self._copy_up.upper()
        self.hold(node)
        try:
            truncated = bool(flags & os.O_TRUNC)
            await self._copy_up.ensure(node, keep=0 if truncated else None)
            self._let_write(node)
            if truncated:
                os.ftruncate(node.fd, 0)  # an empty file, too, is modified by O_TRUNC
                node.xattrs = None  # and security.capability goes
            node.changed()
            if truncated and not caller.privileged:
                self._drop_suid(node)
        except BaseException:
            self.release(node)
            raise

    def _drop_suid(self, node: Node) -> None:
        """Take the suid bits from a file that somebody but root truncated by opening it.

        For a write or a truncate(2) the kernel asks for this by itself; where it leaves
        O_TRUNC to the file system it does not (linux/fuse.h, FUSE_HANDLE_KILLPRIV_V2).
        """
        attrs = self._tree.attrs(node)
        mode = attrs.mode & ~stat.S_ISUID
        if mode & stat.S_IXGRP:
            mode &= ~stat.S_ISGID
        if mode != attrs.mode:
            self._copy_up.upper().chmod(node.fd, attrs, stat.S_IMODE(mode))
            node.changed()

    def hold(self, node: Node) -> None:
        """Count one more handle, for reading, with the body open."""
        if node.fd < 0:
            kept = self._tree.bodies.take(node.ino)
            node.fd = kept if kept >= 0 else self._body(node)
        node.opens += 1

    def _body(self, node: Node) -> int:
        tree = self._tree
        upper = tree.upper
        if node.apart is not False and tree.elsewhere.is_apart(node):
            return tree.elsewhere.open_data(node)
        if upper is None or node.layer is not upper:
            return tree.open_body(node)
        try:
            return upper.open_rw_at(tree.place(node))
        except OSError as exc:
            if exc.errno not in (errno.EROFS, errno.EACCES):
                raise
        # It can still be read; who wants to write asks again, and is told.
        return tree.open_body(node)

    def _let_write(self, node: Node) -> None:
        """Let the descriptor of all handles be one for writing."""
        if fds.is_writable(node.fd):
            return
        fd = self._copy_up.upper().open_rw_at(self._tree.place(node))
        os.dup2(fd, node.fd, inheritable=False)
        os.close(fd)

    def release(self, node: Node) -> None:
        """Count one handle less."""
        node.opens -= 1
        if node.opens:
            return
        if node.parent is not None:
            if node.layer is self._tree.upper:
                os.close(node.fd)
            else:
                self._tree.bodies.keep(node.ino, node.fd)
            node.fd = -1
            return
        if node.attrs is None:
            self._tree.attrs(node)  # the kernel may ask for those of an unlinked file yet
        if node.lookups and node.ghost < 0 and node.apart is False:
            node.ghost = node.fd  # somebody may have it open by O_PATH yet
        else:
            os.close(node.fd)
        node.fd = -1
        self._tree.collect(node)

    def read(
        self, node: Node, offset: int, size: int
    ) -> memoryview | Coroutine[Any, Any, memoryview]:
        """Up to *size* bytes at *offset*; fewer only at the end of the file.

        What is in the page cache is read at once (1 µs for 4 KiB, where a thread costs 44),
        into a buffer that the next call uses again.
        """
        fd = node.fd
        if node.apart:
            # Layers that became others since may have more: it is no part of the file.
            size = min(size, max(self._tree.attrs(node).size - offset, 0))
        view = self._buffer.view(size)
        done = 0
        try:
            done = os.preadv(fd, [view], offset, os.RWF_NOWAIT)
            if done == size:
                return view
            if not os.preadv(fd, [self._byte], offset + done, os.RWF_NOWAIT):
                return view[:done]  # the end of the file
        except OSError as exc:
            if exc.errno not in (errno.EAGAIN, errno.EOPNOTSUPP):
                raise
        buffer = bytearray(size)
        buffer[:done] = view[:done]
        return self._read_on(fd, memoryview(buffer), done, offset)

    async def _read_on(self, fd: int, whole: memoryview, done: int, offset: int) -> memoryview:
        more = await trio.to_thread.run_sync(
            read_at, fd, whole[done:], offset + done, limiter=self._threads
        )
        return whole[: done + more]

    def write(self, node: Node, offset: int, data: bytes) -> int:
        """Write all of *data* at *offset*."""
        done = write_at(node.fd, data, offset)
        node.changed()
        if node.xattrs:
            node.xattrs = None  # a write drops security.capability
        return done

    async def fsync(self, node: Node, *, data_only: bool) -> None:
        """Bring the body to the disk; nothing to do for one in a lower layer."""
        upper = self._tree.upper
        if upper is None or node.layer is not upper:
            return
        sync = os.fdatasync if data_only else os.fsync
        # The attributes may be in another file than the data is read from.
        fd = upper.open_rw_at(self._tree.place(node)) if node.apart else os.dup(node.fd)
        try:
            await trio.to_thread.run_sync(sync, fd, limiter=self._threads)
        finally:
            os.close(fd)

    async def fsync_directory(self, node: Node) -> None:
        """Bring the names in *node* to the disk."""
        upper = self._tree.upper
        if upper is not None and node.layer is upper:
            removed = not node.names and node.ghost >= 0
            fd = os.dup(node.ghost if removed else self._tree.fd(node, upper))
            try:
                await trio.to_thread.run_sync(os.fsync, fd, limiter=self._threads)
            finally:
                os.close(fd)


class Buffer:
    """Memory for one answer at a time, kept because clean pages cost more than the bytes."""

    def __init__(self) -> None:
        self._whole = memoryview(bytearray(1 << 20))
        self._views: dict[int, memoryview] = {}

    def view(self, size: int) -> memoryview:
        """*size* bytes, those of the last call among them."""
        view = self._views.get(size)
        if view is None:
            if size > len(self._whole):
                self._whole = memoryview(bytearray(size))
                self._views.clear()
            if len(self._views) > 512:
                self._views.clear()
            view = self._views[size] = self._whole[:size]
        return view
