"""The store: images by name, their layers unpacked.

What only an image that is added needs is imported then: it takes longer than all the rest.
"""

import errno
import logging
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Self

from msgspec import Struct

from overlayfs.errors import ImageNotFound, InvalidImage, OverlayError
from overlayfs.image.descriptor import Descriptor
from overlayfs.image.digest import Digest
from overlayfs.image.json import decode, encode
from overlayfs.image.source import ImageSource
from overlayfs.layers.failure import explain
from overlayfs.linux import files, locks
from overlayfs.printable import printable
from overlayfs.store import records
from overlayfs.store.chains import steps
from overlayfs.store.drafts import Drafts
from overlayfs.store.kept import KeptImage, StoredImage, StoredLayer
from overlayfs.store.layers import Layers
from overlayfs.store.lookup import find
from overlayfs.store.names import Names, called, legal_name, name_of
from overlayfs.store.paths import Paths, default_root, tree
from overlayfs.store.reserve import Reserve, is_full
from overlayfs.union.names import Format

if TYPE_CHECKING:
    from overlayfs.store.adding import Progress
    from overlayfs.store.checking import Damage
    from overlayfs.store.figures import Figures
    from overlayfs.store.removing import Planned, Pruning, Removed, Remover
    from overlayfs.store.sweep import Garbage

__all__ = ["Store", "StoredImage", "StoredLayer"]

log = logging.getLogger(__name__)

_VERSION = 1


class _Settings(Struct, frozen=True):
    version: int
    format: Format


class Store:
    """One folder of images.  Several processes may use it at once.

    Whatever has its final name is complete, and what a process was writing when it died is
    removed by the next that adds: a store needs no repair.
    """

    def __init__(self, paths: Paths, fmt: Format) -> None:
        self._paths = paths
        self.root = paths.root
        self.format = fmt
        self.scratch = paths.scratch
        self._layers = Layers(paths)
        self._names = Names(paths)
        self._drafts = Drafts(paths.drafts, paths.lock("drafts"))
        self._reserve = Reserve(paths.reserve)

    @classmethod
    def open(cls, root: Path | None = None) -> Self:
        """The store below *root* (see ``default_root``), made if it is not there.

        Raises OverlayError when that cannot be, or when it was made by a newer version or
        in a format that this user cannot read.
        """
        paths = Paths((root or default_root()).absolute())
        try:
            _check_owner(paths.root)
            if not paths.settings.exists():
                _create(paths)
            found = decode(paths.settings.read_bytes(), _Settings, str(paths.settings))
        except OSError as exc:
            where = exc.filename or paths.root
            raise OverlayError(
                f"store {paths.root}: {os.fsdecode(where)}: {exc.strerror}",
                hint="choose another place with --root or PYOVERLAY_ROOT",
            ) from exc
        if found.version != _VERSION:
            raise OverlayError(f"store {paths.root}: made by another version of pyoverlay")
        if found.format is Format.KERNEL and os.geteuid() != 0:
            raise OverlayError(
                f"store {paths.root}: belongs to root",
                hint="choose your own with --root or PYOVERLAY_ROOT",
            )
        return cls(paths, found.format)

    # -- adding ------------------------------------------------------------------------

    def add(self, source: ImageSource, *, progress: "Progress | None" = None) -> StoredImage:
        """The image *source* in the store, under its names; what is there is not read again.

        Raises InvalidImage for an image that is damaged or hostile and OverlayError when the
        disk is full; the store is as it was then.  A second process that adds the same
        image waits for the first and finds it done.
        """
        try:
            self._drafts.sweep()
            self._reserve.fill()
            return self._existing(source) or self._take(source, progress)
        except OSError as exc:
            raise explain(exc, f"store {self.root}") from exc

    def _existing(self, source: ImageSource) -> StoredImage | None:
        with self._in_use():
            descriptor = self._known(source)
            return None if descriptor is None else self._load(descriptor)

    def _known(self, source: ImageSource) -> Descriptor | None:
        """The descriptor of *source* when all of it is here, names included."""
        from overlayfs.store import adding

        chain = adding.image_steps(source)
        given = adding.manifest_of(source)
        here = [one for one in self._names.images() if self._fits(one, source)]
        for one in here:
            names = {name_of(other) for other in here if other.digest == one.digest}
            if not names.issuperset(source.names):
                continue
            if adding.missing(self._layers, source, chain):
                continue
            blobs = [adding.usable(self._layers, layer) for layer in source.layers]
            exact = given is not None and adding.is_kept(given, blobs)
            if exact and source.manifest and one.digest != Digest.of(source.manifest):
                continue
            if all(self._layers.find(step) for step in chain):
                return one
        return None

    def _fits(self, descriptor: Descriptor, source: ImageSource) -> bool:
        try:
            return KeptImage(self._paths, descriptor).config_digest == source.config_digest
        except InvalidImage:
            return False

    def _take(self, source: ImageSource, progress: "Progress | None") -> StoredImage:
        from overlayfs.store import adding

        with self._drafts.fresh() as drafts:
            one = adding.Adding(self._paths, self._layers, self.format, source, drafts)
            # Until it has its name, nothing that it needs may go: what is there has the locks
            # of its diff ids, what gets a name now has the store's.
            with adding.held(one.locks()):
                one.prepare(progress)
                with self._in_use():
                    descriptor = one.publish()
                    self._names.record(source.names, descriptor, drafts)
                    return self._load(descriptor)

    def settle(self) -> None:
        """Bring everything that was added since the machine started to the disk, and note it.

        Until then a power cut may cost the unpacked layers, which are made again from their
        blobs, and the blobs, which must be added again.  Raises OverlayError when the disk
        refuses, and then nothing is noted.
        """
        try:
            self._settle()
        except OSError as exc:
            raise explain(exc, f"store {self.root}: bringing it to the disk") from exc

    def _settle(self) -> None:
        if self._layers.is_settled():
            return
        changed = self._layers.changed()
        unsettled = self._layers.unsettled()
        if not unsettled:
            if changed is not None:
                with self._drafts.fresh() as drafts:
                    self._layers.note_settled(changed, drafts)
            return
        fd = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            files.syncfs(fd)
        finally:
            os.close(fd)
        with self._drafts.fresh() as drafts:
            for path, known in unsettled:
                with locks.exclusive(self._paths.lock(known.diff_id.hex)):
                    self._layers.settled(path, known, drafts)

    # -- using -------------------------------------------------------------------------

    def _in_use(self) -> locks.Shared:
        """Nothing is taken away meanwhile."""
        return locks.Shared(self._paths.locks)

    @contextmanager
    def mounting(self, image: StoredImage) -> Iterator[tuple[StoredImage, locks.Shared]]:
        """*image* with all its layers, which stay until it is written down that it is mounted.

        If some are gone since it was found, they are unpacked again.  A child that goes on
        releases its copy of the lock.
        """
        while True:
            with self._in_use() as held:
                there = {path.name for path in self._paths.layers.iterdir()}
                if all(layer.path.parent.name in there for layer in image.layers):
                    yield image, held
                    return
            image = self.image(str(image.manifest.digest))

    @contextmanager
    def reading(self, image: StoredImage) -> Iterator[None]:
        """Keep *image*, its blobs and unpacked layers, though it may lose its names meanwhile.

        For who reads longer than a moment.  Raises ImageNotFound when it is gone already.
        """
        with ExitStack() as stack:
            blobs = [
                image.manifest.digest,
                image.id,
                *(layer.blob.digest for layer in image.layers),
            ]
            with self._in_use():
                for path in (
                    *(self._paths.blob(digest) for digest in dict.fromkeys(blobs)),
                    *(layer.path.parent for layer in image.layers),
                ):
                    try:
                        stack.enter_context(locks.Shared(path))
                    except FileNotFoundError as exc:
                        raise ImageNotFound(f"image {image.id.short}: it was removed") from exc
            yield

    # -- keeping order -----------------------------------------------------------------

    def tag(self, reference: str, names: Iterable[str]) -> StoredImage:
        """Let *names* mean the image *reference* too; the image.

        Whatever image had one of them keeps its others, or stays without a name.  Raises
        ImageNotFound, AmbiguousImage, and OverlayError for a name that is not legal.
        """
        wanted = [legal_name(name) for name in names]
        try:
            with self._drafts.fresh() as drafts, self._in_use():
                descriptor = find(self._paths, self._names.images(), reference).descriptor
                self._names.record(wanted, descriptor, drafts)
                return self._load(descriptor)
        except OSError as exc:
            raise explain(exc, f"store {self.root}") from exc

    def untag(self, names: Iterable[str]) -> list[str]:
        """Take *names* from their images, which stay; the names as they were written down.

        Raises ImageNotFound when one of them is none, and then takes none.
        """
        taken = []
        try:
            with self._drafts.fresh() as drafts, self._in_use():
                known = self._names.images()
                for name in names:
                    written = find(self._paths, known, name).name
                    if written is None:
                        raise ImageNotFound(
                            f"{printable(name)}: not a name",
                            hint="`pyoverlay rmi` removes an image by its id",
                        )
                    taken.append(written)
                self._names.untag(taken, drafts)
        except OSError as exc:
            raise explain(exc, f"store {self.root}") from exc
        return list(dict.fromkeys(taken))

    def remove(self, reference: str, *, force: bool = False) -> "Removed":
        """Remove the image *reference*, see ``Remover.remove``; ImageNotFound, ImageInUse."""
        return self._freeing(lambda: self._remover().remove(reference, force=force))

    def planned(self, pruning: "Pruning") -> "Planned":
        """What ``prune`` would take away now."""
        return self._remover().plan(pruning)

    def sizes(self, garbage: "Garbage") -> dict[str, dict[Path, int]]:
        """Where *garbage* lies and how many bytes of the disk that takes, by kind."""
        from overlayfs.store import disk

        return {
            kind: {path: disk.used(path) for path in found}
            for kind, found in garbage.paths(self._paths).items()
        }

    def prune(self, pruning: "Pruning") -> "Removed":
        """Take away what nothing uses, and of images what *pruning* says."""
        return self._freeing(lambda: self._remover().prune(pruning))

    def _freeing(self, free: "Callable[[], Removed]") -> "Removed":
        """Do *free*, also where the disk is full."""
        try:
            try:
                return free()
            except OSError as exc:
                if not (is_full(exc) and self._reserve.give_up()):
                    raise
                return free()
            finally:
                self._reserve.fill()
        except OSError as exc:
            raise explain(exc, f"store {self.root}") from exc

    def figures(self) -> "Figures":
        """How much of the disk everything takes; every file is looked at."""
        from overlayfs.store.figures import figures

        with self._in_use():
            return figures(self._paths, self._names.entries(), self._drafts)

    def verify(self, images: Iterable[str] = (), *, deep: bool = False) -> "list[Damage]":
        """What is damaged of *images*, or of all: blobs are hashed, unpacked layers looked at.

        *deep*: everything is unpacked once more and compared.  Raises ImageNotFound.
        """
        from overlayfs.store.checking import Check

        known = self._names.images()
        wanted = {find(self._paths, known, image).descriptor.digest for image in images}
        entries = [one for one in known if not wanted or one.digest in wanted]
        with ExitStack() as stack:
            again = None
            if deep:
                draft = stack.enter_context(self._drafts.fresh())
                inner = Paths(draft / "store")
                _create(inner)
                again = type(self)(inner, self.format)
            found = list(Check(self._paths, deep=again).run(entries))
        # What was removed meanwhile is not damaged.
        still = {one.digest for one in self._names.images()}
        return [one for one in found if one.entry in still]

    def repair(self, damage: "Sequence[Damage]", source: ImageSource | None = None) -> list[str]:
        """Put blobs right from *source*, or without it unpacked layers; a line about each."""
        from overlayfs.store.repairing import Repair

        repair = Repair(self, self._paths, self._names, self._drafts)
        return repair.blobs(damage, source) if source else repair.trees(damage)

    def _remover(self) -> "Remover":
        from overlayfs.store.removing import Remover

        return Remover(self._paths, self._names, self._drafts)

    # -- finding -----------------------------------------------------------------------

    def image(self, reference: str) -> StoredImage:
        """The image called *reference*: a name, an id of two digits or more, or a digest.

        A name without a tag means ``latest``.  Raises ImageNotFound, and AmbiguousImage when
        a short id fits several.  Layers that did not survive a power cut are unpacked again.
        """
        try:
            with self._in_use():
                descriptor = find(self._paths, self._names.images(), reference).descriptor
                image = self._load(descriptor)
                if len(image.layers) == len(image.config.diff_ids):
                    return image
                kept = KeptImage(self._paths, descriptor)
            return self.add(kept)
        except InvalidImage as exc:
            raise OverlayError(
                f"{printable(reference)}: the store has lost a part of it ({exc.message})",
                hint="add it again from where it came",
            ) from exc

    def images(self) -> list[StoredImage]:
        """All images; those that the store has lost parts of are left out, with a warning."""
        found = []
        with self._in_use():
            different = {one.digest: one for one in reversed(self._names.images())}
            for descriptor in reversed(different.values()):
                try:
                    found.append(self._load(descriptor))
                except InvalidImage as exc:
                    name = name_of(descriptor) or descriptor.digest
                    log.warning("image %s: %s", name, exc.message)
        return found

    def _load(self, descriptor: Descriptor) -> StoredImage:
        """The image that *descriptor* means, with those of its layers that are unpacked."""
        kept = KeptImage(self._paths, descriptor)
        layers = []
        for source, step in zip(kept.layers, steps(kept.parsed.diff_ids), strict=True):
            found = self._layers.find(step)
            if found is None:
                break
            path, known = found
            layers.append(
                StoredLayer(
                    step.diff_id,
                    source.descriptor,
                    tree(path),
                    known.size,
                    known.entries,
                    known.aliases,
                )
            )
        return StoredImage(
            tuple(_names(self._names.images(), descriptor.digest)),
            kept.config_digest,
            called(descriptor, None),
            kept.parsed,
            tuple(layers),
            self.format,
        )


def _names(known: Iterable[Descriptor], digest: Digest) -> list[str]:
    return [name for one in known if one.digest == digest and (name := name_of(one))]


def _check_owner(root: Path) -> None:
    """Refuse a folder of another user: who may write there could lead us anywhere."""
    try:
        owner = root.stat().st_uid
    except FileNotFoundError:
        return
    if owner not in (0, os.geteuid()):
        raise OverlayError(
            f"store {root}: belongs to user {owner}",
            hint="choose your own with --root or PYOVERLAY_ROOT",
        )


def _create(paths: Paths) -> None:
    paths.root.mkdir(mode=0o700, parents=True, exist_ok=True)
    for folder in paths.directories():
        folder.mkdir(parents=True, exist_ok=True)
    # Private wherever the store lies: layers hold suid files, devices, and secrets.
    for folder in (paths.layers.parent, paths.blobs, paths.drafts, paths.scratch):
        folder.chmod(0o700)
    for folder in (paths.layers.parent, paths.drafts):
        _drop_default_acl(folder)
    with Drafts(paths.drafts, paths.lock("drafts")).fresh() as drafts:
        Names(paths).create(drafts)
        settings = _Settings(_VERSION, _probe(drafts))
        records.publish(paths.settings, encode(settings), through=drafts)
    Reserve(paths.reserve).fill()


def _drop_default_acl(folder: Path) -> None:
    """Every file made below would inherit it, and show it as the image's."""
    try:
        os.removexattr(folder, "system.posix_acl_default")
    except OSError as exc:
        if exc.errno not in (errno.ENODATA, errno.ENOTSUP):
            raise


def _probe(folder: Path) -> Format:
    """The kernel's format where attributes and devices of its kind can be made."""
    probe = folder / "probe"
    probe.mkdir()
    device = probe / "device"
    try:
        os.setxattr(probe, Format.KERNEL.opaque, b"y")
        os.mknod(device, stat.S_IFCHR | 0o600, os.makedev(1, 3))
        os.chown(device, 1, 1)
    except OSError as exc:
        log.debug("%s: not the kernel's format: %s", folder, exc)
        return Format.USER
    else:
        return Format.KERNEL
    finally:
        device.unlink(missing_ok=True)
        probe.rmdir()
