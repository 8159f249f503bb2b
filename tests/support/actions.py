"""What programs do to a tree, drawn at random and done to several trees alike.

An action is a function of a ``Side`` and of parameters whose names say what is drawn for
them: see ``Draw``.  It returns what a program can see of it; an OSError is an answer too.
"""

# Names are bytes, which pathlib does not know.
# ruff: noqa: PTH101, PTH102, PTH106, PTH108, PTH115, PTH116, PTH118, PTH120, PTH208, PTH211

import ctypes
import errno
import inspect
import mmap
import os
import random
import stat
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import NamedTuple

from overlayfs.linux.files import (
    RENAME_EXCHANGE,
    RENAME_NOREPLACE,
    RENAME_WHITEOUT,
    renameat2,
)
from tests.support.pieces import (
    ACCESS,
    CAPABILITY,
    CLOCK,
    DEFAULT,
    NUMBERS,
    ODD_NAMES,
    SECOND,
    SHORT_NAMES,
    TARGETS,
    draw_acl,
    pattern,
)

_libc = ctypes.CDLL(None, use_errno=True)
AT_FDCWD = -100
_UTIME_NOW, _UTIME_OMIT = (1 << 30) - 1, (1 << 30) - 2  # linux/stat.h

# Who acts: root, a user in another group, and one who owns nothing.
CALLERS: tuple[tuple[int, int, tuple[int, ...]], ...] = (
    (0, 0, (0,)),
    (1000, 1000, (5,)),
    (65534, 65534, ()),
)


@dataclass(frozen=True, slots=True)
class Operation:
    """One action with its arguments, and the position in ``CALLERS`` of who does it."""

    action: str
    arguments: tuple[object, ...]
    who: int = 0

    def argument(self, parameter: str) -> object:
        """The argument for *parameter*; None if the action has no such one."""
        found = zip(PARAMETERS[self.action], self.arguments, strict=True)
        return dict(found).get(parameter)


def join(folder: bytes, name: bytes) -> bytes:
    """The path of *name* in *folder*, which is ``b""`` for the root."""
    return folder + b"/" + name if folder else name


def places(operation: Operation) -> list[bytes | int]:
    """The paths and slots that *operation* is about."""
    parameters = PARAMETERS[operation.action]
    found: list[bytes | int] = []
    for parameter, argument in zip(parameters, operation.arguments, strict=True):
        if parameter in ("path", "other", "slot", "partner"):
            assert isinstance(argument, bytes | int)
            found.append(argument)
    return found


class Glance(NamedTuple):
    """What stat shows of a file, as far as it must be alike everywhere."""

    mode: str
    uid: int
    gid: int
    size: int | None
    nlink: int | None
    rdev: int | None
    mtime_ns: int


def without(answer: tuple[object, ...], fields: frozenset[str]) -> tuple[object, ...]:
    """*answer* with nothing in *fields* of what was seen."""
    blank = dict.fromkeys(fields)
    return tuple(
        each._replace(**blank) if isinstance(each, Glance) else each  # type: ignore[arg-type]
        for each in answer
    )


@dataclass(frozen=True, slots=True)
class Known:
    """What there is, so that operations meet something.

    *gone* was there once; *held* are paths at which files were opened that are still open;
    *fresh* was not there at first.
    """

    paths: Sequence[bytes] = ()
    folders: Sequence[bytes] = ()
    gone: Sequence[bytes] = ()
    held: Sequence[bytes] = ()
    fresh: Sequence[bytes] = ()


class Draw:
    """Arguments, by the names of parameters."""

    def __init__(self, chance: random.Random, known: Known) -> None:
        self._chance = chance
        self._known = known

    def operation(self, action: str | None = None) -> Operation:
        """An operation, of the kind *action* if that is given."""
        chance = self._chance
        name = action or chance.choice(_WEIGHTED)
        arguments = tuple(getattr(self, parameter)() for parameter in PARAMETERS[name])
        who = chance.choice((0, 0, 0, 0, 0, 1, 1, 2))
        return Operation(name, arguments, who)

    def path(self) -> bytes:
        chance, known = self._chance, self._known
        draw = chance.random()
        if known.held and draw < 0.15:
            return chance.choice(known.held)
        if known.fresh and draw < 0.3:
            return chance.choice(known.fresh)
        if known.paths and draw < 0.8:
            return chance.choice(known.paths)
        return self.other()

    def other(self) -> bytes:
        """A path that is free more often than not."""
        chance, known = self._chance, self._known
        if known.gone and chance.random() < 0.3:
            return chance.choice(known.gone)
        folder = chance.choice((b"", *known.folders)) if chance.random() < 0.8 else b""
        names = (*SHORT_NAMES, b"e", b"f")
        if chance.random() < 0.6:
            taken = set(known.paths)
            names = tuple(name for name in names if join(folder, name) not in taken) or names
        name = chance.choice(names)
        if chance.random() < 0.08:
            name = chance.choice((*ODD_NAMES, b"n" * 256))
        return join(folder, name)

    def slot(self) -> int:
        return self._chance.randrange(4)

    def partner(self) -> int:
        return self._chance.randrange(4)

    def mode(self) -> int:
        return self._chance.choice(
            (0o644, 0o600, 0o666, 0o755, 0o777, 0o700, 0, 0o1777, 0o4755, 0o2755, 0o6777)
        )

    def umask(self) -> int:
        return self._chance.choice((0, 0, 0o22, 0o77))

    def flags(self) -> int:
        chance = self._chance
        flags: int = chance.choice((os.O_RDONLY, os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_RDWR))
        for flag in (os.O_CREAT, os.O_EXCL, os.O_TRUNC, os.O_APPEND, os.O_NOFOLLOW):
            if chance.random() < 0.2:
                flags |= flag
        return flags

    def size(self) -> int:
        return self._chance.choice((0, 1, 3, 100, 4096, 5000, 70_000))

    def offset(self) -> int:
        return self._chance.choice((0, 0, 1, 4095, 4096, 5000, 99_999, 200_000))

    def seed(self) -> int:
        return self._chance.randrange(1 << 30)

    def uid(self) -> int:
        return self._chance.choice((-1, -1, 0, 1000, 65534, 70_000))

    def gid(self) -> int:
        return self._chance.choice((-1, -1, 0, 5, 1000, 2**31))

    def atime(self) -> int:
        return self._time()

    def mtime(self) -> int:
        return self._time()

    def _time(self) -> int:
        chance = self._chance
        special = (_UTIME_NOW, _UTIME_OMIT)
        if chance.random() < 0.4:
            return -1 - chance.choice(special)
        return chance.randrange(-2 * SECOND, CLOCK // SECOND) * SECOND + chance.randrange(SECOND)

    def kind(self) -> str:
        return self._chance.choice(("file", "fifo", "socket", "char", "block", "whiteout"))

    def target(self) -> bytes:
        return self._chance.choice((*TARGETS, b"t" * 4095, b"t" * 4096))

    def rename_flags(self) -> int:
        both = RENAME_NOREPLACE | RENAME_EXCHANGE
        return self._chance.choice(
            (0, 0, 0, RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_EXCHANGE, both, RENAME_WHITEOUT)
        )

    def xattr(self) -> str:
        return self._chance.choice(_XATTRS)

    def value(self) -> bytes:
        return self._chance.choice(
            (b"", b"v", b"\0\xff", b"y", b"x" * 100, b"x" * 5000, CAPABILITY)
        )

    def xattr_flags(self) -> int:
        return self._chance.choice((0, 0, os.XATTR_CREATE, os.XATTR_REPLACE))

    def list_name(self) -> str:
        return self._chance.choice((ACCESS, DEFAULT))

    def acl(self) -> bytes:
        return draw_acl(self._chance) if self._chance.random() < 0.9 else b"\2\0\0\0nonsense"

    def access(self) -> int:
        return self._chance.randrange(8)

    def buffer(self) -> int:
        return self._chance.choice((600, 1 << 15))


_XATTRS = (
    "user.k",
    "user.k",
    "user.z",
    "user." + "n" * 250,
    "user.\udcff",
    "user.overlay.opaque",
    "user.overlay.x",
    "user.containers.override_stat",
    "trusted.t",
    "trusted.overlay.opaque",
    "trusted.overlay.redirect",
    "trusted.overlay.metacopy",
    "trusted.overlay.origin",
    "trusted.overlay.whiteout",
    "trusted.overlay.pyoverlay.origin",
    "trusted.overlay.overlay.opaque",
    "trusted.overlay.overlay.overlay.opaque",
    "security.capability",
    "security.other",
    "nonsense.name",
    "system.nonsense",
)


class Side:
    """One of the trees: its root, and the files that are open in it."""

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
        self.handles: dict[int, int] = {}
        # Handles opened for reading only; they may be on a lower file in the kernel's overlayfs.
        self.readers: set[int] = set()
        self.paths: dict[int, bytes] = {}

    def close(self) -> None:
        """Let go of everything, so that the tree can be unmounted."""
        for fd in (self.root, *self.handles.values()):
            os.close(fd)
        self.handles.clear()
        self.paths.clear()

    def apply(self, operation: Operation) -> tuple[object, ...]:
        """Do *operation*; what it shows, or the name of its errno, and what became of its path."""
        function = ACTIONS[operation.action]
        os.fchdir(self.root)
        try:
            before = self._number(operation)
            with acting_as(operation.who):
                try:
                    answer = function(self, *operation.arguments)
                except OSError as exc:
                    answer = errno.errorcode[exc.errno or 0]
            kept = operation.action in KEEPING and before == self._number(operation)
            return answer, kept, *self._after(operation)
        finally:
            os.chdir("/")

    def handle(self, slot: int) -> int:
        """The descriptor in *slot*; OSError EBADF if there is none."""
        fd = self.handles.get(slot)
        if fd is None:
            raise OSError(errno.EBADF, "nothing is open there")
        return fd

    @staticmethod
    def _number(operation: Operation) -> int | None:
        """The inode number of the path that is to be copied up, and to stay the same file."""
        if operation.action not in KEEPING:
            return None
        path = operation.argument("path")
        assert isinstance(path, bytes)
        with suppress(OSError):
            return os.lstat(path).st_ino
        return None

    def _after(self, operation: Operation) -> Iterator[object]:
        for place in places(operation):
            if isinstance(place, bytes):
                yield glance(place)
            else:
                fd = self.handles.get(place)
                yield None if fd is None else glance(fd)

    def set_mode(self, place: bytes | int, mode: int) -> None:
        """Change the mode of a path, or of what is open in a slot."""
        if isinstance(place, int):
            os.fchmod(self.handles[place], mode)
        else:
            os.chmod(place, mode, dir_fd=self.root)

    def known(self) -> tuple[list[bytes], list[bytes]]:
        """Every path of the tree, in order, and those of directories."""
        os.fchdir(self.root)
        try:
            found = sorted(_walk(b""))
        finally:
            os.chdir("/")
        return [path for path, _ in found], [path for path, is_folder in found if is_folder]


def _walk(folder: bytes) -> Iterator[tuple[bytes, bool]]:
    for entry in list(os.scandir(folder or b".")):
        path = join(folder, entry.name)
        is_folder = entry.is_dir(follow_symlinks=False)
        yield path, is_folder
        if is_folder:
            yield from _walk(path)


@contextmanager
def acting_as(who: int) -> Iterator[None]:
    """Root acts as one of ``CALLERS``."""
    if not who:
        yield
        return
    uid, gid, groups = CALLERS[who]
    before = os.getgroups()
    os.setgroups(groups)
    os.setegid(gid)
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(before)


def glance(place: bytes | int) -> Glance | str:
    """What stat shows of *place*, or the name of its errno."""
    try:
        found = os.fstat(place) if isinstance(place, int) else os.lstat(place)
    except OSError as exc:
        return errno.errorcode[exc.errno or 0]
    kind = stat.S_IFMT(found.st_mode)
    return Glance(
        oct(found.st_mode),
        found.st_uid,
        found.st_gid,
        found.st_size if kind in (stat.S_IFREG, stat.S_IFLNK) else None,
        None if kind == stat.S_IFDIR else found.st_nlink,
        found.st_rdev if kind in (stat.S_IFCHR, stat.S_IFBLK) else None,
        min(found.st_mtime_ns, CLOCK),
    )


@contextmanager
def _masked(path: bytes, umask: int) -> Iterator[None]:
    """*umask* is in force, but not below a default access list.

    There FUSE has the kernel take away the umask before the list gives anything
    (FUSE_DONT_MASK, which pyfuse3 cannot set); on a disk the list replaces it.
    """
    folder = os.path.dirname(path) or b"."
    with suppress(OSError):
        os.getxattr(folder, DEFAULT)
        umask = 0
    before = os.umask(umask)
    try:
        yield
    finally:
        os.umask(before)


def _opened(path: bytes, flags: int) -> int:
    """*path* open, not waiting for the other end of a fifo."""
    return os.open(path, flags | os.O_NONBLOCK)


# -- files that stay open ------------------------------------------------------------------


def open_file(side: Side, path: bytes, slot: int, flags: int, mode: int, umask: int) -> object:
    with _masked(path, umask):
        fd = os.open(path, flags | os.O_NONBLOCK, mode)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        return "opened"
    before = side.handles.pop(slot, None)
    if before is not None:
        os.close(before)
    side.handles[slot] = fd
    side.paths[slot] = path
    (side.readers.discard if flags & 3 else side.readers.add)(slot)
    return "opened"


def close_file(side: Side, slot: int) -> object:
    os.close(side.handle(slot))
    del side.handles[slot], side.paths[slot]
    return "closed"


def read_open(side: Side, slot: int, offset: int, size: int) -> object:
    return os.pread(side.handle(slot), size, offset)


def read_afresh(side: Side, slot: int) -> object:
    """Read after the page cache has been dropped."""
    fd = side.handle(slot)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    return os.pread(fd, 1 << 20, 0)


def write_open(side: Side, slot: int, offset: int, size: int, seed: int) -> object:
    return os.pwrite(side.handle(slot), pattern(size, seed), offset)


def write_on(side: Side, slot: int, size: int, seed: int) -> object:
    """Where the handle stands, or at the end with O_APPEND."""
    return os.write(side.handle(slot), pattern(size, seed))


def truncate_open(side: Side, slot: int, offset: int) -> object:
    return os.ftruncate(side.handle(slot), offset)


def map_and_read(side: Side, slot: int) -> object:
    fd = side.handle(slot)
    if not os.fstat(fd).st_size:
        return "empty"
    with mmap.mmap(fd, 0, mmap.MAP_SHARED, mmap.PROT_READ) as mapping:
        return bytes(mapping)


def map_and_write(side: Side, slot: int, size: int, seed: int) -> object:
    fd = side.handle(slot)
    length = os.fstat(fd).st_size
    if not length:
        return "empty"
    if "security.capability" in os.listxattr(fd):
        return "not done"  # FUSE knows only writes, and those take it
    data = pattern(size, seed)[:length]
    with mmap.mmap(fd, 0, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE) as mapping:
        mapping[: len(data)] = data
        return bytes(mapping)


def copy_between(side: Side, slot: int, partner: int, size: int, offset: int) -> object:
    source, goal = side.handle(slot), side.handle(partner)
    if slot == partner or os.path.samestat(os.fstat(source), os.fstat(goal)):
        return "one file"
    return os.copy_file_range(source, goal, size, offset, 0)


def chmod_open(side: Side, slot: int, mode: int) -> object:
    return os.fchmod(side.handle(slot), mode)


def chown_open(side: Side, slot: int, uid: int, gid: int) -> object:
    return os.fchown(side.handle(slot), uid, gid)


def utime_open(side: Side, slot: int, atime: int, mtime: int) -> object:
    return _set_times(side.handle(slot), None, atime, mtime)


def set_xattr_open(side: Side, slot: int, xattr: str, value: bytes, xattr_flags: int) -> object:
    os.setxattr(side.handle(slot), xattr, _sound(xattr, value), xattr_flags)
    return os.getxattr(side.handle(slot), xattr)


def xattrs_open(side: Side, slot: int) -> object:
    fd = side.handle(slot)
    return [(name, os.getxattr(fd, name)) for name in sorted(os.listxattr(fd))]


def sync_open(side: Side, slot: int, access: int) -> object:
    return (os.fsync if access & 1 else os.fdatasync)(side.handle(slot))


def link_open(side: Side, slot: int, other: bytes) -> object:
    return os.link(b"/proc/self/fd/%d" % side.handle(slot), other, follow_symlinks=True)


# -- files by path -------------------------------------------------------------------------


def _write(path: bytes, flags: int, size: int, seed: int) -> object:
    fd = _opened(path, os.O_WRONLY | os.O_NOFOLLOW | flags)
    try:
        return os.write(fd, pattern(size, seed))
    finally:
        os.close(fd)


def write(_side: Side, path: bytes, size: int, seed: int) -> object:
    return _write(path, 0, size, seed)


def append(_side: Side, path: bytes, size: int, seed: int) -> object:
    return _write(path, os.O_APPEND, size, seed)


def overwrite(_side: Side, path: bytes, size: int, seed: int) -> object:
    return _write(path, os.O_TRUNC, size, seed)


def create(_side: Side, other: bytes, mode: int, umask: int, size: int, seed: int) -> object:
    with _masked(other, umask):
        fd = os.open(other, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode)
    try:
        return os.write(fd, pattern(size, seed))
    finally:
        os.close(fd)


def truncate(_side: Side, path: bytes, offset: int) -> object:
    if stat.S_ISREG(os.stat(path).st_mode):
        os.truncate(path, offset)
    return None


def read(_side: Side, path: bytes) -> object:
    if not stat.S_ISREG(os.stat(path).st_mode):
        return "no file"
    fd = _opened(path, os.O_RDONLY)
    try:
        return os.read(fd, 1 << 20)
    finally:
        os.close(fd)


def may(_side: Side, path: bytes, access: int) -> object:
    return os.access(path, access, effective_ids=True)


def follow(_side: Side, path: bytes) -> object:
    return os.readlink(path)


# -- names ---------------------------------------------------------------------------------


def make_directory(_side: Side, other: bytes, mode: int, umask: int) -> object:
    with _masked(other, umask):
        return os.mkdir(other, mode)


def make_node(_side: Side, other: bytes, kind: str, mode: int, umask: int) -> object:
    kinds = {
        "file": stat.S_IFREG,
        "fifo": stat.S_IFIFO,
        "socket": stat.S_IFSOCK,
        "char": stat.S_IFCHR,
        "block": stat.S_IFBLK,
        "whiteout": stat.S_IFCHR,
    }
    with _masked(other, umask):
        return os.mknod(other, kinds[kind] | mode & 0o1777, NUMBERS.get(kind, 0))


def make_symlink(_side: Side, other: bytes, target: bytes) -> object:
    os.symlink(target, other)
    return os.readlink(other)


def link(_side: Side, path: bytes, other: bytes) -> object:
    os.link(path, other, follow_symlinks=False)
    return os.lstat(path).st_ino == os.lstat(other).st_ino


def unlink(_side: Side, path: bytes) -> object:
    return os.unlink(path)


def remove_directory(_side: Side, path: bytes) -> object:
    return os.rmdir(path)


def remove_tree(side: Side, path: bytes) -> object:
    """As rm -rf does it: while the directory is being read."""
    if not stat.S_ISDIR(os.lstat(path).st_mode):
        return "no directory"
    refusals = []
    with os.scandir(path) as entries:
        for entry in entries:
            try:
                if entry.is_dir(follow_symlinks=False):
                    refusals.append(remove_tree(side, path + b"/" + entry.name))
                else:
                    os.unlink(path + b"/" + entry.name)
            except OSError as exc:
                refusals.append(errno.errorcode[exc.errno or 0])
    os.rmdir(path)
    return sorted(map(repr, refusals))


def make_anew(side: Side, path: bytes, mode: int) -> object:
    """A directory in the place of another, of which nothing may show."""
    removed = remove_tree(side, path)
    with _masked(path, 0):
        os.mkdir(path, mode)
    return removed, sorted(os.listdir(path))


def replace_directory(side: Side, path: bytes, other: bytes) -> object:
    """As one that was prepared under another name takes the place of an old one."""
    with _masked(other, 0):
        os.mkdir(other)
    os.symlink(b"inside", other + b"/new")
    removed = remove_tree(side, path)
    renameat2(AT_FDCWD, other, AT_FDCWD, path)
    return removed, sorted(os.listdir(path))


def rename(_side: Side, path: bytes, other: bytes, rename_flags: int) -> object:
    before = os.lstat(path).st_ino
    renameat2(AT_FDCWD, path, AT_FDCWD, other, rename_flags)
    return os.lstat(other).st_ino == before


def rename_known(side: Side, path: bytes, rename_flags: int, slot: int) -> object:
    """Onto a name beside it."""
    other = os.path.join(os.path.dirname(path), SHORT_NAMES[slot])
    return rename(side, path, other, rename_flags)


def listing(_side: Side, path: bytes, buffer: int) -> object:
    """All entries, with their types, and whether their numbers are those of lstat."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        found = list(_entries(fd, buffer))
        again = []
        if len(found) > 3:
            # Back to the third one, as telldir(3) and seekdir(3) do it.
            os.lseek(fd, found[2][2], os.SEEK_SET)
            again = list(_entries(fd, buffer))
    finally:
        os.close(fd)
    shown = []
    for name, kind, _, number in found:
        if name == b"..":
            continue  # its number is that of a layer's directory in the kernel's listing
        full = path + b"/" + name
        try:
            shown.append((name, kind, number == os.lstat(full).st_ino))
        except OSError as exc:
            shown.append((name, kind, errno.errorcode[exc.errno or 0] == "EACCES"))
    assert again == found[3:], "reading on from a position shows something else"
    return sorted(shown)


def _entries(fd: int, size: int) -> Iterator[tuple[bytes, int, int, int]]:
    """Name, type, position behind it and inode of each entry; see getdents(2)."""
    space = ctypes.create_string_buffer(size)
    while True:
        done = _libc.syscall(_GETDENTS64, fd, space, size)
        if done < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        if not done:
            return
        at = 0
        while at < done:
            number, position, length, kind = struct.unpack_from("<QqHB", space, at)
            name = space.raw[at + 19 : at + length].split(b"\0", 1)[0]
            yield name, kind, position, number
            at += length


_GETDENTS64 = {"x86_64": 217}.get(os.uname().machine, 61)


# -- attributes ----------------------------------------------------------------------------


def chmod(_side: Side, path: bytes, mode: int) -> object:
    return os.chmod(path, mode)


def chown(_side: Side, path: bytes, uid: int, gid: int) -> object:
    return os.chown(path, uid, gid, follow_symlinks=False)


def utime(_side: Side, path: bytes, atime: int, mtime: int) -> object:
    return _set_times(AT_FDCWD, path, atime, mtime)


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_int64), ("nanoseconds", ctypes.c_long))


def _set_times(at: int, path: bytes | None, atime: int, mtime: int) -> object:
    """Times below zero down to -(1 << 30) say NOW or OMIT."""
    pair = (_Timespec * 2)()
    for spec, when in zip(pair, (atime, mtime), strict=True):
        if -when - 1 in (_UTIME_NOW, _UTIME_OMIT):
            spec.nanoseconds = -when - 1
        else:
            spec.seconds, spec.nanoseconds = divmod(when, SECOND)
    no_follow = 0x100 if path is not None else 0
    if _libc.utimensat(at, ctypes.c_char_p(path), pair, no_follow):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    found = os.fstat(at) if path is None else os.lstat(path)
    # Without being set, the time of the last access moves here and not there.
    omitted = -atime - 1 == _UTIME_OMIT
    return None if omitted else min(found.st_atime_ns, CLOCK)


def set_xattr(_side: Side, path: bytes, xattr: str, value: bytes, xattr_flags: int) -> object:
    os.setxattr(path, xattr, _sound(xattr, value), xattr_flags, follow_symlinks=False)
    return os.getxattr(path, xattr, follow_symlinks=False)


def _sound(xattr: str, value: bytes) -> bytes:
    """*value*, but not an empty one for capabilities: everybody may set that, on any file.

    It cannot be read then, and no overlay copies such a file up.
    """
    return CAPABILITY if xattr == "security.capability" and not value else value


def get_xattr(_side: Side, path: bytes, xattr: str) -> object:
    return os.getxattr(path, xattr, follow_symlinks=False)


def remove_xattr(_side: Side, path: bytes, xattr: str) -> object:
    return os.removexattr(path, xattr, follow_symlinks=False)


def list_xattrs(_side: Side, path: bytes) -> object:
    return sorted(os.listxattr(path, follow_symlinks=False))


def set_acl(_side: Side, path: bytes, list_name: str, acl: bytes) -> object:
    os.setxattr(path, list_name, acl, follow_symlinks=False)
    try:
        return os.getxattr(path, list_name)
    except OSError as exc:
        return errno.errorcode[exc.errno or 0]


def remove_acl(_side: Side, path: bytes, list_name: str) -> object:
    if os.lstat(path).st_mode & stat.S_ISGID:
        return "not done"  # an overlay takes the bit of a foreign group then, and ext4 does not
    return os.removexattr(path, list_name, follow_symlinks=False)


def sync_directory(_side: Side, path: bytes) -> object:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return os.fsync(fd)
    finally:
        os.close(fd)


def file_system(_side: Side, path: bytes) -> object:
    return os.statvfs(path).f_namemax


Action = Callable[..., object]
_WEIGHTS: dict[Action, int] = {
    open_file: 6,
    close_file: 1,
    read_open: 2,
    read_afresh: 1,
    write_open: 3,
    write_on: 2,
    truncate_open: 2,
    map_and_read: 1,
    map_and_write: 2,
    copy_between: 1,
    chmod_open: 1,
    chown_open: 1,
    utime_open: 1,
    set_xattr_open: 1,
    xattrs_open: 1,
    sync_open: 1,
    link_open: 1,
    write: 2,
    append: 2,
    overwrite: 2,
    create: 4,
    truncate: 2,
    read: 2,
    may: 1,
    follow: 1,
    make_directory: 4,
    make_node: 3,
    make_symlink: 2,
    link: 4,
    unlink: 4,
    remove_directory: 3,
    remove_tree: 1,
    make_anew: 2,
    replace_directory: 2,
    rename: 8,
    rename_known: 3,
    listing: 3,
    chmod: 3,
    chown: 3,
    utime: 2,
    set_xattr: 4,
    get_xattr: 1,
    remove_xattr: 2,
    list_xattrs: 1,
    set_acl: 2,
    remove_acl: 1,
    sync_directory: 1,
    file_system: 1,
}
ACTIONS: dict[str, Action] = {action.__name__: action for action in _WEIGHTS}
PARAMETERS: dict[str, tuple[str, ...]] = {
    name: tuple(inspect.signature(action).parameters)[1:] for name, action in ACTIONS.items()
}
# What changes a file and keeps its number.
KEEPING = {"chmod", "chown", "utime", "set_xattr", "set_acl", "write", "append", "truncate", "link"}
_WEIGHTED = [action.__name__ for action, weight in _WEIGHTS.items() for _ in range(weight)]
