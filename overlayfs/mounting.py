"""Mounting an image of the store, and what comes after.

Who lists mounts or unmounts needs no layers and no tree: these are imported where they are used.
"""

import errno
import logging
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from overlayfs.daemon import LOG_FORMAT, leave_behind
from overlayfs.errors import MountFailed, OverlayError
from overlayfs.image.history import by_layer
from overlayfs.linux import notify
from overlayfs.linux.locks import Shared
from overlayfs.linux.mounts import unmount as unmount_at
from overlayfs.store.mounts import MountDirectory, Record, directories, is_mounted
from overlayfs.store.paths import record as layer_record
from overlayfs.store.records import LayerRecord
from overlayfs.store.records import read as read_record
from overlayfs.store.store import Store, StoredImage
from overlayfs.union.names import Format
from overlayfs.union.policy import PLAIN, Policy
from overlayfs.union.presentation import AS_IT_IS, Presentation
from overlayfs.union.provenance import labels
from overlayfs.waiting import AS_IT_PAYS, Waiting

if TYPE_CHECKING:
    from overlayfs.serving import Stack
    from overlayfs.tree.changes import Change

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class MountOptions:
    """How to mount; *upper* None means a fresh one in the store, unless *read_only*.

    *layer* is the number of the last layer to be shown, None for all; the base is 1.
    *allow_other* None lets other users in when root mounts.  *extra* are options of fuse(8).
    """

    read_only: bool = False
    upper: Path | None = None
    work: Path | None = None
    layer: int | None = None
    allow_other: bool | None = None
    policy: Policy = PLAIN
    presentation: Presentation = AS_IT_IS
    extra: tuple[str, ...] = ()
    waiting: Waiting = AS_IT_PAYS


@dataclass(frozen=True, slots=True)
class MountRecord:
    """One mount.

    *state* is ``live``, ``dead`` (mounted, but the daemon died) or ``kept`` (unmounted,
    with changes in *upper*).  *layer* is the last one that is shown, where one was asked for.
    """

    id: str
    image: str
    image_id: str
    mountpoint: Path
    pid: int
    upper: Path | None
    since: datetime
    read_only: bool
    log: Path
    state: str
    layer: int | None = None

    @classmethod
    def of(cls, directory: MountDirectory, record: Record) -> "MountRecord":
        """What ``ps`` tells of a mount that is written down."""
        mountpoint = Path(record.mountpoint)
        state = "kept"
        if directory.locked:
            state = "live"
        elif not record.ended and is_mounted(mountpoint):
            state = "dead"
        return cls(
            id=record.id,
            image=record.image,
            image_id=record.image_id,
            mountpoint=mountpoint,
            pid=record.pid,
            upper=Path(record.upper) if record.upper else None,
            since=record.since,
            read_only=record.upper is None,
            log=directory.log,
            state=state,
            layer=record.layer,
        )


# -- mounting --------------------------------------------------------------------------


def check_mountpoint(mountpoint: Path) -> Path:
    """The absolute path of *mountpoint*; MountFailed when nothing can be mounted there.

    To be asked before hours are spent on unpacking.
    """
    _check_device()
    path = _absolute(mountpoint)
    if is_mounted(path):
        raise MountFailed(
            f"{mountpoint}: something of pyoverlay is mounted there already",
            hint=f"see `pyoverlay ps`, or run `pyoverlay umount {mountpoint}`",
        )
    try:
        path = Path(os.path.realpath(mountpoint, strict=True))
    except FileNotFoundError:
        raise MountFailed(
            f"{mountpoint}: no such directory", hint=f"create it: mkdir -p {mountpoint}"
        ) from None
    except OSError as exc:
        raise MountFailed(f"{mountpoint}: {exc.strerror}") from exc
    if not path.is_dir():
        raise MountFailed(f"{mountpoint}: not a directory")
    return path


def mount(
    store: Store,
    image: StoredImage,
    mountpoint: Path,
    options: MountOptions,
    *,
    foreground: bool = False,
    ready: Callable[[MountRecord], None] = lambda record: None,
) -> MountRecord:
    """Mount *image* at *mountpoint* and call *ready* once it answers.

    Leaves a daemon behind that serves the mount; with *foreground* this process serves it
    and returns when it is unmounted.  Raises MountFailed, and leaves nothing then.
    """
    path = check_mountpoint(mountpoint)
    if store.root.resolve().is_relative_to(path):
        raise MountFailed(
            f"{mountpoint}: the mount would hide the store {store.root}",
            hint="choose another mount point, or another store with --store",
        )
    _finish_dead(store)
    # From here to where the record says so nobody takes the layers away.
    with store.mounting(image) as (whole, held):
        shown = as_after(whole, options.layer)
        return _mount(store, shown, path, options, held, ready, foreground=foreground)


def as_after(image: StoredImage, layer: int | None) -> StoredImage:
    """*image* as it was after its layer number *layer*, the base being 1; None for all of it.

    Raises OverlayError when it has no such layer.
    """
    if layer is None:
        return image
    count = len(image.layers)
    if not 1 <= layer <= count:
        name = image.names[0] if image.names else image.id.short
        has = "only layer 1" if count == 1 else f"the layers 1 to {count}" if count else "no layers"
        raise OverlayError(f"{name}: no layer {layer}, the image has {has}")
    return replace(image, layers=image.layers[:layer])


def _mount(
    store: Store,
    image: StoredImage,
    path: Path,
    options: MountOptions,
    held: Shared,
    ready: Callable[[MountRecord], None],
    *,
    foreground: bool,
) -> MountRecord:
    from overlayfs.serving import fuse_options, serve

    directory = MountDirectory.create(store.root)
    lock = directory.lock()
    record = _record(store, image, path, options, directory)

    def serve_it(answer: Callable[[], None]) -> None:
        ours = msgspec.structs.replace(record, pid=os.getpid())

        def answered() -> None:
            directory.write(ours)
            held.release()
            answer()

        serve(stack, path, chosen, answered, aside=store.settle, waiting=options.waiting)
        log.info("%s: unmounted", path)
        store.settle()
        directory.finish()

    def in_foreground() -> None:
        ready(_written(directory))
        notify.ready()

    stack = replace(
        _stack(record),
        policy=options.policy,
        presentation=options.presentation,
        labels=labels(_origins(image)),
    )
    chosen = fuse_options(
        record.image,
        read_only=options.read_only,
        allow_other=options.allow_other,
        extra=options.extra,
    )
    try:
        stack.check(path)
        if foreground:
            logging.basicConfig(level=logging.INFO, format=LOG_FORMAT)
            serve_it(in_foreground)
            return MountRecord.of(directory, record)
        leave_behind(serve_it, directory.log)
    except OverlayError:
        os.close(lock)
        directory.wait()
        directory.finish()
        raise
    os.close(lock)
    mounted = _written(directory)
    ready(mounted)
    return mounted


def _finish_dead(store: Store) -> None:
    """Clean up after daemons that died and whose mounts are gone, after a reboot say."""
    for directory, record in directories(store.root):
        if not (record.ended or directory.locked or is_mounted(Path(record.mountpoint))):
            directory.finish()


def _written(directory: MountDirectory) -> MountRecord:
    record = directory.read()
    assert record is not None
    return MountRecord.of(directory, record)


def _stack(record: Record) -> "Stack":
    from overlayfs.serving import Stack

    return Stack(
        lowers=tuple(Path(layer) for layer in reversed(record.layers)),
        upper=Path(record.upper) if record.upper else None,
        work=Path(record.work) if record.work else None,
        format=Format(record.format),
        links=_links,
    )


def _origins(image: StoredImage) -> Iterator[tuple[str, str]]:
    """The diff id of each layer, and what made it as far as the image says."""
    for layer, step in zip(image.layers, by_layer(image.config.history, image.layers), strict=True):
        yield str(layer.diff_id), step.created_by


def _links(root: int) -> Iterable[tuple[bytes, ...]]:
    """The hard links of an unpacked layer whose tree is open as *root*.

    Its record lies beside the tree, and is reached that way whatever is mounted above.
    """
    known = read_record(layer_record(Path(f"/proc/self/fd/{root}/..")), LayerRecord)
    return known.aliases if known else ()


def _record(
    store: Store,
    image: StoredImage,
    mountpoint: Path,
    options: MountOptions,
    directory: MountDirectory,
) -> Record:
    upper = work = None
    if not options.read_only:
        upper = options.upper.resolve() if options.upper else directory.upper
        beside = MountDirectory.work_for(upper) if options.upper else directory.work
        work = options.work.resolve() if options.work else beside
    return Record(
        id=directory.path.name,
        image=image.names[0] if image.names else image.id.hex[:12],
        image_id=str(image.id),
        mountpoint=str(mountpoint),
        pid=os.getpid(),
        upper=str(upper) if upper else None,
        work=str(work) if work else None,
        own_upper=options.upper is None,
        since=datetime.now(UTC),
        layers=[str(layer.path) for layer in image.layers] or [str(directory.empty)],
        format=str(store.format),
        layer=options.layer,
    )


def _check_device() -> None:
    """Tell early, and better than fusermount3 does, why nothing can be mounted."""
    try:
        os.close(os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC))
    except FileNotFoundError:
        raise MountFailed(
            "/dev/fuse: not there",
            hint="load the module (modprobe fuse), or pass the device into the container",
        ) from None
    except OSError as exc:
        raise MountFailed(
            f"/dev/fuse: {exc.strerror}",
            hint="it must be readable and writable for you: ls -l /dev/fuse",
        ) from exc


# -- afterwards ------------------------------------------------------------------------


def mounts(store: Store, *, kept: bool = False) -> list[MountRecord]:
    """The mounts of *store*, the oldest first; with *kept* those whose changes stayed, too."""
    found = [MountRecord.of(*pair) for pair in directories(store.root)]
    return [record for record in found if kept or record.state != "kept"]


def mounted_at(root: Path, mountpoint: Path) -> Record | None:
    """What is written down of the mount at *mountpoint*, living or dead; None if there is none.

    The file system that is mounted there is not asked, and the store *root* is not made.
    """
    path = _absolute(mountpoint)
    for directory, record in directories(root):
        if record.ended or Path(record.mountpoint) != path:
            continue
        if MountRecord.of(directory, record).state != "kept":
            return record
    return None


def unmount(
    store: Store, mountpoint: Path, *, lazy: bool = False, discard: bool = False
) -> Path | None:
    """Unmount what is mounted at *mountpoint*, also when its daemon died.

    Returns once the daemon has written everything and is gone, at once if *lazy*.  The
    answer is the upper directory if it has changes to keep, None if not; *discard* removes
    the changes of an upper directory of the store.  Raises MountFailed.
    """
    path = _absolute(mountpoint)
    found = [
        (directory, record)
        for directory, record in directories(store.root)
        if Path(record.mountpoint) == path and not record.ended
    ]
    mounted_here = is_mounted(path)
    if not mounted_here and not any(d.locked for d, _ in found):
        raise MountFailed(
            f"{mountpoint}: nothing of pyoverlay is mounted there",
            hint="`pyoverlay ps` lists the mounts",
        )
    if mounted_here:
        try:
            unmount_at(path, lazy=lazy)
        except OSError as exc:
            hint = ""
            if exc.errno == errno.EBUSY:
                hint = f"`fuser -vm {mountpoint}` tells who uses it; --lazy does not wait for them"
            raise MountFailed(f"{mountpoint}: {exc.strerror}", hint=hint) from exc
    kept = None
    for directory, record in found:
        if lazy:
            kept = Path(record.upper) if record.upper else None
            continue
        directory.wait()
        if not directory.path.exists():
            continue
        if record.own_upper and discard:
            directory.remove()
        elif directory.finish() and record.upper:
            kept = Path(record.upper)
    return kept


def _absolute(mountpoint: Path) -> Path:
    """*mountpoint* without symbolic links, without asking the file system mounted there."""
    path = mountpoint.absolute()
    return path.parent.resolve() / path.name if path.name not in ("", "..") else path.resolve()


def changes(store: Store, mountpoint: Path) -> "Iterator[Change]":
    """What was changed at *mountpoint* since it was mounted, from the upper directory."""
    record = mounted_at(store.root, mountpoint)
    if record is None:
        raise MountFailed(
            f"{mountpoint}: nothing of pyoverlay is mounted there",
            hint="`pyoverlay ps` lists the mounts",
        )
    return _changes(record)


def _changes(record: Record) -> "Iterator[Change]":
    from overlayfs.layers.lower import Layer
    from overlayfs.tree.changes import changes as compare
    from overlayfs.tree.tree import Tree

    if record.upper is None:
        return
    upper = Layer(Path(record.upper), Format(record.format), 0)
    lowers = _stack(record).lowers
    layers = [Layer(path, upper.format, number) for number, path in enumerate(lowers, 1)]
    lower = Tree(layers, None)
    try:
        yield from compare(upper, lower)
    finally:
        lower.close()
        upper.close()
        for layer in lower.layers:
            layer.close()
