"""Random layers, and random operations on a tree, the same for the same seed."""

import errno
import os
import random
import shutil
import stat
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from overlayfs.linux.files import RENAME_EXCHANGE, RENAME_NOREPLACE, renameat2
from tests.support.tree import Tree, snapshot
from tests.support.union import opaque, whiteout, write

SECOND = 10**9
# Operations set times before this one; what is later was set by the clock.
CLOCK = 1_700_000_000 * SECOND
AT_FDCWD = -100
NAMES = "abcd"


@dataclass(frozen=True, slots=True)
class Flavour:
    """What a tree may have, and which actions are not for it.

    *plain* leaves out suid bits, which the changes of a plain user would clear, and layers
    with symbolic links: they count as root's, and others may not link to them.  *options*
    are those of the mount, in the kernel's words.
    """

    prefix: str = "trusted"
    owners: bool = True
    plain: bool = False
    without: frozenset[str] = frozenset()
    links: bool = False
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing to do; each action takes of it what it needs."""

    action: str
    path: str
    other: str
    mode: int
    size: int
    number: int


# -- layers --------------------------------------------------------------------------------


def make_layer(chance: random.Random, layer: Path, below: list[Path], flavour: Flavour) -> None:
    """Fill *layer* with a few files of all kinds, and whiteouts of what is *below*."""
    _fill(chance, layer, layer, below, flavour, depth=0, hidden=False)
    if flavour.links:
        _link(chance, layer)


def _link(chance: random.Random, layer: Path) -> None:
    """More names for a few files, in directories that have room."""
    found = sorted(path for path in layer.rglob("*") if not path.is_symlink())
    folders = [layer, *(path for path in found if path.is_dir())]
    regular = [path for path in found if path.is_file()]
    for _ in range(6 if regular else 0):
        name = chance.choice(folders) / chance.choice(NAMES + "e")
        if not os.path.lexists(name):
            name.hardlink_to(chance.choice(regular))


def _fill(
    chance: random.Random,
    layer: Path,
    folder: Path,
    below: list[Path],
    flavour: Flavour,
    *,
    depth: int,
    hidden: bool,
) -> None:
    modes = [0o644, 0o600, 0o755] if flavour.plain else [0o644, 0o600, 0o755, 0o4755]
    for name in NAMES:
        path = folder / name
        draw = chance.random()
        if draw < 0.3:
            data = chance.randbytes(chance.choice([0, 1, 5, 5000, 100_000]))
            write(path, data, mode=chance.choice(modes))
        elif draw < 0.55 and depth < 3:
            path.mkdir()
            is_opaque = chance.random() < 0.15
            _fill(
                chance,
                layer,
                path,
                below,
                flavour,
                depth=depth + 1,
                hidden=hidden or is_opaque,
            )
            path.chmod(chance.choice([0o755, 0o700] if flavour.plain else [0o755, 0o2755]))
            if is_opaque:
                opaque(path, prefix=flavour.prefix)
        elif draw < 0.65 and not flavour.plain:
            path.symlink_to(chance.choice(["a", "../b", "/nowhere"]))
        elif draw < 0.72:
            if not hidden and _shows(path.relative_to(layer), below):
                whiteout(path)
        elif draw < 0.76:
            os.mkfifo(path)
        if os.path.lexists(path):
            _decorate(chance, path, flavour)


def _shows(path: Path, below: list[Path]) -> bool:
    """Whether the layer next below has *path*: only there a whiteout is legal everywhere."""
    return any(
        os.path.lexists(layer / path)
        and all((layer / parent).is_dir() for parent in path.parents)
        and not any((layer / parent).is_symlink() for parent in path.parents)
        for layer in below[:1]
    )


def _decorate(chance: random.Random, path: Path, flavour: Flavour) -> None:
    mode = path.lstat().st_mode
    if stat.S_ISCHR(mode):
        return
    if (stat.S_ISREG(mode) or stat.S_ISDIR(mode)) and chance.random() < 0.2:
        os.setxattr(path, "user.k", b"v")
    if flavour.owners:
        os.chown(path, chance.choice([0, 0, 1000]), chance.choice([0, 5]), follow_symlinks=False)
    times = [chance.randrange(SECOND) * SECOND + part for part in (5, 7)]
    os.utime(path, ns=(times[0], times[1]), follow_symlinks=False)


# -- operations ----------------------------------------------------------------------------


def operations(chance: random.Random, count: int, flavour: Flavour) -> list[Operation]:
    """*count* random operations."""

    def path() -> str:
        return "/".join(chance.choice(NAMES + "e") for _ in range(chance.choice([1, 1, 2, 2, 3])))

    actions = [name for name in ACTIONS if name not in flavour.without]
    modes = [0o644, 0o755, 0o600, 0o1777] + ([] if flavour.plain else [0o4755])
    return [
        Operation(
            chance.choice(actions),
            path(),
            path(),
            chance.choice(modes),
            chance.choice([0, 3, 70_000]),
            chance.randrange(1 << 30),
        )
        for _ in range(count)
    ]


def apply(root: Path, operation: Operation) -> object:
    """Do *operation* below *root*; what it tells, or the name of its errno."""
    try:
        return ACTIONS[operation.action](root / operation.path, root / operation.other, operation)
    except OSError as exc:
        return errno.errorcode[exc.errno or 0]


def _data(operation: Operation) -> bytes:
    return random.Random(operation.number).randbytes(operation.size)


def _writer(flags: int) -> "Action":
    def act(path: Path, _other: Path, operation: Operation) -> None:
        # Not to wait for the other end of a fifo.
        fd = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, operation.mode)
        try:
            os.write(fd, _data(operation))
        finally:
            os.close(fd)

    return act


def _rename(flags: int) -> "Action":
    def act(path: Path, other: Path, _operation: Operation) -> None:
        renameat2(AT_FDCWD, os.fsencode(path), AT_FDCWD, os.fsencode(other), flags)

    return act


def _is_file(path: Path) -> bool:
    return stat.S_ISREG(path.lstat().st_mode)


def _chmod(path: Path, _other: Path, operation: Operation) -> None:
    if not stat.S_ISLNK(path.lstat().st_mode):
        path.chmod(operation.mode)


def _chown(path: Path, _other: Path, operation: Operation) -> None:
    os.chown(path, operation.size % 7, operation.number % 9, follow_symlinks=False)


def _utime(path: Path, _other: Path, operation: Operation) -> None:
    when = operation.number * SECOND
    os.utime(path, ns=(when + 1, when + 3), follow_symlinks=False)


def _set_xattr(path: Path, _other: Path, operation: Operation) -> None:
    name = "user.z" if operation.size else "user.overlay.opaque"
    os.setxattr(path, name, _data(operation)[:50], follow_symlinks=False)


def _set_trusted(path: Path, _other: Path, operation: Operation) -> None:
    os.setxattr(path, "trusted.overlay.foo", _data(operation)[:50], follow_symlinks=False)


def _remove_xattr(path: Path, _other: Path, _operation: Operation) -> None:
    os.removexattr(path, "user.k", follow_symlinks=False)


def _list(path: Path, _other: Path, _operation: Operation) -> list[str]:
    return sorted(each.name for each in path.iterdir())


def _read(path: Path, _other: Path, _operation: Operation) -> str:
    return path.read_bytes().hex() if _is_file(path) else "no file"


def _truncate(path: Path, _other: Path, operation: Operation) -> None:
    if _is_file(path):
        os.truncate(path, operation.size)


def _remove_tree(path: Path, _other: Path, _operation: Operation) -> None:
    if stat.S_ISDIR(path.lstat().st_mode):
        shutil.rmtree(path)


Action = Callable[[Path, Path, Operation], object]
ACTIONS: dict[str, Action] = {
    "write": _writer(os.O_WRONLY),
    "append": _writer(os.O_WRONLY | os.O_APPEND),
    "overwrite": _writer(os.O_WRONLY | os.O_TRUNC),
    "create": _writer(os.O_RDWR | os.O_CREAT | os.O_EXCL),
    "mkdir": lambda path, _, operation: path.mkdir(operation.mode),
    "mkfifo": lambda path, _, operation: os.mkfifo(path, operation.mode),
    "symlink": lambda path, _, operation: path.symlink_to(operation.other),
    "link": lambda path, other, _: os.link(path, other, follow_symlinks=False),
    "unlink": lambda path, *_: path.unlink(),
    "rmdir": lambda path, *_: path.rmdir(),
    "remove tree": _remove_tree,
    "rename": _rename(0),
    "rename again": _rename(0),
    "rename without replacing": _rename(RENAME_NOREPLACE),
    "exchange": _rename(RENAME_EXCHANGE),
    "chmod": _chmod,
    "chown": _chown,
    "utime": _utime,
    "truncate": _truncate,
    "set attribute": _set_xattr,
    "set trusted attribute": _set_trusted,
    "remove attribute": _remove_xattr,
    "list": _list,
    "read": _read,
}


def timeless(root: Path, *, owner: int = 0) -> Tree:
    """A snapshot without the times that the clock set, and *owner* called root."""
    return {
        path: replace(
            entry,
            mtime_ns=min(entry.mtime_ns, CLOCK),
            uid=0 if entry.uid == owner else entry.uid,
            gid=0 if entry.gid == owner else entry.gid,
        )
        for path, entry in snapshot(root, ignore=()).items()
    }
