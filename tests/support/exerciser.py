"""Random reading and writing of files, each read checked against the bytes kept in memory.

In the manner of fsx: through several handles of a file at once, by mappings, with truncations
and holes; files are big lower ones first, so that copies up happen amid.
"""

import mmap
import os
import random
from contextlib import ExitStack
from pathlib import Path

from tests.support.served import served
from tests.support.union import Stack

LARGEST = 400_000
_STEP = 66_000
_FILES = 24
_REMOUNTS = 5


class Exerciser:
    """Operations on the files *names* in *folder*, which hold *bodies*."""

    def __init__(self, folder: Path, bodies: dict[str, bytes], chance: random.Random) -> None:
        self._folder = folder
        self._bodies = {name: bytearray(body) for name, body in bodies.items()}
        self._chance = chance
        self._handles: dict[str, list[tuple[int, int]]] = {name: [] for name in bodies}
        self._last: list[str] = []
        # A few at a time, so that the same ones are met again; a new one now and then.
        self._fresh = list(bodies)
        chance.shuffle(self._fresh)
        self._current = [self._fresh.pop() for _ in range(min(3, len(bodies)))]
        self._actions = (
            *(self._read,) * 6,
            *(self._write,) * 6,
            *(self._truncate,) * 2,
            *(self._map_read,) * 2,
            *(self._map_write,) * 2,
            *(self._append,) * 2,
            *(self._open,) * 2,
            self._open_truncating,
            self._close,
            self._drop,
            self._size,
            self._copy,
            self._rename,
        )

    def run(self, count: int) -> None:
        """Do *count* operations; AssertionError when a read shows anything but was written."""
        for number in range(count):
            if self._fresh and not number % 1500:
                self._current.append(self._fresh.pop())
            name = self._chance.choice(self._current)
            action = self._chance.choice(self._actions)
            action(name)

    def close(self) -> None:
        """Close all handles."""
        for handles in self._handles.values():
            for fd, _ in handles:
                os.close(fd)
            handles.clear()

    def check(self) -> None:
        """Compare all bytes of all files."""
        for name, body in self._bodies.items():
            self._compare(name, 0, len(body) + 1, (self._folder / name).read_bytes(), "all")

    # -- handles -----------------------------------------------------------------------

    def _handle(self, name: str, *, writes: bool) -> int:
        """One of the open ones that suits, or a new one."""
        suits = [
            fd
            for fd, flags in self._handles[name]
            if not writes or flags & os.O_ACCMODE == os.O_RDWR
        ]
        if suits:
            return self._chance.choice(suits)
        return self._add(name, os.O_RDWR if writes else os.O_RDONLY)

    def _add(self, name: str, flags: int) -> int:
        fd = os.open(self._folder / name, flags)
        self._handles[name].append((fd, flags))
        if len(self._handles[name]) > 4:
            os.close(self._handles[name].pop(0)[0])
        return fd

    def _open(self, name: str) -> None:
        self._add(name, self._chance.choice((os.O_RDONLY, os.O_RDWR)))

    def _open_truncating(self, name: str) -> None:
        if self._chance.random() < 0.2:
            self._told(name, "open with O_TRUNC")
            self._add(name, os.O_RDWR | os.O_TRUNC)
            self._bodies[name].clear()

    def _close(self, name: str) -> None:
        while self._handles[name]:
            os.close(self._handles[name].pop()[0])

    # -- bytes -------------------------------------------------------------------------

    def _place(self, body: bytearray) -> tuple[int, int]:
        start = self._chance.randrange(min(len(body) + 5000, LARGEST))
        return start, self._chance.randrange(1, self._chance.choice((20, 5000, _STEP)))

    def _read(self, name: str) -> None:
        start, size = self._place(self._bodies[name])
        fd = self._handle(name, writes=False)
        self._compare(name, start, size, os.pread(fd, size, start), "read")

    def _write(self, name: str) -> None:
        body = self._bodies[name]
        start, size = self._place(body)
        data = self._chance.randbytes(size)
        self._told(name, f"write {start}+{size}")
        assert os.pwrite(self._handle(name, writes=True), data, start) == size
        _put(body, start, data)

    def _append(self, name: str) -> None:
        body = self._bodies[name]
        data = self._chance.randbytes(self._chance.randrange(1, 3000))
        if len(body) > LARGEST:
            return
        self._told(name, f"append {len(data)}")
        fd = os.open(self._folder / name, os.O_WRONLY | os.O_APPEND)
        try:
            assert os.write(fd, data) == len(data)
        finally:
            os.close(fd)
        body += data

    def _truncate(self, name: str) -> None:
        body = self._bodies[name]
        size = self._chance.randrange(LARGEST if self._chance.random() < 0.3 else len(body) + 1)
        self._told(name, f"truncate {size}")
        if self._chance.random() < 0.5:
            os.ftruncate(self._handle(name, writes=True), size)
        else:
            os.truncate(self._folder / name, size)
        if size <= len(body):
            del body[size:]
        else:
            body += bytes(size - len(body))

    def _map_read(self, name: str) -> None:
        body = self._bodies[name]
        if not body:
            return
        with mmap.mmap(self._handle(name, writes=False), 0, prot=mmap.PROT_READ) as mapping:
            start, size = self._place(body)
            self._compare(name, start, size, mapping[start : start + size], "mapping")

    def _map_write(self, name: str) -> None:
        body = self._bodies[name]
        if not body:
            return
        start = self._chance.randrange(len(body))
        data = self._chance.randbytes(self._chance.randrange(1, _STEP))[: len(body) - start]
        self._told(name, f"write through a mapping {start}+{len(data)}")
        with mmap.mmap(self._handle(name, writes=True), len(body)) as mapping:
            mapping[start : start + len(data)] = data
            if self._chance.random() < 0.5:
                mapping.flush()
        _put(body, start, data)

    def _copy(self, name: str) -> None:
        """From one file to another by copy_file_range(2)."""
        other = self._chance.choice(self._current)
        if other == name:
            return
        start, size = self._place(self._bodies[name])
        at, _ = self._place(self._bodies[other])
        self._told(other, f"copy {start}+{size} of {name} to {at}")
        source, goal = self._handle(name, writes=False), self._handle(other, writes=True)
        done = os.copy_file_range(source, goal, size, start, at)
        data = bytes(self._bodies[name][start : start + size])
        assert 0 < done <= len(data) or not data
        if done:
            _put(self._bodies[other], at, data[:done])

    def _drop(self, name: str) -> None:
        """Let the next read ask the file system."""
        fd = self._handle(name, writes=False)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)

    def _size(self, name: str) -> None:
        size = len(self._bodies[name])
        self._expect(name, (self._folder / name).stat().st_size, size)
        self._expect(name, os.fstat(self._handle(name, writes=False)).st_size, size)

    def _rename(self, name: str) -> None:
        """Two files change places; the handles go with the files."""
        other = self._chance.choice(self._current)
        if other == name or self._chance.random() < 0.8:
            return
        self._told(name, f"exchange with {other}")
        aside = self._folder / "aside"
        (self._folder / name).rename(aside)
        (self._folder / other).rename(self._folder / name)
        aside.rename(self._folder / other)
        for each in (self._bodies, self._handles):
            each[name], each[other] = each[other], each[name]  # type: ignore[index]

    # -- looking -----------------------------------------------------------------------

    def _told(self, name: str, what: str) -> None:
        self._last = [*self._last[-30:], f"{name}: {what}"]

    def _expect(self, name: str, found: object, expected: object) -> None:
        last = "\n".join(self._last)
        assert found == expected, f"{name}: {found}, expected {expected}; before:\n{last}"

    def _compare(self, name: str, start: int, size: int, found: bytes, how: str) -> None:
        expected = self._bodies[name][start : start + size]
        if found == expected:
            return
        at = next(
            (
                at
                for at, pair in enumerate(zip(found, expected, strict=False))
                if pair[0] != pair[1]
            ),
            min(len(found), len(expected)),
        )
        shown = (found[at : at + 8].hex(), len(found))
        wanted = (expected[at : at + 8].hex(), len(expected))
        self._expect(f"{name}, {how} {start}+{size}, at {start + at}", shown, wanted)


def _put(body: bytearray, start: int, data: bytes) -> None:
    if start > len(body):
        body += bytes(start - len(body))
    body[start : start + len(data)] = data


def run(base: Path, count: int, seed: int) -> str:
    """Exercise a mount in *base*, which is made, *count* times; what was done, in words.

    It is unmounted and mounted again a few times; in the end the bytes on the disk are read.
    """
    chance = random.Random(seed)
    stack = Stack.make(base, lowers=2)
    bodies: dict[str, bytes] = {}
    for number in range(_FILES):
        body = chance.randbytes(chance.choice((10, 60_000, 300_000, 390_000)))
        if chance.random() < 0.3:
            body = bytes(200_000) + body[:200_000]
        path = chance.choice(stack.lowers) / f"file{number}"
        with path.open("wb") as file:
            if not any(body[:200_000]):
                file.truncate(len(body))
                file.seek(min(200_000, len(body)))
                file.write(body[200_000:])
            else:
                file.write(body)
        bodies[path.name] = body
    exerciser = None
    for part in range(_REMOUNTS):
        with ExitStack() as mounted:
            folder = mounted.enter_context(served(stack))
            if exerciser is None:
                exerciser = Exerciser(folder, bodies, chance)
            exerciser.check()
            mounted.callback(exerciser.close)
            exerciser.run(count // _REMOUNTS + (count % _REMOUNTS if not part else 0))
    assert exerciser is not None
    with served(stack):
        exerciser.check()
    return f"{count} operations on {_FILES} files, {_REMOUNTS} remounts"
