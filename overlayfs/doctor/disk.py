"""What the file system of the store can do, and whether the store is well."""

import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from overlayfs.doctor.finding import Finding, fail, ok, warn
from overlayfs.doctor.person import Person
from overlayfs.errors import InvalidImage, OverlayError
from overlayfs.linux import dirents
from overlayfs.store.kept import KeptImage
from overlayfs.store.names import Names, name_of
from overlayfs.store.paths import Paths
from overlayfs.store.store import Store
from overlayfs.union.names import Format

# An image of a distribution, and its files.
_LITTLE_SPACE = 1 << 30
_NO_SPACE = 64 << 20
_FEW_FILES = 20_000
_MOVE = "keep the store elsewhere: --root DIR or PYOVERLAY_ROOT"


def place(root: Path) -> Path:
    """*root*, or what is there of the way to it."""
    there = root
    while not there.exists() and there != there.parent:
        there = there.parent
    return there


def writable(root: Path) -> Finding:
    """Whether files can be made in the store *root*, or the store itself."""
    name = "store directory"
    there = place(root)
    if not there.is_dir():
        return fail(name, f"{there}: not a directory", _MOVE)
    try:
        with tempfile.TemporaryFile(dir=place(root)):
            pass
    except OSError as exc:
        return fail(name, f"{there}: {exc.strerror}", _MOVE)
    return ok(name, str(root) if there == root else f"{root} can be made")


def attributes(root: Path, person: Person) -> Finding:
    """Whether the extended attributes of layers can be kept (xattr(7))."""
    name = "extended attributes"
    kinds = ["trusted", "user"] if person.mighty else ["user"]
    with tempfile.TemporaryDirectory(dir=place(root)) as folder:
        for kind in kinds:
            attribute = f"{kind}.overlay.pyoverlay.probe"
            try:
                os.setxattr(folder, attribute, b"y")
            except OSError as exc:
                if exc.errno not in (errno.ENOTSUP, errno.EPERM, errno.EACCES):
                    raise
                said = f"{kind}.* cannot be set in {place(root)}: {exc.strerror}"
                if kind == "trusted":
                    fix = f"it works without, in the form of plain users; or {_MOVE}"
                    return warn(name, said, fix)
                return fail(name, said, f"a file system that has them (ext4, xfs, btrfs): {_MOVE}")
    return ok(name, " and ".join(f"{kind}.*" for kind in kinds))


def entry_types(root: Path) -> Finding:
    """Whether directories tell the types of what is in them (readdir(3), d_type)."""
    name = "types in directories"
    with tempfile.TemporaryDirectory(dir=place(root)) as folder:
        (Path(folder) / "probe").touch()
        if dirents.has_types(Path(folder)):
            return ok(name, "told")
    return warn(
        name,
        f"not told in {place(root)}: listings are slow, and the kernel's overlayfs refuses it",
        "on xfs: make it anew with mkfs.xfs -n ftype=1",
    )


def free(root: Path) -> int:
    """The bytes that are free where the store *root* is or will be, for this user."""
    found = os.statvfs(place(root))
    return found.f_bavail * found.f_frsize


def space(
    root: Path,
    *,
    little: int = _LITTLE_SPACE,
    none: int = _NO_SPACE,
    few: int = _FEW_FILES,
) -> Finding:
    """Whether there is room for an image: bytes, and files where those are counted."""
    name = "free space"
    found = os.statvfs(place(root))
    if not found.f_blocks:
        return ok(name, "not counted here")  # ramfs and some network file systems
    left = free(root)
    said = f"{left / 1e9:.1f} GB"
    fix = f"`pyoverlay prune` removes what nothing uses; or {_MOVE}"
    if left < none:
        return fail(name, said, fix)
    if left < little:
        return warn(name, said, fix)
    if found.f_files and found.f_favail < few:
        return warn(name, f"{said}, but room for {found.f_favail} files only", fix)
    return ok(name, said)


def store(root: Path, person: Person) -> tuple[Finding, ...]:
    """Whether the store can be read, and is in the format that can do most here.

    No store is made.
    """
    name = "store"
    if not (root / "store.json").exists():
        return (ok(name, f"{root}: not made yet"),)
    try:
        opened = Store.open(root)
        lost = list(_lost(Paths(root)))
    except OverlayError as exc:
        return (fail(name, exc.message, exc.hint or "`pyoverlay verify` looks for more"),)
    except OSError as exc:
        where = os.fsdecode(exc.filename or root)
        return (fail(name, f"{where}: {exc.strerror}", f"chown -R {person.name} {root}"),)
    if lost:
        seen = warn(
            name, "; ".join(lost), "`pyoverlay verify --repair` mends it; or load the images again"
        )
    else:
        seen = ok(name, f"{root} can be read")
    return seen, _format(opened, person)


def _lost(paths: Paths) -> Iterator[str]:
    """The images that the store has lost parts of, and which."""
    for descriptor in Names(paths).images():
        image = name_of(descriptor) or descriptor.digest.short
        try:
            kept = KeptImage(paths, descriptor)
        except InvalidImage as exc:
            yield f"image {image}: {exc.message}"
            continue
        gone = [layer.descriptor.digest for layer in kept.layers if not layer.path.exists()]
        if gone:
            yield f"image {image}: blob {gone[0]}: missing in the store"


def _format(opened: Store, person: Person) -> Finding:
    name = "overlay format"
    if opened.format is Format.USER and person.mighty:
        return warn(
            name,
            f"{opened.format}: owners and devices are in attributes, so the kernel's overlayfs "
            "cannot read the layers",
            "a new store where devices and trusted.* attributes can be made: --root DIR",
        )
    return ok(name, str(opened.format))
