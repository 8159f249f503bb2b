"""Names: making, linking, moving and removing files.

Every method has one shape: await the copy-ups, look again, decide, act, record.  The
kernel holds the locks of the directories it changes, but opening a file, which may copy
it up, needs none of them.
"""

import errno
import os
import stat
from collections.abc import Coroutine
from typing import Any

from overlayfs.layers.upper import Birth, Upper
from overlayfs.layers.whiteouts import Spot
from overlayfs.linux import fds
from overlayfs.linux.files import (
    RENAME_EXCHANGE,
    RENAME_NOREPLACE,
    renameat2,
)
from overlayfs.tree.attributes import Attributes
from overlayfs.tree.copyup import CopyUp
from overlayfs.tree.node import NO_XATTRS, Name, Node
from overlayfs.tree.tree import Tree
from overlayfs.union.attrs import Caller, Kind
from overlayfs.union.redirects import Turn, made

LONGEST_NAME = 255  # NAME_MAX, linux/limits.h


class Namespace:
    """The names of *tree*."""

    def __init__(self, tree: Tree, copy_up: CopyUp, attributes: Attributes) -> None:
        self._tree = tree
        self._copy_up = copy_up
        self._attributes = attributes

    # -- making ------------------------------------------------------------------------

    def make(
        self,
        parent: Node,
        name: bytes,
        mode: int,
        caller: Caller,
        *,
        rdev: int = 0,
        target: bytes = b"",
    ) -> tuple[Node, int]:
        """A new file with the type and permissions of *mode*, and its open body.

        The descriptor is -1 for anything but a regular file.
        """
        kind = Kind.of(mode)
        upper = self._room_for(parent, name)
        if kind is Kind.CHAR and not rdev:
            # It would be a whiteout.  The kernel's overlayfs refuses it too.
            raise PermissionError(errno.EPERM, "a character device 0:0 is a whiteout", name)
        birth = self._birth(parent, mode, caller, rdev, target)
        dir_fd = self._tree.fd(parent, upper)
        directory = self._tree.directory(parent)
        if name in directory.whiteouts:
            fd = self._over_whiteout(upper, dir_fd, name, birth, opaque=name in directory.below)
        else:
            fd = upper.create(dir_fd, name, birth)
        node = self._tree.add(parent, name, kind)
        if not (birth.xattrs or upper.labels_files):
            node.xattrs = NO_XATTRS  # the kernel asks before the first write
        return node, fd

    def _room_for(self, parent: Node, name: bytes) -> Upper:
        """The upper layer, with the directory *parent* in it and nothing called *name*."""
        upper = self._copy_up.upper()
        self._check_name(upper, name)
        if name in self._tree.directory(parent).children:
            raise FileExistsError(errno.EEXIST, "exists", name)
        self._copy_up.directory(parent)
        return upper

    @staticmethod
    def _check_name(upper: Upper, name: bytes) -> None:
        if len(name) > LONGEST_NAME:
            raise OSError(errno.ENAMETOOLONG, "name too long", name)
        if not upper.is_legal(name):
            # fuse-overlayfs refuses it the same way.
            raise OSError(errno.EINVAL, "in this layer the name hides another", name)

    def _birth(self, parent: Node, mode: int, caller: Caller, rdev: int, target: bytes) -> Birth:
        gid = caller.gid
        above = self._tree.attrs(parent)
        if above.mode & stat.S_ISGID:
            # inode_init_owner() of the kernel, which FUSE leaves to the file system.
            gid = above.gid
            if stat.S_ISDIR(mode):
                mode |= stat.S_ISGID
        lists: dict[bytes, bytes] = {}
        if not stat.S_ISLNK(mode):
            mode, lists = self._attributes.inherited(parent, mode)
        return Birth(Kind.of(mode), stat.S_IMODE(mode), caller.uid, gid, rdev, target, lists)

    @staticmethod
    def _over_whiteout(
        upper: Upper, dir_fd: int, name: bytes, birth: Birth, *, opaque: bool
    ) -> int:
        """Draft the new file and put it in the place of the whiteout in one step."""
        draft = upper.draft()
        is_directory = birth.kind is Kind.DIRECTORY
        fd = upper.make(upper.work, draft, birth)
        try:
            if is_directory and opaque:
                upper.make_opaque(fds.beneath(upper.work, draft))
            upper.whiteouts.cover(draft, Spot(dir_fd, name), directory=is_directory)
        except OSError:
            if fd >= 0:
                os.close(fd)
            upper.discard(upper.work, draft, directory=is_directory)
            raise
        return fd

    async def link(self, node: Node, parent: Node, name: bytes) -> None:
        """One more name for *node*."""
        self._room_for(parent, name)
        await self._copy_up.movable(node)
        upper = self._room_for(parent, name)
        if not node.names:
            raise FileNotFoundError(errno.ENOENT, "unlinked while it was copied up")
        source, known_as = self._tree.location(node)
        target = self._tree.fd(parent, upper)
        if name in self._tree.directory(parent).whiteouts:
            draft = upper.draft()
            os.link(
                known_as, draft, src_dir_fd=source, dst_dir_fd=upper.work, follow_symlinks=False
            )
            try:
                upper.whiteouts.cover(draft, Spot(target, name), directory=False)
            except OSError:
                os.unlink(draft, dir_fd=upper.work)
                raise
        else:
            os.link(known_as, name, src_dir_fd=source, dst_dir_fd=target, follow_symlinks=False)
        self._tree.enter(node, parent, name)

    # -- removing ----------------------------------------------------------------------

    def unlink(self, parent: Node, name: bytes) -> Coroutine[Any, Any, None] | None:
        """Remove *name*, which is no directory.

        A coroutine, and nothing is done before, where the file is to be copied up.
        """
        self._copy_up.upper()
        node = self._tree.child(parent, name)
        if node.kind is Kind.DIRECTORY:
            raise IsADirectoryError(errno.EISDIR, "is a directory", name)
        if self._copy_up.is_counted(node):
            return self._unlink_counted(parent, name)
        self._unlink(parent, name)
        return None

    async def _unlink_counted(self, parent: Node, name: bytes) -> None:
        await self._copy_up.count(Name(parent, name))
        self._unlink(parent, name)

    def _unlink(self, parent: Node, name: bytes) -> None:
        upper = self._copy_up.upper()
        node = self._tree.child(parent, name)
        self._tree.keep_reachable(node)
        self._hide(upper, parent, name, node)
        self._tree.leave(parent, name)

    def rmdir(self, parent: Node, name: bytes) -> None:
        """Remove the directory *name*, in which nothing is visible."""
        upper = self._copy_up.upper()
        node = self._tree.child(parent, name)
        if self._tree.directory(node).children:
            raise OSError(errno.ENOTEMPTY, "directory not empty", name)
        self._tree.keep_reachable(node)
        self._hide(upper, parent, name, node)
        self._tree.descriptors.drop(node)
        self._tree.leave(parent, name)

    def _hide(self, upper: Upper, parent: Node, name: bytes, node: Node) -> None:
        is_directory = node.kind is Kind.DIRECTORY
        below = name in self._tree.directory(parent).below
        if node.layer is not upper:
            self._copy_up.directory(parent)
            upper.whiteouts.hide(Spot(self._tree.fd(parent, upper), name))
        elif below:
            spot = Spot(self._tree.fd(parent, upper), name)
            upper.whiteouts.replace(spot, directory=is_directory)
        elif is_directory:
            upper.take_away(self._tree.fd(parent, upper), name)
        else:
            os.unlink(name, dir_fd=self._tree.fd(parent, upper))

    # -- moving ------------------------------------------------------------------------

    async def rename(
        self, parent: Node, name: bytes, new_parent: Node, new_name: bytes, flags: int
    ) -> None:
        """Move *name*; *flags* as in renameat2(2).

        OSError EXDEV for a directory with lower parts, as the kernel's overlayfs answers,
        unless the policy makes redirects: mv(1) and others copy then.
        """
        upper = self._copy_up.upper()
        if flags & ~(RENAME_NOREPLACE | RENAME_EXCHANGE):
            raise OSError(errno.EINVAL, "flags of renameat2", new_name)
        self._check_name(upper, new_name)
        await self._movable(parent, name, new_parent)
        if flags & RENAME_EXCHANGE:
            await self._movable(new_parent, new_name, parent)
        elif new_name in self._tree.directory(new_parent).children:
            await self._copy_up.count(Name(new_parent, new_name))
        node = self._tree.child(parent, name)
        target = self._tree.directory(new_parent).children.get(new_name)
        if target is node:
            return
        self._copy_up.directory(parent)
        self._copy_up.directory(new_parent)
        if flags & RENAME_EXCHANGE:
            if target is None:
                raise FileNotFoundError(errno.ENOENT, "nothing to exchange with", new_name)
            self._exchange(upper, Name(parent, name), node, Name(new_parent, new_name), target)
            return
        if target is not None:
            if flags & RENAME_NOREPLACE:
                raise FileExistsError(errno.EEXIST, "exists", new_name)
            self._replaceable(node, target, new_name)
        self._move(upper, Name(parent, name), node, Name(new_parent, new_name), target)

    async def _movable(self, parent: Node, name: bytes, goal: Node) -> None:
        """Bring *name* into the upper layer, such that it can be moved to the directory *goal*."""
        node = self._tree.child(parent, name)
        if node.kind is not Kind.DIRECTORY:
            await self._copy_up.movable(node)
            await self._copy_up.count(Name(parent, name))
            return
        if node.layer is self._tree.upper:
            self._tree.directory(node)  # a look tells whether it is opaque
        self._tree.directory(goal)
        if self._is_pure(node):
            return
        if not self._copy_up.upper().redirects or self._redirect(node, goal) is None:
            raise OSError(errno.EXDEV, "directory with parts in lower layers")
        self._copy_up.directory(node)

    def _redirect(self, node: Node, goal: Node) -> bytes | None:
        """What the directory *node* must say when it is in *goal*; None if it cannot.

        A path, or where that is too long and *goal* merges what is beside it, a name.
        """
        beside = None if self._is_pure(goal) else goal.lower_path()
        return made(node.lower_path(), beside)

    def _is_pure(self, node: Node) -> bool:
        """Whether the upper layer has all of the directory *node*."""
        return node.stack == (self._tree.upper,)

    def _replaceable(self, node: Node, target: Node, name: bytes) -> None:
        if target.kind is Kind.DIRECTORY:
            if node.kind is not Kind.DIRECTORY:
                raise IsADirectoryError(errno.EISDIR, "is a directory", name)
            if self._tree.directory(target).children:
                raise OSError(errno.ENOTEMPTY, "directory not empty", name)
        elif node.kind is Kind.DIRECTORY:
            raise NotADirectoryError(errno.ENOTDIR, "not a directory", name)

    def _prepare_at(self, upper: Upper, node: Node, place: Name) -> None:
        """Let a directory that goes to *place* show there what it shows now.

        It says where its lower parts are, or hides those that it would get there.
        """
        if node.kind is not Kind.DIRECTORY:
            return
        if not self._is_pure(node):
            redirect = self._redirect(node, place.parent)
            if redirect is None:
                raise OSError(errno.EXDEV, "too long a path for a redirect")
            upper.set_redirect(self._tree.place(node), redirect)
            lower = [turn for turn in node.all_turns() if turn.at < upper.number]
            node.turns = (*lower, Turn(upper.number, node.lower_path()))
            return
        directory = self._tree.directory(place.parent)
        there = directory.children.get(place.name)
        if place.name in directory.below or (there is not None and there.layer is not upper):
            upper.make_opaque(self._tree.place(node))

    def _exchange(self, upper: Upper, one: Name, node: Node, other: Name, partner: Node) -> None:
        self._prepare_at(upper, node, other)
        self._prepare_at(upper, partner, one)
        renameat2(
            self._tree.fd(one.parent, upper),
            one.name,
            self._tree.fd(other.parent, upper),
            other.name,
            RENAME_EXCHANGE,
        )
        for moved, old, new in ((node, one, other), (partner, other, one)):
            moved.exchange(old, new)
            self._tree.directory(new.parent).children[new.name] = moved
            moved.changed()
            new.parent.changed()

    def _move(self, upper: Upper, old: Name, node: Node, new: Name, target: Node | None) -> None:
        self._prepare_at(upper, node, new)
        source = self._tree.fd(old.parent, upper)
        goal = self._tree.fd(new.parent, upper)
        needs_whiteout = old.name in self._tree.directory(old.parent).below
        goal_directory = self._tree.directory(new.parent)
        if target is not None:
            self._tree.keep_reachable(target)
            if target.kind is Kind.DIRECTORY and target.layer is upper:
                self._empty(upper, goal, new.name, target)
                self._tree.descriptors.drop(target)
        upper.whiteouts.move(
            Spot(source, old.name),
            Spot(goal, new.name),
            directory=node.kind is Kind.DIRECTORY,
            leave=needs_whiteout,
            over=new.name in goal_directory.whiteouts,
        )
        if target is not None:
            self._tree.leave(new.parent, new.name)
        self._tree.leave(old.parent, old.name, moving=True)
        self._tree.enter(node, new.parent, new.name)

    def _empty(self, upper: Upper, dir_fd: int, name: bytes, node: Node) -> None:
        """Let the directory *name*, which shows nothing, hold nothing, not even whiteouts."""
        if not (self._tree.directory(node).whiteouts and upper.whiteouts.needs_empty):
            return
        draft = self._copy_up.draft_directory(node)
        upper.make_opaque(fds.beneath(upper.work, draft))
        renameat2(upper.work, draft, dir_fd, name, RENAME_EXCHANGE)
        upper.discard(upper.work, draft, directory=True)
