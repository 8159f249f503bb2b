"""The live tree without FUSE, by paths: what requests of the kernel would come to."""

import errno
import os
import stat
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from overlayfs.serving import Stack as Directories
from overlayfs.tree.filesystem import Filesystem
from overlayfs.tree.node import Node
from overlayfs.union.attrs import AttrChange, Caller, Kind
from overlayfs.union.names import Format
from overlayfs.union.policy import PLAIN, Policy
from tests.support.union import Stack

T = TypeVar("T")
ROOT = 1


def at_once(coroutine: Coroutine[Any, Any, T]) -> T:
    """What a request answers that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        answer: T = done.value
        return answer
    raise AssertionError("it waits")


class Live:
    """A file system; paths are relative to its root."""

    def __init__(self, fs: Filesystem, *, caller: Caller = Caller(0, 0)) -> None:  # noqa: B008
        self.fs = fs
        self.caller = caller

    def node(self, path: str) -> Node:
        """The node at *path*, found as the kernel finds it."""
        node = self.fs.tree.node(ROOT)
        for name in Path(path).parts:
            found = self.fs.lookup(node.ino, os.fsencode(name))
            if found is None:
                raise FileNotFoundError(errno.ENOENT, "no such file", name)
            node = found
        return node

    def place(self, path: str) -> tuple[int, bytes]:
        """The directory of *path* and its last name."""
        return self.node(str(Path(path).parent)).ino, os.fsencode(Path(path).name)

    def make(self, path: str, mode: int, *, rdev: int = 0) -> None:
        self.fs.make(*self.place(path), mode, self.caller, rdev=rdev)

    def create(self, path: str, mode: int, data: bytes = b"") -> None:
        node = self.fs.create(*self.place(path), mode, self.caller)
        if data:
            self.fs.files.write(node, 0, data)
        self.fs.files.release(node)

    def symlink(self, path: str, target: bytes) -> None:
        self.fs.symlink(*self.place(path), target, self.caller)

    def link(self, old: str, new: str) -> None:
        at_once(self.fs.link(self.node(old).ino, *self.place(new)))

    def unlink(self, path: str) -> None:
        waits = self.fs.unlink(*self.place(path))
        if waits is not None:
            at_once(waits)

    def rmdir(self, path: str) -> None:
        self.fs.rmdir(*self.place(path))

    def rename(self, old: str, new: str, flags: int = 0) -> None:
        at_once(self.fs.rename(*self.place(old), *self.place(new), flags))

    def change(self, path: str, **what: int) -> None:
        at_once(self.fs.attributes.change(self.node(path), AttrChange(**what)))

    def set_xattr(self, path: str, name: bytes, value: bytes) -> None:
        at_once(self.fs.attributes.set_xattr(self.node(path), name, value))

    def remove_xattr(self, path: str, name: bytes) -> None:
        at_once(self.fs.attributes.remove_xattr(self.node(path), name))

    def open(self, path: str, flags: int) -> Node:
        node = self.node(path)
        if flags == os.O_RDONLY:
            self.fs.files.hold(node)
        else:
            at_once(self.fs.files.open(node, flags, self.caller))
        return node

    def write(self, path: str, data: bytes, *, flags: int = os.O_WRONLY) -> None:
        node = self.open(path, flags)
        self.fs.files.write(node, 0, data)
        self.fs.files.release(node)

    def read(self, path: str) -> bytes:
        """All bytes of a small file."""
        node = self.open(path, os.O_RDONLY)
        data = os.pread(node.fd, self.fs.tree.attrs(node).size, 0)  # it need not be cached
        self.fs.files.release(node)
        return data

    def tree(self) -> dict[str, tuple[object, ...]]:
        """Everything there is; of times only those of files, as directories' follow the clock."""
        return dict(self._walk("", self.node("")))

    def _walk(self, path: str, node: Node) -> Iterator[tuple[str, tuple[object, ...]]]:
        fs = self.fs
        attrs = fs.tree.attrs(node)
        is_directory = node.kind is Kind.DIRECTORY
        shown: tuple[object, ...] = (
            *(str(node.kind), oct(stat.S_IMODE(attrs.mode)), attrs.uid, attrs.gid, attrs.rdev),
            dict(sorted(fs.attributes.xattrs(node).items())),
        )
        if not is_directory:
            shown += (attrs.nlink,)
        if node.kind is Kind.FILE:
            shown += (self.read(path),)
        elif node.kind is Kind.SYMLINK:
            shown += (fs.readlink(node.ino),)
        yield path, shown
        if is_directory:
            for name in sorted(fs.tree.directory(node).children):
                below = f"{path}/{os.fsdecode(name)}" if path else os.fsdecode(name)
                yield from self._walk(below, self.node(below))


@contextmanager
def live(
    stack: Stack,
    fmt: Format,
    *,
    caller: Caller = Caller(0, 0),  # noqa: B008
    policy: Policy = PLAIN,
) -> Iterator[Live]:
    """*stack* as a live tree."""
    umask = os.umask(0)  # as the daemon has it
    fs = Directories(stack.lowers, stack.upper, stack.work, fmt, policy=policy).open()
    try:
        yield Live(fs, caller=caller)
    finally:
        fs.close()
        os.umask(umask)
