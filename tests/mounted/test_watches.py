"""inotify(7): who watches a lower file is told what happens to it after its copy up, too."""

import ctypes
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.union import Stack, write

# linux/inotify.h
EVENTS = {0x2: "modify", 0x4: "attrib", 0x40: "from", 0x80: "to", 0x100: "create", 0x200: "delete"}
IN_NONBLOCK = os.O_NONBLOCK

_libc = ctypes.CDLL(None, use_errno=True)


class Watch:
    """What happens at some paths."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def add(self, path: Path) -> None:
        if _libc.inotify_add_watch(self._fd, os.fsencode(path), sum(EVENTS)) < 0:
            raise OSError(ctypes.get_errno(), str(path))

    def seen(self) -> list[str]:
        """The events since the last time, each with the name in its directory."""
        data = os.read(self._fd, 4096)
        found, at = [], 0
        while at < len(data):
            _, mask, _, length = struct.unpack_from("iIII", data, at)
            at += 16
            name = data[at : at + length].rstrip(b"\0").decode()
            at += length
            found.append(f"{EVENTS.get(mask, mask)} {name}".strip())
        return found


@contextmanager
def watching() -> Iterator[Watch]:
    fd = _libc.inotify_init1(IN_NONBLOCK)
    try:
        yield Watch(fd)
    finally:
        os.close(fd)


def test_a_watch_goes_along_with_a_copy(stack: Stack) -> None:
    write(stack.lower / "dir/file", "lower")
    with stack.mounted() as mnt, watching() as file, watching() as folder:
        file.add(mnt / "dir/file")
        folder.add(mnt / "dir")
        with (mnt / "dir/file").open("a") as opened:
            opened.write(" and more")
        assert file.seen() == ["modify"]
        assert folder.seen() == ["modify file"]
        (mnt / "dir/file").chmod(0o600)
        (mnt / "dir/new").touch()
        (mnt / "dir/file").rename(mnt / "dir/moved")
        (mnt / "dir/new").unlink()
        assert file.seen() == ["attrib"]
        told = ["attrib file", "create new", "from file", "to moved", "delete new"]
        assert folder.seen() == told
