"""The members of a tar as files: found once, then read in place."""

import os
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, cast

from overlayfs import tarheaders
from overlayfs.archive.files import MOST_PARTS, FileRange, Files
from overlayfs.errors import InvalidImage

# An image archive has some members for each layer; a root file system has many more.
_MOST_MEMBERS = 100_000
# All headers in front of one member: names and links of 4096 bytes fit several times.
_MOST_HEADER = 64 << 10
_MOST_LINKS = 40


@dataclass(frozen=True, slots=True)
class _File:
    start: int
    size: int
    sparse: bool


@dataclass(frozen=True, slots=True)
class _Link:
    target: str
    hard: bool


@dataclass(frozen=True, slots=True)
class _Other:
    kind: str


_Member = _File | _Link | _Other


class TarFiles(Files):
    """The members of the tar in the regular file *fd*, which this owns from now on.

    Only headers are read here.  Of two members with one name the later counts; symbolic and
    hard links are followed, inside the archive.  Raises InvalidImage for what is no tar, for
    a damaged one and for one that claims more bytes than it has.
    """

    def __init__(self, fd: int, label: str) -> None:
        super().__init__(label)
        self._fd = fd
        self._members: dict[str, _Member] = {}
        for info in _members(fd, label):
            path = "/".join(part for part in info.name.split("/") if part not in ("", "."))
            if path:
                self._members[path] = _member(info)

    def size(self, path: str) -> int | None:
        found = self._find(path)
        return None if found is None else found.size

    def open(self, path: str) -> FileRange:
        found = self._find(path)
        if found is None:
            raise self.missing(path)
        return FileRange(os.dup(self._fd), found.start, found.size, self.named(path))

    def top(self) -> Iterable[str]:
        return dict.fromkeys(path.partition("/")[0] for path in self._members)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _find(self, path: str) -> _File | None:
        """The file that *path* leads to, by way of at most 40 links, as in Linux."""
        ahead = list(reversed(self.parts(path)))
        walked: list[str] = []
        links = 0
        while ahead:
            part = ahead.pop()
            if part == "..":
                if not walked:
                    raise self.leaves(path)
                walked.pop()
                continue
            walked.append(part)
            member = self._members.get("/".join(walked))
            if not isinstance(member, _Link):
                continue
            links += 1
            if links > _MOST_LINKS:
                raise InvalidImage(f"{self.named(path)}: too many links, one to the other")
            if member.target.startswith("/") and not member.hard:
                raise self.leaves(path)
            # The target of a hard link is a path in the archive, that of a symbolic one is
            # relative to its directory.
            walked = [] if member.hard else walked[:-1]
            ahead += [p for p in reversed(member.target.split("/")) if p not in ("", ".")]
            if len(ahead) + len(walked) > MOST_PARTS:
                raise self.too_long(path)
        return self._file(path, self._members.get("/".join(walked)))

    def _file(self, path: str, member: _Member | None) -> _File | None:
        if isinstance(member, _File):
            if member.sparse:
                raise InvalidImage(f"{self.named(path)}: stored as a sparse file")
            return member
        if member is None:
            return None
        what = member.kind if isinstance(member, _Other) else "link"
        raise InvalidImage(f"{self.named(path)}: a {what}, not a regular file")


def _member(info: tarfile.TarInfo) -> _Member:
    if info.isreg():
        return _File(info.offset_data, info.size, info.issparse())
    if info.issym() or info.islnk():
        return _Link(info.linkname, info.islnk())
    return _Other("directory" if info.isdir() else "special file")


class _Headers:
    """The reads of ``tarfile``, with a limit on how much one member may make it read.

    Without it an extended header that claims gigabytes is read into memory, and one of
    negative size sends older releases of ``tarfile`` round in circles (CVE-2025-8194).
    """

    def __init__(self, fd: int, label: str) -> None:
        self._fd = fd
        self._label = label
        self._at = 0
        self.budget = _MOST_HEADER

    def read(self, n: int) -> bytes:
        self.budget -= n
        if n < 0 or self.budget < 0:
            raise InvalidImage(f"{self._label}: a tar header at {self._at} is absurdly long")
        data = os.pread(self._fd, n, self._at)
        self._at += len(data)
        return data

    def seek(self, at: int) -> None:
        if not 0 <= at < 1 << 63:
            raise InvalidImage(f"{self._label}: a tar header gives an absurd size")
        self._at = at

    def tell(self) -> int:
        return self._at


def _members(fd: int, label: str) -> Iterator[tarfile.TarInfo]:
    headers = _Headers(fd, label)
    end = os.fstat(fd).st_size
    reached = -1
    try:
        # A block of a tar is 512 bytes; tarfile asks for nothing but these methods.
        with tarfile.open(
            fileobj=cast("BinaryIO", headers), mode="r:", tarinfo=tarheaders.Entry
        ) as tar:
            for count in range(_MOST_MEMBERS + 1):
                headers.budget = _MOST_HEADER
                info = tar.next()
                if info is None:
                    break
                if count == _MOST_MEMBERS:
                    raise InvalidImage(f"{label}: too many members for an image")
                if info.size < 0 or info.offset <= reached:
                    raise InvalidImage(f"{label}: a tar header gives an absurd size")
                if info.isreg() and not info.issparse() and info.offset_data + info.size > end:
                    raise InvalidImage(f"{label}: the tar ends too early")
                reached = info.offset
                # Or every header stays in memory; the stubs do not know the list.
                tar.members.clear()  # type: ignore[attr-defined]
                yield info
            _ends_well(fd, tar.offset, label)
    except (tarfile.TarError, ValueError, OverflowError, IndexError, RecursionError) as exc:
        raise InvalidImage(f"{label}: not a tar, or a damaged one: {exc}") from exc


def _ends_well(fd: int, offset: int, label: str) -> None:
    """tarfile takes a damaged header for the end, which is NUL blocks or the file's own."""
    if os.pread(fd, 512, offset).strip(b"\0"):
        raise InvalidImage(f"{label}: damaged tar header at {offset}")
