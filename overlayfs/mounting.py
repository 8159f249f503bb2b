"""Mounting an image, and what comes after: daemons, unmounting, changes."""

import errno
import json
import linecache  # noqa: F401  (needed once the mount may cover the place it lies in)
import logging
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

from overlayfs.errors import MountFailed, OverlayError
from overlayfs.layers.lower import Layer
from overlayfs.linux import fds
from overlayfs.linux.mounts import unmount as unmount_at
from overlayfs.store.mounts import MountDirectory, Record, directories, is_mounted
from overlayfs.store.store import Store, StoredImage
from overlayfs.tree.changes import Change
from overlayfs.tree.changes import changes as compare
from overlayfs.tree.tree import UPPER_NUMBER, Tree
from overlayfs.union.names import Format

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class MountOptions:
    """How to mount; *upper* None means a fresh one in the store, unless *read_only*.

    *allow_other* None lets other users in when root mounts.
    """

    read_only: bool = False
    upper: Path | None = None
    work: Path | None = None
    allow_other: bool | None = None
    extra: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MountRecord:
    """One mount.

    *state* is ``live``, ``dead`` (mounted, but the daemon died) or ``kept`` (unmounted,
    with changes in *upper*).
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

    @classmethod
    def of(cls, directory: MountDirectory, record: Record) -> "MountRecord":
        """What ``ps`` tells of a mount that is written down."""
        mountpoint = Path(record.mountpoint)
        state = "live" if directory.locked else "dead" if is_mounted(mountpoint) else "kept"
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
        )


# -- mounting --------------------------------------------------------------------------


def check_mountpoint(mountpoint: Path) -> Path:
    """The absolute path of *mountpoint*; MountFailed when nothing can be mounted there."""
    path = _absolute(mountpoint)
    if is_mounted(path):
        raise MountFailed(
            f"{mountpoint}: something of pyoverlay is mounted there already",
            hint=f"see `pyoverlay ps`, or run `pyoverlay umount {mountpoint}`",
        )
    try:
        path = mountpoint.resolve(strict=True)
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
    _check_device()
    directory = MountDirectory.create(store.root)
    lock = directory.lock()
    try:
        record = _record(store, image, path, options, directory)
        _check_overlap(path, record)
        if foreground:
            logging.basicConfig(level=logging.INFO, format=_LOG_FORMAT)
            _serve(directory, record, options, lambda: ready(_written(directory, record)))
            os.close(lock)
            return MountRecord.of(directory, record)
        record = _in_daemon(directory, record, options)
    except OverlayError:
        os.close(lock)
        directory.wait()
        directory.finish()
        raise
    os.close(lock)
    mounted = MountRecord.of(directory, record)
    ready(mounted)
    return mounted


_LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def _record(
    store: Store,
    image: StoredImage,
    mountpoint: Path,
    options: MountOptions,
    directory: MountDirectory,
) -> Record:
    upper = work = None
    if not options.read_only:
        upper = options.upper.absolute() if options.upper else directory.upper
        beside = upper.with_name(f"{upper.name}.work") if options.upper else directory.work
        work = options.work.absolute() if options.work else beside
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


def _check_overlap(mountpoint: Path, record: Record) -> None:
    """Refuse what would make the daemon wait for itself or change what it reads."""
    places = [Path(layer) for layer in record.layers]
    for place in (record.upper, record.work):
        if place is None:
            continue
        path = Path(place).resolve()
        for layer in record.layers:
            if path.is_relative_to(layer) or Path(layer).is_relative_to(path):
                raise MountFailed(f"{place}: overlaps the layer {layer}")
        places.append(path)
    if record.upper and record.work:
        upper, work = Path(record.upper).resolve(), Path(record.work).resolve()
        if upper.is_relative_to(work) or work.is_relative_to(upper):
            raise MountFailed(f"{work}: overlaps the upper directory {upper}")
    for path in places:
        if mountpoint.is_relative_to(path):
            raise MountFailed(f"{mountpoint}: lies in {path}, which is to be mounted")


def _serve(
    directory: MountDirectory,
    record: Record,
    options: MountOptions,
    ready: Callable[[], None],
) -> None:
    """Open the layers, mount, serve until the end, clean up."""
    # Everything is imported before the mount may cover it.
    from overlayfs.fuse.session import serve
    from overlayfs.layers.upper import Birth, Upper
    from overlayfs.tree.filesystem import Filesystem
    from overlayfs.union.attrs import Kind

    os.umask(0)
    fmt = Format(record.format)
    limit = fds.raise_limit()
    layers = _open_layers(record)
    upper = None
    if record.upper and record.work:
        path, work = Path(record.upper), Path(record.work)
        try:
            fresh = not path.exists()
            path.mkdir(mode=0o755, parents=True, exist_ok=True)
            work.mkdir(mode=0o700, parents=True, exist_ok=True)
            upper = Upper(path, work, fmt, UPPER_NUMBER)
            if fresh:
                # The upper directory's own attributes are those of the root that is seen.
                top = layers[0].attrs_of(layers[0].root)
                birth = Birth(
                    Kind.DIRECTORY,
                    top.mode,
                    top.uid,
                    top.gid,
                    xattrs=layers[0].xattrs(layers[0].root),
                )
                upper.dress(upper.root, birth)
                upper.utime(upper.root, top.atime_ns, top.mtime_ns)
        except OSError as exc:
            raise MountFailed(f"{exc.filename or path}: {exc.strerror}") from exc
    filesystem = Filesystem(Tree(layers, upper, descriptors=limit // 4))
    try:
        serve(filesystem, Path(record.mountpoint), _fuse_options(record, options), ready)
    finally:
        filesystem.close()
    log.info("%s: unmounted", record.mountpoint)
    directory.finish()


def _open_layers(record: Record) -> list[Layer]:
    """The lower layers, topmost first."""
    fmt = Format(record.format)
    return [Layer(Path(path), fmt, number) for number, path in enumerate(record.layers, start=1)][
        ::-1
    ]


def _fuse_options(record: Record, options: MountOptions) -> list[str]:
    plain = re.sub(r"[^A-Za-z0-9._:/@+-]", "_", record.image)
    chosen = [f"fsname={plain}", "subtype=pyoverlay", *options.extra]
    root = os.geteuid() == 0
    others = root if options.allow_other is None else options.allow_other
    if others:
        chosen.append("allow_other")
    if root or others:
        # A plain user alone may do everything in a mount of his own, as root may in his.
        chosen.append("default_permissions")
    if root:
        for flag in ("suid", "dev"):
            if f"no{flag}" not in chosen:
                chosen.append(flag)
    if record.upper is None:
        chosen.append("ro")
    return chosen


# -- daemons ---------------------------------------------------------------------------


def _written(directory: MountDirectory, record: Record) -> MountRecord:
    directory.write(record)
    return MountRecord.of(directory, record)


def _in_daemon(directory: MountDirectory, record: Record, options: MountOptions) -> Record:
    """Serve in a process of its own; the record with that process's id, once it answers.

    The process is made before any thread or event loop is, and leaves the session of the
    terminal.  What it has to say before it answers comes through a pipe.
    """
    reading, writing = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if not child:
        os.close(reading)
        _become_daemon(directory, record, options, writing)
    os.close(writing)
    os.waitpid(child, 0)
    with open(reading, "rb") as pipe:  # noqa: PTH123  (a descriptor)
        said = pipe.read()
    if not said:
        raise MountFailed(
            f"{record.mountpoint}: the daemon died before it answered",
            hint=f"its last words: {_last_words(directory)}",
        )
    answer = json.loads(said)
    if "bug" in answer:
        # Not an OverlayError: the log stays, with the traceback.
        raise RuntimeError(f"the daemon failed, see {directory.log}: {answer['bug']}")
    if "error" in answer:
        raise MountFailed(answer["error"], hint=answer["hint"] or _last_words(directory))
    written = directory.read()
    assert written is not None
    return written


def _last_words(directory: MountDirectory) -> str:
    lines = directory.log.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "none"


def _become_daemon(
    directory: MountDirectory, record: Record, options: MountOptions, writing: int
) -> NoReturn:
    """In the child: never returns."""
    status = 1
    try:
        os.setsid()
        if os.fork():
            os._exit(0)
        os.chdir("/")
        null = os.open(os.devnull, os.O_RDONLY)
        out = os.open(directory.log, os.O_WRONLY | os.O_APPEND)
        os.dup2(null, 0)
        os.dup2(out, 1)
        os.dup2(out, 2)
        logging.basicConfig(level=logging.INFO, format=_LOG_FORMAT, force=True)
        record = _with_pid(record)

        def ready() -> None:
            directory.write(record)
            _say(writing, {"pid": record.pid})

        _serve(directory, record, options, ready)
        status = 0
    except OverlayError as exc:
        if not _say(writing, {"error": exc.message, "hint": exc.hint}):
            log.error("%s", exc)
    except BaseException as exc:
        traceback.print_exc()
        _say(writing, {"bug": repr(exc)})
    finally:
        logging.shutdown()
        os._exit(status)


def _with_pid(record: Record) -> Record:
    import msgspec

    return msgspec.structs.replace(record, pid=os.getpid())


def _say(writing: int, answer: dict[str, object]) -> bool:
    """Answer the process that waits; False when it was answered before, or is gone."""
    try:
        os.write(writing, json.dumps(answer).encode())
        os.close(writing)
    except OSError as exc:
        if exc.errno not in (errno.EBADF, errno.EPIPE):
            raise
        return False
    return True


# -- afterwards ------------------------------------------------------------------------


def mounts(store: Store, *, kept: bool = False) -> list[MountRecord]:
    """The mounts of *store*, the oldest first; with *kept* those whose changes stayed, too."""
    found = [MountRecord.of(*pair) for pair in directories(store.root)]
    return [record for record in found if kept or record.state != "kept"]


def unmount(
    store: Store, mountpoint: Path, *, lazy: bool = False, discard: bool = False
) -> Path | None:
    """Unmount what is mounted at *mountpoint*, also when its daemon died.

    Returns once the daemon has written everything and is gone, at once if *lazy*.  The
    answer is the upper directory if it has changes to keep, None if not; *discard* removes
    the changes of an upper directory of the store.  Raises MountFailed.
    """
    path = _absolute(mountpoint)
    found = [(d, r) for d, r in directories(store.root) if Path(r.mountpoint) == path]
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


def changes(store: Store, mountpoint: Path) -> Iterator[Change]:
    """What was changed at *mountpoint* since it was mounted, from the upper directory."""
    path = _absolute(mountpoint)
    for directory, record in directories(store.root):
        if Path(record.mountpoint) == path and directory.locked:
            return _changes(record)
    raise MountFailed(
        f"{mountpoint}: nothing of pyoverlay is mounted there",
        hint="`pyoverlay ps` lists the mounts",
    )


def _changes(record: Record) -> Iterator[Change]:
    if record.upper is None:
        return
    upper = Layer(Path(record.upper), Format(record.format), 0)
    lower = Tree(_open_layers(record), None)
    try:
        yield from compare(upper, lower)
    finally:
        lower.close()
        upper.close()
        for layer in lower.layers:
            layer.close()
