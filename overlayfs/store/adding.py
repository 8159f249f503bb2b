"""Taking an image in: only what is missing is read, and all of it appears, or nothing."""

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, Self

from msgspec.structs import replace

from overlayfs.archive.limits import Allowance
from overlayfs.errors import InvalidImage
from overlayfs.image.config import ImageConfig
from overlayfs.image.descriptor import Descriptor, MediaType, oci_twin
from overlayfs.image.digest import Digest
from overlayfs.image.manifest import Manifest
from overlayfs.image.source import ImageSource, LayerSource
from overlayfs.layers.complete import Below, Unsaid, complete, completion
from overlayfs.layers.lower import Layer
from overlayfs.layers.writer import Unpacked
from overlayfs.linux import fds, locks
from overlayfs.linux.boot import this_boot
from overlayfs.store import records
from overlayfs.store.chains import Step, steps
from overlayfs.store.intake import Intake, Taken
from overlayfs.store.kept import KeptLayer
from overlayfs.store.layers import Layers, name_of, own_name, write_record
from overlayfs.store.names import SOURCE_DIGEST
from overlayfs.store.paths import BLOB_MODE, Paths, tree
from overlayfs.store.pipes import Stopped
from overlayfs.store.records import BlobRecord
from overlayfs.union.names import Format

# Each layer has threads of its own besides; more of them only wait for the interpreter.
_MOST_WORKERS = 8
_PLAIN = (MediaType.OCI_LAYER, MediaType.OCI_FOREIGN)


class Progress(Protocol):
    """Who wants to know how far it is."""

    def begin(self, total: int | None) -> None:
        """*total* bytes will be read; not called when nothing has to be."""

    def advance(self, n: int) -> None:
        """*n* bytes more were read; called by any thread."""


@dataclass(slots=True)
class Job:
    """A layer that must be read: for its blob, its tree, or both."""

    source: LayerSource
    tree: bool
    taken: Taken | None = field(default=None)


class Adding:
    """One image on its way into the store."""

    def __init__(
        self, paths: Paths, layers: Layers, fmt: Format, source: ImageSource, drafts: Path
    ) -> None:
        self._paths = paths
        self._layers = layers
        self._format = fmt
        self._source = source
        self._drafts = drafts
        self._steps = image_steps(source)
        self._jobs: list[Job] = []
        self._blobs: dict[tuple[Digest, Digest | None], BlobRecord] = {}
        self._made: dict[str, Path] = {}  # final name -> draft
        self._chains: list[tuple[Step, str]] = []
        self._allowance: Allowance | None = None

    def locks(self) -> list[Path]:
        """The locks to hold meanwhile, in the order in which everybody takes them."""
        names = {step.diff_id.hex for step in self._steps}
        return [self._paths.lock(name) for name in sorted(names)]

    def prepare(self, progress: Progress | None) -> None:
        """Read what is missing; nothing has its name yet."""
        self._jobs = missing(self._layers, self._source, self._steps)
        if self._jobs:
            if progress:
                progress.begin(sum(job.source.size for job in self._jobs))
            self._read(progress.advance if progress else _ignore)
        self._arrange()

    def publish(self) -> Descriptor:
        """Give everything its name; the descriptor of the manifest.

        Each step leaves a store in which all names are true.
        """
        self._publish()
        return self._manifest()

    def _read(self, advance: Callable[[int], None]) -> None:
        self._allowance = Allowance(
            sum(job.source.size for job in self._jobs), "the image", into=self._paths.root
        )
        intake = Intake(self._format, advance, self._allowance)
        # The longest first, so that the last one to end did not begin last.
        jobs = sorted(self._jobs, key=lambda job: -job.source.size)
        workers = min(len(jobs), os.cpu_count() or 1, _MOST_WORKERS)
        with ThreadPoolExecutor(workers, "unpack") as threads:
            futures = []
            for number, job in enumerate(jobs):
                folder = self._drafts / f"layer{number}"
                futures.append(threads.submit(intake.take, job.source, folder, tree=job.tree))
            try:
                wait(futures, return_when=FIRST_EXCEPTION)
            finally:
                if not all(f.done() and not f.exception() for f in futures):
                    intake.stop()
                    threads.shutdown(cancel_futures=True)
        errors = [f.exception() for f in futures if not f.cancelled()]
        for error in errors:
            if error is not None and not isinstance(error, Stopped):
                raise error
        for job, future in zip(jobs, futures, strict=True):
            job.taken = future.result()

    # -- trees -------------------------------------------------------------------------

    def _arrange(self) -> None:
        """Find or complete the directory of every layer, base first."""
        drafts = {
            job.source.diff_id: job.taken for job in self._jobs if job.taken and job.taken.unpacked
        }
        with Lowers(self._format) as lowers:
            for step in self._steps:
                path = self._existing(step, lowers) or self._fresh(step, drafts, lowers)
                lowers.add(path)

    def _existing(self, step: Step, lowers: "Lowers") -> Path | None:
        found = self._layers.find(step)
        if found:
            return tree(found[0])
        for name in (own_name(step), step.diff_id.hex):
            if name in self._made:
                known: Unsaid | None = self._unpacked_of(step)
                path = self._made[name]
            else:
                found = self._layers.directory(name)
                known, path = (found[1], found[0]) if found else (None, Path())
            if known is None:
                continue
            if name == step.diff_id.hex and completion(known, lowers.below(known)):
                continue
            self._chains.append((step, name))
            return tree(path)
        return None

    def _unpacked_of(self, step: Step) -> Unpacked | None:
        for job in self._jobs:
            if job.taken and job.taken.unpacked and job.source.diff_id == step.diff_id:
                return job.taken.unpacked
        return None

    def _fresh(self, step: Step, drafts: dict[Digest, Taken], lowers: "Lowers") -> Path:
        taken = drafts.pop(step.diff_id, None) or self._again(step)
        assert taken.unpacked is not None
        under = lowers.below(taken.unpacked)
        needed = completion(taken.unpacked, under)
        if needed:
            what = f"layer {step.diff_id}"
            copied = self._allowance.write if self._allowance else _ignore
            complete(tree(taken.folder), self._format, needed, under, name=what, copied=copied)
        write_record(taken.folder, step, taken.unpacked, needed)
        name = name_of(step, needed)
        self._made[name] = taken.folder
        self._chains.append((step, name))
        return tree(taken.folder)

    def _again(self, step: Step) -> Taken:
        """Unpack a layer once more: it needs another completion than the one that is there."""
        for job in self._jobs:
            if job.taken and job.source.diff_id == step.diff_id:
                source = KeptLayer(step.diff_id, job.taken.blob, job.taken.blob_path)
                break
        else:
            blob = self._layers.blobs(step.diff_id)[0]
            descriptor = Descriptor(blob.media_type, blob.digest, blob.size)
            source = KeptLayer(step.diff_id, descriptor, self._paths.blob(blob.digest))
        folder = self._drafts / f"again{len(self._made)}"
        taken = Intake(self._format, _ignore).take(source, folder, tree=True)
        taken.blob_path.unlink()
        return taken

    # -- publishing --------------------------------------------------------------------

    def _publish(self) -> None:
        for job in self._jobs:
            assert job.taken is not None
            blob = job.taken.blob
            record = BlobRecord(blob.media_type, blob.digest, blob.size, this_boot())
            diff_id = job.source.diff_id
            self._layers.add_blob(diff_id, record, job.taken.blob_path, self._drafts)
        for name, draft in self._made.items():
            self._layers.publish(draft, name, self._drafts)
        for step, name in self._chains:
            self._layers.settle_chain(step, name, self._drafts)

    def _manifest(self) -> Descriptor:
        source = self._source
        blobs = [usable(self._layers, layer) for layer in source.layers]
        self._keep(source.config_digest, source.config)
        given = manifest_of(source)
        if source.manifest is not None and given is not None and is_kept(given, blobs):
            descriptor = source.manifest_descriptor
            digest = descriptor.digest if descriptor else Digest.of(source.manifest)
            self._keep(digest, source.manifest)
            return Descriptor(MediaType.OCI_MANIFEST, digest, len(source.manifest))
        data = rewritten(source, given, blobs).to_json()
        digest = Digest.of(data)
        self._keep(digest, data)
        described = source.manifest_descriptor
        annotations = {SOURCE_DIGEST: str(described.digest)} if described else None
        return Descriptor(MediaType.OCI_MANIFEST, digest, len(data), annotations=annotations)

    def _keep(self, digest: Digest, data: bytes) -> None:
        path = self._paths.blob(digest)
        try:
            if path.read_bytes() == data:
                return
        except FileNotFoundError:
            path.parent.mkdir(exist_ok=True)
        records.publish(path, data, through=self._drafts, mode=BLOB_MODE)


def image_steps(source: ImageSource) -> tuple[Step, ...]:
    """The layers of *source* as its configuration has them, InvalidImage if they disagree."""
    source.config_digest.check(source.config, "image configuration")
    diff_ids = ImageConfig.parse(source.config).diff_ids
    if diff_ids != tuple(layer.diff_id for layer in source.layers):
        raise InvalidImage("the layers are not those that the configuration names")
    return steps(diff_ids)


def missing(layers: Layers, source: ImageSource, chain: Sequence[Step]) -> list[Job]:
    """What of *source* must be read: blobs and trees that the store does not have."""
    jobs: dict[tuple[Digest, Digest | None], Job] = {}
    trees: set[Digest] = set()
    for layer, step in zip(source.layers, chain, strict=True):
        wants_tree = step.diff_id not in trees and not any(
            layers.directory(name) for name in (own_name(step), step.diff_id.hex)
        )
        blob = usable(layers, layer)
        if blob is not None and not wants_tree:
            continue
        key = (step.diff_id, layer.descriptor.digest if layer.descriptor else None)
        if key in jobs and not wants_tree:
            continue
        if wants_tree:
            trees.add(step.diff_id)
        jobs[key] = Job(layer, wants_tree)
    return list(jobs.values())


def usable(layers: Layers, layer: LayerSource) -> BlobRecord | None:
    """The blob of the store that serves for *layer*."""
    blobs = layers.blobs(layer.diff_id)
    wanted = layer.descriptor
    if wanted is None:
        return blobs[0] if blobs else None
    for blob in blobs:
        if blob.digest == wanted.digest:
            return blob
    plain = wanted.digest == layer.diff_id or oci_twin(wanted.media_type) in _PLAIN
    return blobs[0] if blobs and plain else None


def manifest_of(source: ImageSource) -> Manifest | None:
    """The manifest of *source*, if it has one."""
    if source.manifest is None:
        return None
    manifest = Manifest.parse(source.manifest)
    if len(manifest.layers) != len(source.layers):
        raise InvalidImage("manifest: not as many layers as in the configuration")
    return manifest


def is_kept(manifest: Manifest, blobs: Sequence[BlobRecord | None]) -> bool:
    """Whether *manifest* says what the store has, in OCI's words, so that its bytes stay."""
    return manifest.media_type == MediaType.OCI_MANIFEST and all(
        blob is not None and layer.digest == blob.digest
        for layer, blob in zip(manifest.layers, blobs, strict=True)
    )


def rewritten(
    source: ImageSource, given: Manifest | None, blobs: Sequence[BlobRecord | None]
) -> Manifest:
    """An OCI manifest for *blobs*, with what *given* says beside them."""
    config = Descriptor(MediaType.OCI_CONFIG, source.config_digest, len(source.config))
    layers = []
    for number, blob in enumerate(blobs):
        assert blob is not None  # what was missing has been read
        layer = Descriptor(blob.media_type, blob.digest, blob.size)
        if given and given.layers[number].digest == blob.digest:
            old = given.layers[number]
            layer = replace(old, media_type=oci_twin(old.media_type))
        layers.append(layer)
    return Manifest(config, tuple(layers), annotations=given.annotations if given else None)


class Lowers:
    """The layers that are there already, each opened once and only if somebody asks."""

    def __init__(self, fmt: Format) -> None:
        self._format = fmt
        self._paths: list[Path] = []
        self._opened: deque[Layer] = deque()

    def add(self, path: Path) -> None:
        """Put the layer at *path* on top."""
        self._paths.append(path)

    def below(self, unsaid: Unsaid) -> Below:
        """The union of them all, as far as what is *unsaid* asks for it; good until ``add``."""
        if unsaid.implied or unsaid.foreign or unsaid.whiteouts:
            for number in range(len(self._opened), len(self._paths)):
                self._opened.appendleft(Layer(self._paths[number], self._format, number))
        return Below(self._opened)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for layer in self._opened:
            layer.close()


@contextmanager
def held(paths: Sequence[Path]) -> Iterator[None]:
    """Hold all these locks."""
    # An image of a thousand layers has as many locks, and later as many directories.
    fds.raise_limit()
    with ExitStack() as stack:
        for path in paths:
            stack.enter_context(locks.exclusive(path))
        yield


def _ignore(_n: int) -> None:
    """Nobody asked."""
