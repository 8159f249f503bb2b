"""Layers as values: drawn at random, written to a disk, made smaller when they show a fault.

Names are bytes, as in ``overlayfs``.
"""

# Names are bytes, which pathlib does not know.
# ruff: noqa: PTH101, PTH102, PTH123, PTH211

import os
import random
import socket
import stat
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

SECOND = 10**9
# What a test sets is before this; what is later was set by the clock.
CLOCK = 1_700_000_000 * SECOND

SHORT_NAMES = (b"a", b"b", b"c", b"d")
# The longest, no text, markers of other formats, what a work directory is full of.
ODD_NAMES = (b"n" * 255, b"\xff\xfe\x80", b".wh.a", b".wh..wh..opq", b"#1", b" \n\\", b"work")
# Only between names of the tree, and never upwards: no path leads out of it.
TARGETS = (b"a", b"b/c", b"./d", b"c", b"/nowhere/at/all", b"t" * 300, b"\xff")

OPAQUE = b"trusted.overlay.opaque"
CAPABILITY = bytes.fromhex("0100000200200000000000000000000000000000")
ACCESS = "system.posix_acl_access"
DEFAULT = "system.posix_acl_default"

_SPECIAL = {
    "fifo": stat.S_IFIFO,
    "socket": stat.S_IFSOCK,
    "char": stat.S_IFCHR,
    "block": stat.S_IFBLK,
}
# /dev/null, and a number that no driver answers to.
NUMBERS = {"char": os.makedev(1, 3), "block": os.makedev(240, 7)}


@dataclass(frozen=True, slots=True)
class Piece:
    """One name of a layer; ``b""`` is its root.

    *kind* is one of file, dir, symlink, fifo, socket, char, block, link (whose *target* is a
    path in the same layer), whiteout, and white (a whiteout made of an attribute).
    """

    path: bytes
    kind: str
    mode: int = 0o755
    uid: int = 0
    gid: int = 0
    times: tuple[int, int] = (5, 7)
    size: int = 0
    hole: int = 0
    target: bytes = b""
    xattrs: tuple[tuple[str, bytes], ...] = ()
    opaque: bytes = b""

    @property
    def parent(self) -> bytes:
        """The path of the directory that holds it."""
        return self.path.rpartition(b"/")[0]

    def content(self) -> bytes:
        """What a file holds behind its hole."""
        return pattern(self.size, self.times[0])


Layer = tuple[Piece, ...]


def pattern(size: int, seed: int) -> bytes:
    """*size* bytes that tell where they are from."""
    return random.Random(seed).randbytes(size)


# -- meaning -------------------------------------------------------------------------------


def merged(layers: Sequence[Layer]) -> dict[bytes, str]:
    """The kind of every path of the union of *layers*, the base first."""
    view: dict[bytes, str] = {}
    for layer in layers:
        for piece in layer:
            path = piece.path
            known = view.get(path)
            if piece.kind != "dir" or known != "dir" or piece.opaque == b"y":
                for gone in [each for each in view if each.startswith(path + b"/") and path]:
                    del view[gone]
                view.pop(path, None)
            if piece.kind not in ("whiteout", "white"):
                view[path] = "file" if piece.kind == "link" else piece.kind
    return view


def is_legal(layers: Sequence[Layer]) -> bool:
    """Whether each layer is a tree, and each whiteout lies in a directory with parts below.

    The kernel lists whiteouts that lie elsewhere, where a lookup does not find them: there
    it reads the directory as it is (overlayfs.rst, "readdir").
    """
    for number, layer in enumerate(layers):
        below = merged(layers[:number])
        kinds = {piece.path: piece for piece in layer}
        for piece in layer:
            if piece.path and (piece.parent not in kinds or kinds[piece.parent].kind != "dir"):
                return False
            if piece.kind == "link" and piece.target not in kinds:
                return False
            if piece.kind in ("whiteout", "white") and not _is_merged(piece, kinds, below):
                return False
    return True


def _is_merged(piece: Piece, kinds: dict[bytes, Piece], below: dict[bytes, str]) -> bool:
    """Whether the directory of *piece* has parts in the layers *below*."""
    path = piece.parent
    if path and below.get(path) != "dir":
        return False
    while path:
        if kinds[path].opaque == b"y":
            return False
        path = path.rpartition(b"/")[0]
    return True


# -- drawing -------------------------------------------------------------------------------


def draw_layers(chance: random.Random, *, links: bool) -> list[Layer]:
    """One to six layers, the base first; with *links* there are files of several names."""
    layers: list[Layer] = []
    for _ in range(chance.choice((1, 1, 2, 2, 3, 3, 4, 5, 6))):
        layers.append(_Drawing(chance, merged(layers), links=links).layer())
    return layers


class _Drawing:
    def __init__(self, chance: random.Random, below: dict[bytes, str], *, links: bool) -> None:
        self._chance = chance
        self._below = below
        self._links = links
        self._pieces: list[Piece] = []

    def layer(self) -> Layer:
        root = self._dressed(Piece(b"", "dir", mode=0o755))
        self._fill(b"", 0, hidden=False)
        if self._links:
            self._link()
        if any(piece.kind == "white" for piece in self._pieces):
            root = replace(root, opaque=b"x")  # the kernel looks for others only then
        return (root, *self._pieces)

    def _fill(self, folder: bytes, depth: int, *, hidden: bool) -> None:
        chance = self._chance
        names = list(SHORT_NAMES)
        if chance.random() < 0.3:
            names.append(chance.choice(ODD_NAMES))
        for name in names:
            path = folder + b"/" + name if folder else name
            draw = chance.random()
            if draw < 0.28:
                self._add(self._file(path))
            elif draw < 0.55 and depth < 3:
                self._directory(path, depth, hidden=hidden)
            elif draw < 0.64:
                self._add(Piece(path, "symlink", target=chance.choice(TARGETS)))
            elif draw < 0.72 and not hidden and self._shows(folder):
                self._hide(path, folder)
            elif draw < 0.78:
                kind = chance.choice(tuple(_SPECIAL))
                self._add(Piece(path, kind, mode=chance.choice((0o644, 0o600))))

    def _file(self, path: bytes) -> Piece:
        chance = self._chance
        size = chance.choice((0, 1, 5, 5000, 5000, 100_000))
        mode = chance.choice((0o644, 0o600, 0o755, 0o666, 0o444, 0o4777, 0o6711))
        hole = chance.choice((0, 0, 0, 70_000))
        return Piece(path, "file", mode=mode, size=size, hole=hole)

    def _directory(self, path: bytes, depth: int, *, hidden: bool) -> None:
        chance = self._chance
        opaque = b"y" if self._below and not hidden and chance.random() < 0.15 else b""
        mode = chance.choice((0o755, 0o755, 0o700, 0o777, 0o1777, 0o2775))
        at = len(self._pieces)
        self._add(Piece(path, "dir", mode=mode, opaque=opaque))
        self._fill(path, depth + 1, hidden=hidden or bool(opaque))
        if any(each.kind == "white" and each.parent == path for each in self._pieces):
            self._pieces[at] = replace(self._pieces[at], opaque=b"x")

    def _shows(self, folder: bytes) -> bool:
        return not folder or self._below.get(folder) == "dir"

    def _hide(self, path: bytes, folder: bytes) -> None:
        # Two kinds in one directory are legal; the root is marked anyway.
        kind = "white" if self._chance.random() < 0.2 else "whiteout"
        self._pieces.append(Piece(path, kind))

    def _link(self) -> None:
        chance = self._chance
        regular = [piece for piece in self._pieces if piece.kind == "file"]
        folders = [b"", *(piece.path for piece in self._pieces if piece.kind == "dir")]
        taken = {piece.path for piece in self._pieces}
        for _ in range(6 if regular else 0):
            folder = chance.choice(folders)
            name = chance.choice((*SHORT_NAMES, b"e"))
            path = folder + b"/" + name if folder else name
            if path not in taken:
                taken.add(path)
                target = chance.choice(regular).path
                self._pieces.append(Piece(path, "link", target=target))

    def _add(self, piece: Piece) -> None:
        self._pieces.append(self._dressed(piece))

    def _dressed(self, piece: Piece) -> Piece:
        chance = self._chance
        times = (chance.randrange(-SECOND, CLOCK), chance.randrange(-SECOND, CLOCK))
        uid, gid = chance.choice((0, 0, 0, 1000)), chance.choice((0, 0, 5, 1000))
        return replace(piece, times=times, uid=uid, gid=gid, xattrs=self._xattrs(piece.kind))

    def _xattrs(self, kind: str) -> tuple[tuple[str, bytes], ...]:
        chance = self._chance
        found: list[tuple[str, bytes]] = []
        if chance.random() < 0.1:
            found.append(("trusted.t", b"\0\xff"))
        if kind in ("file", "dir"):
            if chance.random() < 0.2:
                found.append(("user.k", b"v"))
            if chance.random() < 0.05:
                found.append(("user.overlay.opaque", b"y"))
            if chance.random() < 0.05:
                found.append(("trusted.overlay.overlay.opaque", b"y"))
            if chance.random() < 0.08:
                found.append((ACCESS, draw_acl(chance)))
        if kind == "dir" and chance.random() < 0.08:
            found.append((DEFAULT, draw_acl(chance)))
        if kind == "file" and chance.random() < 0.08:
            found.append(("security.capability", CAPABILITY))
        return tuple(found)


def draw_acl(chance: random.Random) -> bytes:
    """An access control list, in the form of linux/posix_acl_xattr.h."""
    none = 0xFFFFFFFF
    entries = [(0x01, none), (0x04, none), (0x20, none)]
    if chance.random() < 0.8:
        entries += [(0x02, 1000), (0x08, 5), (0x10, none)]
    entries.sort(key=lambda entry: entry[0])
    packed = (struct.pack("<HHI", tag, chance.randrange(8), who) for tag, who in entries)
    return struct.pack("<I", 2) + b"".join(packed)


# -- writing -------------------------------------------------------------------------------


def write_layer(top: bytes, layer: Iterable[Piece]) -> None:
    """Make *layer* in the empty directory *top*."""
    pieces = tuple(layer)
    for piece in pieces:
        _make(top + b"/" + piece.path if piece.path else top, piece, top)
    # What a directory hands down, and its times, would change what is made in it.
    for piece in reversed(pieces):
        if piece.kind == "dir":
            _dress(top + b"/" + piece.path if piece.path else top, piece)


def _make(full: bytes, piece: Piece, top: bytes) -> None:
    kind = piece.kind
    if kind == "dir":
        if piece.path:
            os.mkdir(full)
        return
    if kind == "link":
        os.link(top + b"/" + piece.target, full, follow_symlinks=False)
        return
    if kind == "whiteout":
        os.mknod(full, stat.S_IFCHR, 0)
        return
    if kind == "symlink":
        os.symlink(piece.target, full)
    elif kind in ("file", "white"):
        with open(full, "xb") as file:
            if piece.hole:
                file.seek(piece.hole)
            file.write(piece.content())
    elif kind == "socket" and len(full) < 100:
        with socket.socket(socket.AF_UNIX) as end:
            end.bind(full)
    else:
        os.mknod(full, _SPECIAL[kind] | 0o600, NUMBERS.get(kind, 0))
    if kind == "white":
        os.setxattr(full, "trusted.overlay.whiteout", b"")
    else:
        _dress(full, piece)


def _dress(full: bytes, piece: Piece) -> None:
    os.chown(full, piece.uid, piece.gid, follow_symlinks=False)
    if piece.kind != "symlink":
        os.chmod(full, piece.mode)
    for name, value in piece.xattrs:
        os.setxattr(full, name, value, follow_symlinks=False)
    if piece.opaque:
        os.setxattr(full, OPAQUE, piece.opaque)
    os.utime(full, ns=piece.times, follow_symlinks=False)
