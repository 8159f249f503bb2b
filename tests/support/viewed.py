"""An image as ``overlayfs.view`` shows it, in the form that mounts are compared in."""

import hashlib
import io
import os
import random
import stat
import tarfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from overlayfs.archive.files import FileRange
from overlayfs.image.descriptor import Descriptor
from overlayfs.image.digest import Digest
from overlayfs.image.source import LayerSource
from overlayfs.union.attrs import Kind
from overlayfs.view.image import ImageView
from overlayfs.view.opening import of_layers
from tests.support.layers import Item, device, file, folder, link, symlink, tar
from tests.support.tree import BOOKKEEPING, Entry, Tree

# Gives the image that has the given layers, base first.
Opened = Callable[[list[bytes]], ImageView]

KINDS = {Kind.DIRECTORY: "dir", Kind.FIFO: "fifo"}


class Layer:
    """A layer that is a stream; *packed* is what the stream gives in its place.

    *opened* counts how often it was asked for.
    """

    descriptor: Descriptor | None = None

    def __init__(self, data: bytes, packed: bytes | None = None) -> None:
        self.data = data if packed is None else packed
        self.diff_id = Digest.of(data)
        self.size = len(self.data)
        self.opened = 0

    def open(self) -> BinaryIO:
        self.opened += 1
        return io.BytesIO(self.data)


class LayerInFile(Layer):
    """A layer that lies in a new file of *folder*, with other bytes before and after it."""

    def __init__(self, data: bytes, folder: Path) -> None:
        super().__init__(data)
        self._path = folder / f"{self.diff_id.hex}.layer"
        self._path.write_bytes(b"before" * 100 + data + b"after")

    def open(self) -> BinaryIO:
        self.opened += 1
        return FileRange(os.open(self._path, os.O_RDONLY), 600, self.size, "layer")


def view_of(layers: Sequence[LayerSource], scratch: Path) -> ImageView:
    """The image of *layers*, base first."""
    return of_layers(layers, what="image", scratch=scratch)


def view_snapshot(view: ImageView, *, ignore: tuple[bytes, ...] = BOOKKEEPING) -> Tree:
    """Every name of *view*, as ``snapshot`` has those of a mount."""
    tree: Tree = {}
    first: dict[tuple[int, int], bytes] = {}
    for path, entry in view.walk():
        name = path or b"."
        sha256 = ""
        if entry.kind is Kind.FILE:
            with view.open(path) as body:
                data = body.read()
            assert len(data) == entry.size
            sha256 = hashlib.sha256(data).hexdigest()
        known = (entry.layer, entry.file)
        tree[name] = Entry(
            kind=KINDS.get(entry.kind, str(entry.kind)),
            mode=stat.S_IMODE(entry.mode),
            uid=entry.uid,
            gid=entry.gid,
            size=entry.size if entry.kind in (Kind.FILE, Kind.SYMLINK) else 0,
            mtime_ns=entry.mtime_ns,
            nlink=0 if entry.is_dir else entry.nlink,
            rdev=entry.rdev,
            target=entry.target,
            sha256=sha256,
            xattrs={
                attribute: value
                for attribute, value in view.xattrs(path, follow=False).items()
                if not attribute.startswith(ignore)
            },
            same_as=name if entry.is_dir else first.setdefault(known, name),
        )
    return tree


def random_layers(seed: int) -> list[bytes]:
    """One to four tars that have all to do with each other: the same few names of each kind."""
    chance = random.Random(seed)
    files: list[str] = []
    return [
        # The kernel mounts no layer twice, so each has a name of its own.
        tar(file(f"layer-{number}"), *(_item(chance, files) for _ in range(chance.randint(0, 9))))
        for number in range(chance.randint(1, 4))
    ]


def _item(chance: random.Random, files: list[str]) -> Item:
    """An entry; most hard links lead to one of *files*, which it adds to."""
    names = [chance.choice("ab") for _ in range(chance.randint(0, 2))]
    path = "/".join([*names, chance.choice("abfgh")])
    mode = chance.choice((0o644, 0o600, 0o4755, 0o1777, 0o751))
    owner = {"uid": chance.randint(0, 2), "mtime": chance.randint(-5, 5) + 0.5}
    above, _, name = path.rpartition("/")
    leaf = "/".join([*names, chance.choice("fgh")])
    match chance.choice("fffffdddddshhwwop."):
        case "f":
            files.append(leaf)
            return file(leaf, os.urandom(chance.randint(0, 600)), mode=mode, **owner)
        case "d":
            pax = {"SCHILY.xattr.user.note": "value"} if chance.random() < 0.3 else {}
            return folder("/".join([*names, chance.choice("ab")]), mode, pax=pax, **owner)
        case "s":
            return symlink(path, chance.choice(("a", "b/a", "../b", "/a", "/a/b", "..")), **owner)
        case "h" if files:
            return link(leaf, chance.choice(files))
        case "w":
            return file(f"{above}/.wh.{name}" if above else f".wh.{name}")
        case "o":
            return file(f"{path}/.wh..wh..opq")
        case "p":
            return device(leaf, chance.choice((tarfile.FIFOTYPE, tarfile.BLKTYPE)), 8, 1, mode=mode)
        case _:
            return folder("./", mode, **owner)


def by_trees(a: Tree, b: Tree) -> Iterator[str]:
    """What differs between two trees: the letter of ``diff``, the path, and the fields.

    Times do not count.
    """
    names = {
        "kind": "kind",
        "mode": "mode",
        "uid": "uid",
        "gid": "gid",
        "rdev": "rdev",
        "target": "target",
        "size": "size",
        "sha256": "content",
        "xattrs": "xattrs",
    }
    for path in sorted({*a, *b}, key=lambda path: [] if path == b"." else path.split(b"/")):
        where = "/" + os.fsdecode(b"" if path == b"." else path)
        if path not in a:
            yield f"A {where}"
        elif path not in b:
            yield f"D {where}"
        else:
            one, other = a[path], b[path]
            fields = [
                name
                for attribute, name in names.items()
                if getattr(one, attribute) != getattr(other, attribute)
            ]
            if one.kind != other.kind:
                fields = [
                    name for name in fields if name in ("kind", "mode", "uid", "gid", "xattrs")
                ]
            elif {"size", "target"}.intersection(fields):
                fields = [name for name in fields if name != "content"]
                if "target" in fields and "size" in fields:
                    fields.remove("size")
            if fields:
                yield " ".join(("C", where, *fields))
