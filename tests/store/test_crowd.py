"""Several processes that load, mount, name, remove and prune the same layers at once."""

import os
import random
import signal
import subprocess
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from overlayfs import mounting
from overlayfs.archive.detect import opened_images
from overlayfs.errors import ImageInUse, ImageNotFound
from overlayfs.mounting import MountOptions
from overlayfs.store.removing import Pruning
from overlayfs.store.store import Store
from tests.support.accidents import Archive, archives, inventory, trees

ROUNDS = 25
MOUNTS = 5

pytestmark = pytest.mark.usefixtures("needs_fuse")


@pytest.fixture
def memory(tmp_path: Path, needs_root: None) -> Iterator[Path]:
    """A folder in memory, where the processes meet more often than on a disk."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512m", "tmpfs", tmp_path], check=True)
    try:
        yield tmp_path
    finally:
        subprocess.run(["umount", "--lazy", tmp_path], check=True)


class Crowd:
    """What each process does, over and over."""

    def __init__(self, store: Store, known: list[Archive], folder: Path) -> None:
        self._store = store
        self._known = known
        self._folder = folder
        self._right = {key: value for archive in known for key, value in archive.trees.items()}

    def load(self, choices: random.Random) -> None:
        """Load, and find all of it, or nothing when another was quicker to remove it."""
        archive = choices.choice(self._known)
        with opened_images(str(archive.path), scratch=self._store.scratch) as sources:
            for source in sources:
                image = self._store.add(source)
                assert len(image.layers) == len(image.config.diff_ids)
                with suppress(ImageNotFound), self._store.mounting(image) as (whole, _):
                    assert trees(whole) == self._right[str(image.id)]

    def mount(self, choices: random.Random) -> None:
        """Load, mount, and read everything while others remove the image."""
        archive = choices.choice(self._known)
        mountpoint = self._folder / f"mnt{os.getpid()}"
        mountpoint.mkdir(exist_ok=True)
        with opened_images(str(archive.path), scratch=self._store.scratch) as sources:
            image = self._store.add(next(sources))
        try:
            mounting.mount(self._store, image, mountpoint, MountOptions(read_only=True))
        except ImageNotFound:
            return  # somebody removed it before
        try:
            for _ in range(3):
                assert len((mountpoint / "bin").read_bytes()) in (300_000, 9000)
                assert self._store.prune(Pruning(every=True)).kept_back == ""
                assert (mountpoint / "etc").is_dir()
                assert trees(image) == self._right[str(image.id)]
        finally:
            mounting.unmount(self._store, mountpoint)

    def remove(self, choices: random.Random) -> None:
        """Remove some image, or all that nothing mounts."""
        images = self._store.images()
        if not images or choices.random() < 0.3:
            self._store.prune(Pruning(every=choices.random() < 0.5))
            return
        image = choices.choice(images)
        reference = choices.choice([*image.names, image.id.hex])
        try:
            self._store.remove(reference, force=choices.random() < 0.7)
        except (ImageNotFound, ImageInUse):
            return

    def name(self, choices: random.Random) -> None:
        """Move names about."""
        for image in self._store.images():
            try:
                self._store.tag(image.id.hex, [f"x:{choices.randint(1, 3)}"])
            except ImageNotFound:
                continue


def test_nobody_takes_what_another_uses(memory: Path) -> None:
    known = archives(memory)
    store = Store.open(memory / "store")
    crowd = Crowd(store, known, memory)
    jobs: list[tuple[Callable[[random.Random], None], int]] = [
        (crowd.load, ROUNDS),
        (crowd.load, ROUNDS),
        (crowd.mount, MOUNTS),
        (crowd.mount, MOUNTS),
        (crowd.remove, 4 * ROUNDS),
        (crowd.remove, 4 * ROUNDS),
        (crowd.name, ROUNDS),
    ]
    children = [_child(job, rounds, seed) for seed, (job, rounds) in enumerate(jobs)]
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * len(jobs)
    for image in store.images():
        assert trees(store.image(image.id.hex)) == crowd._right[str(image.id)]
    assert store.verify() == []
    store.prune(Pruning(every=True))
    empty = Store.open(memory / "empty")
    for one in (store, empty):
        (one.root / "layers/settled").unlink(missing_ok=True)
    assert inventory(store.root) == inventory(empty.root)


def _child(job: Callable[[random.Random], None], rounds: int, seed: int) -> int:
    child = os.fork()
    if child == 0:
        status = 1
        try:
            signal.alarm(120)
            choices = random.Random(seed)
            for _ in range(rounds):
                job(choices)
            status = 0
        except BaseException:
            os.write(2, traceback.format_exc().encode())
        finally:
            os._exit(status)
    return child
