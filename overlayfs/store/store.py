"""The store: images by name, their layers unpacked.

What only an image that is added needs is imported then: it takes longer than all the rest.
"""

import errno
import logging
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Self

from msgspec import Struct

from overlayfs.errors import AmbiguousImage, ImageNotFound, InvalidImage, OverlayError
from overlayfs.image.descriptor import Descriptor
from overlayfs.image.digest import Digest
from overlayfs.image.json import decode, encode
from overlayfs.image.reference import Reference
from overlayfs.image.source import ImageSource
from overlayfs.layers.failure import explain
from overlayfs.linux import files, locks
from overlayfs.printable import printable
from overlayfs.store import records
from overlayfs.store.chains import steps
from overlayfs.store.drafts import Drafts
from overlayfs.store.kept import KeptImage, StoredImage, StoredLayer
from overlayfs.store.layers import Layers
from overlayfs.store.names import Names, called, digests, name_of
from overlayfs.store.paths import Paths, default_root, tree
from overlayfs.union.names import Format

if TYPE_CHECKING:
    from overlayfs.store.adding import Progress

__all__ = ["Store", "StoredImage", "StoredLayer"]

log = logging.getLogger(__name__)

_VERSION = 1
_SHORTEST_ID = 2


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

    @classmethod
    def open(cls, root: Path | None = None) -> Self:
        """The store below *root* (see ``default_root``), made if it is not there.

        Raises OverlayError when that cannot be, or when it was made by a newer version or
        in a format that this user cannot read.
        """
        paths = Paths((root or default_root()).absolute())
        try:
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
            descriptor = self._known(source) or self._take(source, progress)
        except OSError as exc:
            raise explain(exc, f"store {self.root}") from exc
        return self._load(descriptor)

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

    def _take(self, source: ImageSource, progress: "Progress | None") -> Descriptor:
        from overlayfs.store import adding

        with self._drafts.fresh() as drafts:
            one = adding.Adding(self._paths, self._layers, self.format, source, drafts)
            with adding.held(one.locks()):
                descriptor = one.run(progress)
            self._names.record(source.names, descriptor, drafts)
        return descriptor

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

    # -- finding -----------------------------------------------------------------------

    def image(self, reference: str) -> StoredImage:
        """The image called *reference*: a name, an id of two digits or more, or a digest.

        A name without a tag means ``latest``.  Raises ImageNotFound, and AmbiguousImage when
        a short id fits several.  Layers that did not survive a power cut are unpacked again.
        """
        descriptor = self._find(reference)
        try:
            image = self._load(descriptor)
            if len(image.layers) == len(image.config.diff_ids):
                return image
            return self.add(KeptImage(self._paths, descriptor))
        except InvalidImage as exc:
            raise OverlayError(
                f"{printable(reference)}: the store has lost a part of it ({exc.message})",
                hint="add it again from where it came",
            ) from exc

    def images(self) -> list[StoredImage]:
        """All images; those that the store has lost parts of are left out, with a warning."""
        found = []
        different = {one.digest: one for one in reversed(self._names.images())}
        for descriptor in reversed(different.values()):
            try:
                found.append(self._load(descriptor))
            except InvalidImage as exc:
                log.warning("image %s: %s", name_of(descriptor) or descriptor.digest, exc.message)
        return found

    def _find(self, reference: str) -> Descriptor:
        known = self._names.images()
        wanted = {reference}
        try:
            parsed = Reference.parse(reference)
        except OverlayError:
            parsed = None
        if parsed is not None:
            wanted |= {parsed.familiar, parsed.canonical}
        fitting = [one for one in known if name_of(one) in wanted]
        if not fitting and parsed is not None and parsed.digest is not None:
            fitting = [one for one in known if one.digest == parsed.digest]
        if not fitting:
            fitting = [one for one in known if self._is_called(one, reference)]
        different = digests(fitting)
        if not different:
            raise ImageNotFound(
                f"{printable(reference)}: no image of that name or id in the store {self.root}",
                hint="`pyoverlay images` lists the images in the store",
            )
        if len(different) > 1:
            raise AmbiguousImage(
                f"{printable(reference)}: several images have an id that begins so:\n"
                + "\n".join(_line(one) for one in fitting)
            )
        return fitting[0]

    def _is_called(self, descriptor: Descriptor, reference: str) -> bool:
        """Whether *reference* is the digest or a short form of the id of an image."""
        algorithm, colon, hexdigits = reference.rpartition(":")
        if colon and algorithm != "sha256":
            return False
        if len(hexdigits) < _SHORTEST_ID or hexdigits.strip("0123456789abcdef"):
            return False
        if descriptor.digest.hex == hexdigits:
            return True
        try:
            image = KeptImage(self._paths, descriptor)
        except InvalidImage:
            return False
        return image.config_digest.hex.startswith(hexdigits)

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
        )


def _names(known: Iterable[Descriptor], digest: Digest) -> list[str]:
    return [name for one in known if one.digest == digest and (name := name_of(one))]


def _line(descriptor: Descriptor) -> str:
    return f"  {descriptor.digest.hex[:12]} {printable(name_of(descriptor) or '(no name)')}"


def _create(paths: Paths) -> None:
    paths.root.mkdir(mode=0o700, parents=True, exist_ok=True)
    for folder in paths.directories():
        folder.mkdir(parents=True, exist_ok=True)
    # Private wherever the store lies: layers hold suid files, and devices.
    for folder in (paths.layers.parent, paths.drafts):
        folder.chmod(0o700)
        _drop_default_acl(folder)
    Names(paths).create()
    settings = _Settings(_VERSION, _probe(paths.drafts))
    records.publish(paths.settings, encode(settings), through=paths.root)


def _drop_default_acl(folder: Path) -> None:
    """Every file made below would inherit it, and show it as the image's."""
    try:
        os.removexattr(folder, "system.posix_acl_default")
    except OSError as exc:
        if exc.errno not in (errno.ENODATA, errno.ENOTSUP):
            raise


def _probe(folder: Path) -> Format:
    """The kernel's format where attributes and devices of its kind can be made."""
    probe = folder / f"probe{os.getpid()}"
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
