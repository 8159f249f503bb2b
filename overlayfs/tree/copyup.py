"""Copy up: a file of a lower layer becomes one of the upper layer before it changes."""

import errno
import os
import stat
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from typing import TypeVarTuple

import trio

from overlayfs.layers.upper import Birth
from overlayfs.linux import fds
from overlayfs.linux.files import copy_data
from overlayfs.tree.copies import Copies
from overlayfs.tree.elsewhere import file_path
from overlayfs.tree.node import NO_XATTRS, Name, Node
from overlayfs.tree.tree import Tree
from overlayfs.union.attrs import AttrChange, Attrs, Kind, changed
from overlayfs.union.redirects import made

Ts = TypeVarTuple("Ts")

# A copy of so much takes the loop 0.1 ms, and the hop to a thread costs as much at least.
_INLINE = 256 << 10


class CopyUp(Copies):
    """Brings nodes of *tree* into its upper layer, each once however many tasks ask."""

    def __init__(self, tree: Tree) -> None:
        super().__init__(tree)
        self._locks: dict[int, trio.Lock] = {}
        self._threads = trio.CapacityLimiter(4)

    async def ensure(self, node: Node, *, keep: int | None = None, data: bool = True) -> None:
        """Bring *node* into the upper layer, with its first *keep* bytes, or all.

        Without *data* its attributes are enough, where the policy leaves data in place.
        Handles that are open on the lower file go on with the copy.
        """
        upper = self.upper()
        if node.layer is upper:
            if data and node.apart is not False and self._tree.elsewhere.is_apart(node):
                await self._complete(node, keep)
            elif node.ino in self._locks:
                # What changes while the data comes would be taken back with what that does.
                async with self._alone(node):
                    pass
            if node.parent is not None and node.number in self._tree.indexed:
                self._lift(node.names[0])
            return
        if node.kind is Kind.DIRECTORY:
            self.directory(node)
            return
        attrs = self._tree.attrs(node)
        self._meet_aliases(node, attrs)
        if node.kind is not Kind.FILE:
            draft = upper.draft()
            upper.make(upper.work, draft, self._birth(node, attrs))
            try:
                self._finish(node, attrs, draft, -1)
            except BaseException:
                self._drop(draft)
                raise
            return
        if not data and attrs.size and self._leave_data(node, attrs):
            return
        size = attrs.size if keep is None else min(keep, attrs.size)
        if size < attrs.size:
            # A crash before the caller's own truncation must not leave it undated.
            attrs = attrs._replace(mtime_ns=time.time_ns())
        if self._is_quick(size):
            with self._copy(node) as (draft, source, target):
                copy_data(source, target, size)
                self._finish(node, attrs, draft, target)
            return
        async with self._alone(node):
            if node.layer is not upper:
                with self._copy(node) as (draft, source, target):
                    await self._aside(_copy_and_sync, source, target, size, upper.policy.strict)
                    if node.layer is not upper:
                        self._finish(node, attrs, draft, target)
                        return
                    self._drop(draft)  # a small copy (of a truncation) overtook this one
        # Another task was first, but one that wanted less, perhaps.
        await self.ensure(node, keep=keep, data=data)

    def born_with(self, node: Node, change: AttrChange) -> bool:
        """Bring *node* into the upper layer with *change* made, which is none of its size.

        False, and nothing is done, unless it is a plain file of which that takes no time: a
        change of owner or mode means more where there are suid bits or access lists.
        """
        if node.kind is not Kind.FILE or node.layer is self.upper() or node.ino in self._locks:
            return False
        attrs = self._tree.attrs(node)
        if attrs.mode & (stat.S_ISUID | stat.S_ISGID) or self._xattrs(node):
            return False
        node.xattrs = NO_XATTRS
        wanted = changed(attrs, change)
        self._meet_aliases(node, attrs)
        if node.layer is self.upper():
            return False  # one of them was copied up in an earlier mount
        if attrs.size and self._leave_data(node, wanted):
            return True
        if not self._is_quick(attrs.size):
            return False
        with self._copy(node) as (draft, source, target):
            copy_data(source, target, attrs.size)
            self._finish(node, wanted, draft, target)
        return True

    def _is_quick(self, size: int) -> bool:
        return size <= _INLINE and not self.upper().policy.strict

    async def _aside(self, work: Callable[[*Ts], None], *args: *Ts) -> None:
        await trio.to_thread.run_sync(work, *args, limiter=self._threads)

    async def movable(self, node: Node) -> None:
        """Bring *node*, no directory, into the upper layer, such that it can have any name.

        A file whose data is elsewhere says by a path where that is.
        """
        await self.ensure(node, data=False)
        if not node.names or node.apart is False or not self._tree.elsewhere.is_apart(node):
            return
        upper = self.upper()
        place = self._tree.place(node)
        known = upper.redirect(place)
        if known is not None and known.startswith(b"/"):
            return
        redirect = made(self._tree.elsewhere.data_path(node))
        if redirect is not None:
            try:
                upper.set_redirect(place, redirect)
            except OSError as exc:
                if exc.errno != errno.EXDEV:
                    raise
            else:
                return
        await self.ensure(node)

    def _leave_data(self, node: Node, attrs: Attrs) -> bool:
        """Copy up all but the data of *node*, which stays; False if it cannot.

        It is where the file is, which need not be said: on many disks an attribute more
        would take a block.  Of a file with several names that would not be enough.
        """
        upper = self.upper()
        if not (upper.leaves_data and node.names):
            return False
        redirect = made(file_path(node)) if attrs.nlink > 1 else None
        if attrs.nlink > 1 and redirect is None:
            return False
        draft = upper.draft()
        target = upper.make(upper.work, draft, Birth(Kind.FILE, 0o600, *_MINE))
        try:
            os.ftruncate(target, attrs.size)
            upper.set_metacopy(target)
            if redirect is not None:
                upper.set_redirect(target, redirect)
            self._finish(node, attrs, draft, target, apart=True)
        except BaseException:
            self._drop(draft)
            raise
        finally:
            os.close(target)
        return True

    async def _complete(self, node: Node, keep: int | None) -> None:
        """Bring the data of *node* to where the rest of it is already."""
        whole = self._tree.attrs(node).size
        size = whole if keep is None else min(keep, whole)
        if node.ino not in self._locks and self._is_quick(size):
            await self._bring_data(node, size)
            return
        async with self._alone(node):
            if self._tree.elsewhere.is_apart(node):  # no other task was first
                await self._bring_data(node, size)

    async def _bring_data(self, node: Node, size: int) -> None:
        upper = self.upper()
        with ExitStack() as stack:
            source = self._tree.elsewhere.open_data(node)
            stack.callback(os.close, source)
            present = upper.open_rw_at(self._tree.place(node))
            stack.callback(os.close, present)
            if os.fstat(present).st_nlink == 1 and node.number not in self._tree.indexed:
                await self._complete_anew(node, source, size)
            else:
                await self._complete_in_place(node, source, present, size)
        node.apart = False
        node.changed()

    async def _complete_anew(self, node: Node, source: int, size: int) -> None:
        """Put a file with *size* bytes of *source* in the place of *node*, in one step."""
        upper = self.upper()
        draft = upper.draft()
        target = upper.make(upper.work, draft, Birth(Kind.FILE, 0o600, *_MINE))
        try:
            await self._copy_data(source, target, size)
            attrs = self._tree.attrs(node)  # whatever it has by now
            if size < attrs.size:
                attrs = attrs._replace(mtime_ns=time.time_ns())
            upper.dress(target, self._birth(node, attrs))
            self._put_in_place(node, attrs, draft)
            for fd in (node.fd, node.ghost):
                if fd >= 0:
                    os.dup2(target, fd, inheritable=False)
        except BaseException:
            self._drop(draft)
            raise
        finally:
            os.close(target)

    async def _complete_in_place(self, node: Node, source: int, target: int, size: int) -> None:
        """Bring *size* bytes of *source* into the file *target* of *node*.

        Not all of its names are known, perhaps.  It counts as having no data until the last
        step; a crash before may leave it with another time and without capabilities.
        """
        upper = self.upper()
        whole = attrs = self._tree.attrs(node)
        labels = upper.labels(self._tree.place(node))
        if size < attrs.size:
            attrs = attrs._replace(mtime_ns=time.time_ns())
        try:
            await self._copy_data(source, target, size)
            # Writing drops suid bits and capabilities; those are to stay.
            upper.relabel(target, attrs, labels)
            upper.utime(target, attrs.atime_ns, attrs.mtime_ns)
            upper.end_metacopy(target)
        except BaseException:
            os.ftruncate(target, 0)
            os.ftruncate(target, whole.size)
            upper.relabel(target, whole, labels)
            upper.utime(target, whole.atime_ns, whole.mtime_ns)
            raise
        if node.fd >= 0:
            os.dup2(target, node.fd, inheritable=False)

    async def _copy_data(self, source: int, target: int, size: int) -> None:
        if self._is_quick(size):
            copy_data(source, target, size)
        else:
            strict = self.upper().policy.strict
            await self._aside(_copy_and_sync, source, target, size, strict)

    @contextmanager
    def _copy(self, node: Node) -> Iterator[tuple[bytes, int, int]]:
        """A draft's name, the lower body for reading and the draft for writing.

        The draft goes when an exception comes.
        """
        upper = self.upper()
        tree = self._tree
        if node.apart is not False and tree.elsewhere.is_apart(node):
            source = tree.elsewhere.open_data(node)
        else:
            source = os.dup(node.fd) if node.fd >= 0 else tree.open_body(node)
        draft = upper.draft()
        with ExitStack() as stack:
            stack.callback(os.close, source)
            target = upper.make(upper.work, draft, Birth(Kind.FILE, 0o600, *_MINE))
            stack.callback(os.close, target)
            try:
                yield draft, source, target
            except BaseException:
                self._drop(draft)
                raise

    def _meet_aliases(self, node: Node, attrs: Attrs) -> None:
        """Let the tree know all names of a lower file, so that all will name the copy."""
        if attrs.nlink <= 1 or not node.names or self._tree.indexed.index is not None:
            return
        for path in node.layer.aliases(file_path(node)):
            at = self._tree.root
            *parents, _ = path.split(b"/")
            for step in parents:
                found = self._tree.directory(at).children.get(step)
                if found is None or found.kind is not Kind.DIRECTORY:
                    break  # hidden by a layer above
                at = found
            else:
                self._tree.directory(at)

    @asynccontextmanager
    async def _alone(self, node: Node) -> AsyncIterator[None]:
        lock = self._locks.setdefault(node.ino, trio.Lock())
        try:
            async with lock:
                yield
        finally:
            if not lock.statistics().tasks_waiting and not lock.locked():
                self._locks.pop(node.ino, None)

    def _finish(
        self, node: Node, attrs: Attrs, draft: bytes, body: int, *, apart: bool = False
    ) -> None:
        """Dress the draft and give it the names of *node*; no task runs meanwhile."""
        upper = self.upper()
        place = fds.beneath(upper.work, draft)
        if body >= 0:
            upper.dress(body, self._birth(node, attrs))
        if self._tree.numbers.is_lasting(node.number):
            upper.set_origin(place, node.number)
        upper.utime(place, attrs.atime_ns, attrs.mtime_ns)
        names = list(node.names)
        indexed = self.is_counted(node) and self._tree.indexed.put(
            node, self._tree.place(node), upper.work, draft, self._tree.attrs(node).nlink
        )
        if not indexed:
            self._put_in_directory(node, draft)
        if body >= 0 and node.fd >= 0 and not apart:
            # The handles, and a thread amid a read, keep the number; the file is another.
            os.dup2(body, node.fd, inheritable=False)
        if body >= 0 and node.ghost >= 0:
            os.dup2(body, node.ghost, inheritable=False)
        self._tree.bodies.drop(node.ino)
        node.layer = upper
        node.apart = apart
        node.lost = 0
        node.changed()
        if indexed:
            for parent, name in names:
                self._tree.directory(parent).stays_beneath(name)
            if names:
                self._lift(names[0])
            return
        for parent, name in names:
            self._tree.directory(parent).lies_below(name)
        node.names = names[:1]
        for other in names[1:]:
            # Not adopt(): these are none of those that the index waits for.
            self._link_over(node, other)
        node.changed()

    async def count(self, place: Name) -> None:
        """Let the upper directory have the name *place*, if its file is to be counted.

        Then it can go, and the number of links of the file with it, in one step; there is
        nothing that a whiteout alone could change so (ovl_nlink_start() of the kernel).
        """
        node = self._tree.child(*place)
        if self.is_counted(node):
            await self.ensure(node, data=False)
            self._lift(place)


def _copy_and_sync(source: int, target: int, size: int, strict: bool) -> None:
    copy_data(source, target, size)
    if strict:
        os.fsync(target)


_MINE = (os.geteuid(), os.getegid())
