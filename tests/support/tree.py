"""A tree as a value: what lstat, readlink, listxattr and reading say about every name in it."""

import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path

Tree = dict[bytes, "Entry"]

# Bits of the layer directories' format and of the tools' own bookkeeping, not of the image.
BOOKKEEPING = (b"trusted.overlay.", b"user.overlay.", b"user.containers.")


@dataclass(frozen=True, slots=True)
class Entry:
    """What one name shows; what has no meaning for its kind is zero or empty."""

    kind: str
    mode: int
    uid: int
    gid: int
    size: int
    mtime_ns: int
    nlink: int
    rdev: int
    target: bytes
    sha256: str
    xattrs: Mapping[bytes, bytes] = field(default_factory=dict)
    # The first name, in order, of the same file: equal trees link the same names together.
    same_as: bytes = b""


_KINDS = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "dir",
    stat.S_IFLNK: "symlink",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "char",
    stat.S_IFBLK: "block",
}


def snapshot(root: Path, *, ignore: tuple[bytes, ...] = BOOKKEEPING) -> Tree:
    """Every name below *root* and *root* itself (``b"."``), by path in order.

    Xattrs whose names begin with one of *ignore* are left out.
    """
    tree: Tree = {}
    first: dict[tuple[int, int], bytes] = {}
    top = os.fsencode(root)
    for path in _walk(top, b""):
        full = os.path.join(top, path) if path else top  # noqa: PTH118 - names are bytes
        tree[path or b"."] = _entry(full, path or b".", first, ignore)
    return tree


def names(folder: Path) -> list[str]:
    """The names in *folder*, in order."""
    return sorted(path.name for path in folder.iterdir())


def _walk(top: bytes, path: bytes) -> Iterator[bytes]:
    yield path
    here = top + b"/" + path if path else top
    for found in sorted(os.scandir(here), key=lambda item: item.name):
        below = path + b"/" + found.name if path else found.name
        if found.is_dir(follow_symlinks=False):
            yield from _walk(top, below)
        else:
            yield below


def _entry(
    full: bytes, path: bytes, first: dict[tuple[int, int], bytes], ignore: tuple[bytes, ...]
) -> Entry:
    found = os.lstat(full)
    kind = _KINDS[stat.S_IFMT(found.st_mode)]
    is_device = kind in ("char", "block")
    is_dir = kind == "dir"
    return Entry(
        kind=kind,
        mode=stat.S_IMODE(found.st_mode),
        uid=found.st_uid,
        gid=found.st_gid,
        size=found.st_size if kind in ("file", "symlink") else 0,
        mtime_ns=found.st_mtime_ns,
        nlink=0 if is_dir else found.st_nlink,
        rdev=found.st_rdev if is_device else 0,
        target=os.readlink(full) if kind == "symlink" else b"",  # noqa: PTH115 - names are bytes
        sha256=_sha256(full) if kind == "file" else "",
        xattrs=_xattrs(full, ignore),
        same_as=path if is_dir else first.setdefault((found.st_dev, found.st_ino), path),
    )


def _sha256(full: bytes) -> str:
    with open(full, "rb") as file:  # noqa: PTH123 - names are bytes
        return hashlib.file_digest(file, "sha256").hexdigest()


def _xattrs(full: bytes, ignore: tuple[bytes, ...]) -> dict[bytes, bytes]:
    names = (os.fsencode(name) for name in os.listxattr(full, follow_symlinks=False))
    return {
        name: os.getxattr(full, name, follow_symlinks=False)
        for name in sorted(names)
        if not name.startswith(ignore)
    }


def differences(expected: Tree, actual: Tree, *, but: frozenset[str] = frozenset()) -> list[str]:
    """One line for each thing in which *actual* is not *expected*; fields in *but* may differ."""
    lines = [f"missing: {path!r}" for path in expected.keys() - actual.keys()]
    lines += [f"unexpected: {path!r}" for path in actual.keys() - expected.keys()]
    for path in expected.keys() & actual.keys():
        for each in fields(Entry):
            wanted, got = getattr(expected[path], each.name), getattr(actual[path], each.name)
            if wanted != got and each.name not in but:
                lines.append(f"{path!r}: {each.name} is {got!r}, expected {wanted!r}")
    return sorted(lines)


def assert_same(expected: Tree, actual: Tree, *, but: frozenset[str] = frozenset()) -> None:
    """Fails with the first differences spelled out."""
    found = differences(expected, actual, but=but)
    assert not found, f"{len(found)} differences:\n" + "\n".join(found[:40])
