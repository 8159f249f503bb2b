"""Taking names from images, and images from the store."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from overlayfs.errors import ImageInUse, InvalidImage
from overlayfs.image.config import ImageConfig
from overlayfs.image.descriptor import Descriptor
from overlayfs.image.digest import Digest
from overlayfs.linux import locks
from overlayfs.printable import printable
from overlayfs.store import lookup
from overlayfs.store.drafts import Drafts
from overlayfs.store.kept import KeptImage
from overlayfs.store.names import Names, name_of
from overlayfs.store.paths import Paths
from overlayfs.store.sweep import Garbage, Sweep, Swept, plan
from overlayfs.store.usage import Usage, mounts_of


@dataclass(frozen=True, slots=True)
class Removed:
    """The names that are gone, the ids of images that are, and what went with them.

    *kept_back* says why layers and blobs that nothing may use are there still, if they are.
    """

    untagged: tuple[str, ...] = ()
    images: tuple[Digest, ...] = ()
    swept: Swept = field(default_factory=Swept)
    kept_back: str = ""


@dataclass(frozen=True, slots=True)
class Pruning:
    """What to take away besides what nothing uses.

    Images without a name, or with *every* all that are not mounted, as far as *takes* says
    yes; with *kept* the changes of mounts that have ended.
    """

    every: bool = False
    kept: bool = False
    takes: Callable[[ImageConfig], bool] = lambda config: True


@dataclass(frozen=True, slots=True)
class Unneeded:
    """An image that is to go, under all its *names*."""

    descriptor: Descriptor
    id: Digest
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Planned:
    """What a prune would take away."""

    images: tuple[Unneeded, ...]
    garbage: Garbage


class Remover:
    """Takes away from one store, which it holds alone while anything loses its name."""

    def __init__(self, paths: Paths, names: Names, drafts: Drafts) -> None:
        self._paths = paths
        self._names = names
        self._drafts = drafts

    # -- one image ---------------------------------------------------------------------

    def remove(self, reference: str, *, force: bool) -> Removed:
        """Remove the image *reference*, or that name alone if it has others, as docker does.

        Raises ImageInUse, unless *force*, for an id with several names and for an image that
        is mounted or whose changes are kept.  Even then the unpacked layers of a mount stay,
        until it is unmounted and the store is pruned.
        """
        sweep = Sweep(self._paths, self._drafts)
        with locks.alone(self._paths.locks):
            known = self._names.images()
            meant = lookup.find(self._paths, known, reference)
            image_id = lookup.id_of(self._paths, meant.descriptor)
            same = [one for one in known if lookup.id_of(self._paths, one) == image_id]
            names = _names(same)
            if meant.name is not None and len(names) > 1:
                with self._drafts.fresh() as drafts:
                    self._names.untag({meant.name}, drafts)
                return Removed((meant.name,))
            if not force:
                self._check(reference, image_id, names)
            garbage = self._take(same, sweep, kept=False)
        return Removed(names, (image_id,), sweep.empty(garbage), garbage.kept_back)

    def _check(self, reference: str, image_id: Digest, names: tuple[str, ...]) -> None:
        if len(names) > 1:
            raise ImageInUse(
                f"{printable(reference)}: the image has several names: "
                + ", ".join(printable(name) for name in names),
                hint="remove them one by one, or all of them with --force",
            )
        for mount in mounts_of(self._paths):
            if mount.record.image_id == str(image_id):
                raise ImageInUse(
                    f"{printable(reference)}: in use: {printable(mount.says())}",
                    hint=f"run `pyoverlay umount {mount.record.mountpoint}` before"
                    if mount.live
                    else "`pyoverlay prune --kept` removes such changes",
                )

    # -- all that is not needed --------------------------------------------------------

    def plan(self, pruning: Pruning) -> Planned:
        """What ``prune`` would take away now."""
        with locks.Shared(self._paths.locks):
            images = self._unneeded(pruning)
            gone = {one.descriptor.digest for one in images}
            stay = (one for one in self._names.entries() if one.digest not in gone)
            usage = Usage.of(self._paths, stay)
            garbage = plan(self._paths, usage, self._drafts, kept=pruning.kept)
        return Planned(tuple(images), garbage)

    def prune(self, pruning: Pruning) -> Removed:
        """Take away the images that are meant, and all that no image and no mount uses."""
        sweep = Sweep(self._paths, self._drafts)
        with locks.alone(self._paths.locks):
            images = self._unneeded(pruning)
            garbage = self._take([one.descriptor for one in images], sweep, kept=pruning.kept)
        names = tuple(name for one in images for name in one.names)
        ids = tuple(dict.fromkeys(one.id for one in images))
        return Removed(names, ids, sweep.empty(garbage), garbage.kept_back)

    def _unneeded(self, pruning: Pruning) -> list[Unneeded]:
        known = self._names.images()
        mounts = [one for one in mounts_of(self._paths) if one.live or not pruning.kept]
        used = {one.record.image_id for one in mounts}
        found = []
        for descriptor in {one.digest: one for one in known}.values():
            names = _names(one for one in known if one.digest == descriptor.digest)
            if names and not pruning.every:
                continue
            try:
                image = KeptImage(self._paths, descriptor)
            except InvalidImage:
                continue  # damaged: it goes when somebody says so by name
            if str(image.config_digest) not in used and pruning.takes(image.parsed):
                found.append(Unneeded(descriptor, image.config_digest, names))
        return found

    # -- both --------------------------------------------------------------------------

    def _take(self, images: Sequence[Descriptor], sweep: Sweep, *, kept: bool) -> Garbage:
        """Unlist *images*, and let all that nothing uses then lose its name."""
        if images:
            with self._drafts.fresh() as drafts:
                self._names.forget({one.digest for one in images}, drafts)
        usage = Usage.of(self._paths, self._names.entries())
        garbage = plan(self._paths, usage, self._drafts, kept=kept)
        sweep.unname(garbage)
        return garbage


def _names(descriptors: Iterable[Descriptor]) -> tuple[str, ...]:
    found = (name_of(one) for one in descriptors)
    return tuple(dict.fromkeys(name for name in found if name is not None))
