"""A stack of directories becomes a mounted file system.

The event loop and pyfuse3 take a tenth of a second to import, so only what serves does.
"""

import logging
import os
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from overlayfs.errors import MountFailed
from overlayfs.layers.lower import Layer, Links
from overlayfs.layers.recognise import Writing, has_markers, recognise
from overlayfs.layers.upper import Birth, Upper, bare
from overlayfs.linux import fds, mounts, notify
from overlayfs.linux.namespaces import is_root
from overlayfs.tree.numbers import UPPER_NUMBER
from overlayfs.tree.tree import Tree
from overlayfs.union.attrs import Kind
from overlayfs.union.names import Format
from overlayfs.union.policy import PLAIN, Policy
from overlayfs.union.presentation import AS_IT_IS, Presentation
from overlayfs.union.provenance import Labels
from overlayfs.waiting import AS_IT_PAYS, Waiting

if TYPE_CHECKING:
    from overlayfs.tree.filesystem import Filesystem


log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Stack:
    """What is to be mounted: *lowers* topmost first, beneath *upper* if there is one.

    *work* goes with *upper*; both are made if they are missing.  *links* is what
    ``layers.lower.Layer`` wants for the lower directories.  With *foreign* the
    directories may be of other formats than *format*: each is looked at.  By *labels* files
    tell which layer they are from, the base being number 1.
    """

    lowers: tuple[Path, ...]
    upper: Path | None
    work: Path | None
    format: Format
    links: Links = lambda root: ()
    foreign: bool = False
    policy: Policy = PLAIN
    presentation: Presentation = AS_IT_IS
    labels: Labels | None = None

    def check(self, mountpoint: Path) -> None:
        """Refuse what overlaps, so that no daemon waits for itself or changes what it reads.

        Raises MountFailed.  The paths must be absolute.
        """
        changing = [path for path in (self.upper, self.work) if path is not None]
        for path in changing:
            for lower in self.lowers:
                if _is_in(path, lower) or _is_in(lower, path):
                    raise MountFailed(f"{path}: overlaps the lower directory {lower}")
        if self.upper and self.work:
            upper, work = self.upper, self.work
            if _is_in(upper, work) or _is_in(work, upper):
                raise MountFailed(f"{work}: overlaps the upper directory {upper}")
        for path in (*self.lowers, *changing):
            if _is_in(mountpoint, path):
                raise MountFailed(
                    f"{mountpoint}: lies in {path}, which is to be mounted there",
                    hint="choose a mount point outside of it",
                )

    def open(self) -> "Filesystem":
        """The live file system, with everything opened that it will read."""
        from overlayfs.tree.filesystem import Filesystem

        # The base is number 1, whatever is stacked on it.
        count = len(self.lowers)
        try:
            layers = [
                self._open_lower(path, count - above) for above, path in enumerate(self.lowers)
            ]
            upper = self._open_upper(layers) if self.upper else None
        except OSError as exc:
            raise MountFailed(f"{exc.filename}: {exc.strerror}") from exc
        narrow = self.presentation.narrow
        tree = Tree(layers, upper, descriptors=fds.raise_limit() // 4, narrow=narrow)
        return Filesystem(tree, self.labels)

    def _open_lower(self, path: Path, number: int) -> Layer:
        fmt, markers = self._writing(path)
        ids = self.presentation.ids
        # Where the mount maps, the layer shows what others get to see already.
        mapped = ids if not ids.plain and mounts.is_idmapped(path) else None
        # A layer of an image could name any path of another one.
        follows = self.foreign and not markers and self.policy.redirects.in_lowers
        return Layer(path, fmt, number, self.links, markers=markers, ids=mapped, follows=follows)

    def _writing(self, path: Path) -> Writing:
        if self.foreign:
            return recognise(path, self.format)
        return Writing(self.format, has_markers(path))

    def _open_upper(self, layers: list[Layer]) -> Upper:
        assert self.upper is not None
        assert self.work is not None
        fresh = not self.upper.exists()
        self.upper.mkdir(mode=0o755, parents=True, exist_ok=True)
        self.work.mkdir(mode=0o700, parents=True, exist_ok=True)
        fmt, markers = self._writing(self.upper)
        upper = Upper(
            self.upper,
            self.work,
            fmt,
            UPPER_NUMBER,
            markers=markers,
            policy=self.policy,
        )
        if fresh:
            bare(upper.root)
            # The root that is seen has the attributes of the topmost directory.
            top = layers[0]
            seen = top.attrs_of(top.root)
            known = top.xattrs(top.root)
            upper.dress(
                upper.root, Birth(Kind.DIRECTORY, seen.mode, seen.uid, seen.gid, xattrs=known)
            )
            upper.utime(upper.root, seen.atime_ns, seen.mtime_ns)
        try:
            upper.keep_index(layers)
        except BaseException:
            upper.close()
            raise
        return upper


def _is_in(path: Path, folder: Path) -> bool:
    """What ``Path.is_relative_to`` says of absolute paths, soon enough for hundreds of layers."""
    inner, outer = str(path), str(folder)
    return inner == outer or inner.startswith(outer if outer == "/" else f"{outer}/")


def serve(
    stack: Stack,
    mountpoint: Path,
    options: list[str],
    ready: Callable[[], None] = notify.ready,
    *,
    aside: Callable[[], None] | None = None,
    waiting: Waiting = AS_IT_PAYS,
) -> None:
    """Mount *stack*, call *ready* when it answers, return when it is unmounted and synced.

    A service manager is told, unless *ready* says something else.  *options* are those of
    fuse(8).  *aside* runs in a thread once it answers.  Raises MountFailed.
    """
    from overlayfs.fuse.session import serve as serve_fuse

    def mounted() -> None:
        if late:
            remount(mountpoint, options)
        ready()

    def beside() -> None:
        if not os.geteuid() and not Path("/sys").is_relative_to(mountpoint):
            _read_ahead(mountpoint)
        if aside is not None:
            aside()

    late = _UNKNOWN_TO_LIBFUSE.intersection(options)
    if late and os.geteuid():
        raise MountFailed(f"{', '.join(late)}: only root can mount with that")
    known = [option for option in options if option not in late]
    os.umask(0)
    filesystem = stack.open()
    try:
        serve_fuse(
            filesystem,
            mountpoint,
            known,
            mounted,
            stack.presentation,
            aside=beside,
            plain=waiting.plain,
            busy_poll=waiting.busy_poll,
        )
    finally:
        filesystem.close()


# Flags of mount(2) that libfuse does not pass on, so they are set a moment later.
_UNKNOWN_TO_LIBFUSE = {"nosymfollow"}


# The kernel's own 128 make a request for every few pages of a large file.  Above this the
# bytes of an answer do not stay in the processor's cache between its two copies.
_READ_AHEAD_KIB = 512


def _read_ahead(mountpoint: Path) -> None:
    try:
        mounts.read_ahead(mountpoint, _READ_AHEAD_KIB)
    except OSError as exc:
        # In a container /sys may be read-only.  It works without.
        log.debug("%s: read-ahead stays as it is: %s", mountpoint, exc)


def remount(mountpoint: Path, options: Collection[str]) -> None:
    """Change the flags of a mounted file system to *options* of mount(8); MountFailed."""
    try:
        mounts.remount(mountpoint, options)
    except OSError as exc:
        raise MountFailed(f"{mountpoint}: {exc.strerror}") from exc


def native_format() -> Format:
    """The format in which this process can write most.

    Root of a user namespace has real owners for the ids that are mapped.
    """
    if os.geteuid():
        return Format.USER
    return Format.KERNEL if is_root() else Format.USERXATTR


def fuse_options(
    fsname: str,
    *,
    read_only: bool,
    allow_other: bool | None,
    subtype: str = "pyoverlay",
    extra: tuple[str, ...] = (),
) -> list[str]:
    """The options of fuse(8) for a mount called *fsname* in /proc/mounts.

    Its type there is ``fuse.`` and *subtype*.

    Root's mounts are for everybody (unless *allow_other* is False), and the kernel checks
    modes; devices and suid programs work, as in a container's root file system.  A plain
    user's mount is his alone, and he may do everything in it, as root may in his.
    """
    chosen = [f"fsname={_one_word(fsname)}", f"subtype={_one_word(subtype)}", *extra]
    root = os.geteuid() == 0
    others = root if allow_other is None else allow_other
    if others:
        chosen.append("allow_other")
    if root or others:
        chosen.append("default_permissions")
    if root:
        chosen += [flag for flag in ("suid", "dev") if f"no{flag}" not in extra]
    if read_only:
        chosen.append("ro")
    return chosen


def _one_word(name: str) -> str:
    """*name* without what libfuse, which separates its options by commas, would split."""
    return "".join(c if c.isascii() and c.isprintable() and c not in ",\\" else "_" for c in name)
