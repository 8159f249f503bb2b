"""What the commands that look into images share: how files are shown, and what went wrong."""

import errno
import os
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from overlayfs.errors import OverlayError
from overlayfs.printable import printable
from overlayfs.union.attrs import Kind

if TYPE_CHECKING:
    from overlayfs.image.platform import Platform
    from overlayfs.view.entry import Entry
    from overlayfs.view.image import ImageView

HELP = (
    "IMAGE is an image of the store, by name or id, or a file or directory that `docker save`, "
    "podman, skopeo or umoci have written; such a one is read where it is. The path begins with "
    "a slash behind the colon, or is a word of its own: IMAGE PATH."
)

_REASONS = {
    errno.ENOENT: "no such file or directory",
    errno.ENOTDIR: "not a directory",
    errno.EISDIR: "is a directory",
    errno.ELOOP: "too many symbolic links, one to the other",
    errno.EINVAL: "not a regular file",
    errno.ENAMETOOLONG: "the name is too long",
}
# /etc/passwd and the like; an image may have anything in their place.
_MOST_NAMES = 1 << 20


def platform_of(text: str | None) -> "Platform | None":
    """What ``--platform`` says."""
    if text is None:
        return None
    from overlayfs.image.platform import Platform

    return Platform.parse(text)


@contextmanager
def asking(view: "ImageView", image: str, path: bytes) -> Iterator[None]:
    """Say of what goes wrong inside which path of which image it is."""
    try:
        yield
    except OSError as exc:
        reason = _REASONS.get(exc.errno or 0)
        if reason is None or isinstance(exc, BrokenPipeError):
            raise
        where = f"{image}:/{printable(path.lstrip(b'/'))}"
        if exc.errno == errno.ENOENT and (target := _broken(view, path)) is not None:
            raise OverlayError(
                f"{where}: a symbolic link to {printable(target)}, which is not there"
            ) from exc
        raise OverlayError(f"{where}: {reason}") from exc


def _broken(view: "ImageView", path: bytes) -> bytes | None:
    """The target of the symbolic link that *path* is, if it is one."""
    try:
        entry = view.stat(path, follow=False)
    except OSError:
        return None  # it is that path itself that is not there
    return entry.target if entry.kind is Kind.SYMLINK else None


# -- output ----------------------------------------------------------------------------


def shown(name: bytes) -> str:
    """A name of the image: as it is for a program, fit for a terminal when stdout is one."""
    return printable(name) if sys.stdout.isatty() else os.fsdecode(name)


def say(text: str, end: str = "\n") -> None:
    """Print *text*, bytes that are no text included."""
    click.echo(os.fsencode(text + end), nl=False)


class Owners:
    """The names that the image has for users and groups."""

    def __init__(self, view: "ImageView", *, numeric: bool = False) -> None:
        self._users = {} if numeric else _names(view, b"etc/passwd")
        self._groups = {} if numeric else _names(view, b"etc/group")

    def user(self, uid: int) -> str:
        """The name of the user *uid*, or the number."""
        return self._users.get(uid, str(uid))

    def group(self, gid: int) -> str:
        """The name of the group *gid*, or the number."""
        return self._groups.get(gid, str(gid))

    def uids(self, text: str) -> list[int]:
        """The users called *text*, which may be a number."""
        return _ids(self._users, text, "user")

    def gids(self, text: str) -> list[int]:
        """The groups called *text*, which may be a number."""
        return _ids(self._groups, text, "group")


def _ids(names: dict[int, str], text: str, what: str) -> list[int]:
    found = [number for number, name in names.items() if name == text]
    if not found and text.isascii() and text.isdigit():
        found = [int(text)]
    if not found:
        raise OverlayError(f"{printable(text)}: no such {what} in the image")
    return found


def _names(view: "ImageView", path: bytes) -> dict[int, str]:
    """Names by number of a file like passwd(5); none where there is no such file."""
    try:
        with view.open(path) as file:
            data = file.read(_MOST_NAMES)
    except OSError:
        return {}
    found: dict[int, str] = {}
    for line in data.split(b"\n"):
        fields = line.split(b":")
        if len(fields) > 2 and fields[2].isdigit() and fields[0]:
            found.setdefault(int(fields[2][:10]), printable(fields[0]))
    return found


def local_time(mtime_ns: int) -> str:
    """The time to the minute, where this machine is."""
    try:
        return time.strftime("%Y-%m-%d %H:%M", time.localtime(mtime_ns // 1_000_000_000))
    except (OverflowError, ValueError, OSError):
        return f"@{mtime_ns // 1_000_000_000}"


def utc_time(mtime_ns: int) -> str:
    """The time as RFC 3339 has it, to the nanosecond; ``@SECONDS`` beyond the year 9999."""
    seconds, fraction = divmod(mtime_ns, 1_000_000_000)
    try:
        when = datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError):
        return f"@{seconds}.{fraction:09}"
    return f"{when:%Y-%m-%dT%H:%M:%S}.{fraction:09}Z"


def size_of(entry: "Entry", *, human: bool = False) -> str:
    """The size, or major and minor number of a device."""
    if entry.kind in (Kind.CHAR, Kind.BLOCK):
        return f"{os.major(entry.rdev)}, {os.minor(entry.rdev)}"
    return human_size(entry.size) if human else str(entry.size)


def human_size(count: int) -> str:
    """*count* bytes as ls -h has it: rounded up, in units of 1024."""
    if count < 1024:
        return str(count)
    for unit in "KMGT":
        tenths = -(-count * 10 // 1024)
        if tenths < 100:
            return f"{tenths / 10:.1f}{unit}"
        count = -(-count // 1024)
        if count < 1024:
            return f"{count}{unit}"
    return f"{count}T"


def long_lines(
    rows: "list[tuple[bytes, Entry]]", owners: Owners, *, human: bool = False
) -> Iterator[str]:
    """The lines of ``ls -l``."""
    cells = [
        (
            stat.filemode(entry.mode),
            str(entry.nlink),
            owners.user(entry.uid),
            owners.group(entry.gid),
            size_of(entry, human=human),
            local_time(entry.mtime_ns),
        )
        for _, entry in rows
    ]
    widths = [max((len(line[column]) for line in cells), default=0) for column in range(6)]
    for line, (name, entry) in zip(cells, rows, strict=True):
        padded = [
            cell.ljust(width) if column in (0, 2, 3) else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        arrow = f" -> {shown(entry.target)}" if entry.kind is Kind.SYMLINK else ""
        yield f"{' '.join(padded)} {shown(name)}{arrow}"


def as_dict(path: bytes, entry: "Entry", owners: Owners) -> dict[str, Any]:
    """A file for ``--json``."""
    found: dict[str, Any] = {
        "path": os.fsdecode(b"/" + path),
        "kind": str(entry.kind),
        "mode": f"{stat.S_IMODE(entry.mode):04o}",
        "uid": entry.uid,
        "gid": entry.gid,
        "user": owners.user(entry.uid),
        "group": owners.group(entry.gid),
        "size": entry.size,
        "mtime": utc_time(entry.mtime_ns),
        "links": entry.nlink,
        "layer": entry.layer,
    }
    if entry.kind is Kind.SYMLINK:
        found["target"] = os.fsdecode(entry.target)
    if entry.kind in (Kind.CHAR, Kind.BLOCK):
        found["device"] = [os.major(entry.rdev), os.minor(entry.rdev)]
    return found
