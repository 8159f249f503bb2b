"""Hundreds of processes that die at random over one store: nothing is lost, nothing leaks."""

import itertools
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from overlayfs.archive.detect import opened_images
from overlayfs.store.removing import Pruning
from overlayfs.store.store import Store
from tests.support.accidents import Archive, World, archives, killed_at

KILLS = 200

pytestmark = pytest.mark.usefixtures("needs_fuse")


@pytest.fixture(scope="module")
def memory(tmp_path_factory: pytest.TempPathFactory, needs_root: None) -> Iterator[Path]:
    """A folder in memory: it is processes that die here, and the disk takes most of the time."""
    path = tmp_path_factory.mktemp("memory")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512m", "tmpfs", path], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", path], check=True)


@pytest.fixture(scope="module")
def known(memory: Path) -> list[Archive]:
    """The archives that are loaded over and over."""
    return archives(memory)


@pytest.mark.parametrize("seed", range(2))
def test_killed_at_random(seed: int, known: list[Archive], memory: Path) -> None:
    world = World.empty(memory / f"world{seed}", known, random.Random(seed))
    try:
        while world.kills.total() < KILLS // 2:
            world.accident()
    finally:
        world.unmount()
    assert set(world.kills) >= {"load", "tag", "rmi", "prune", "mount"}
    world.settle_accounts()


COMMANDS: dict[str, Callable[[Store], object]] = {
    "tag": lambda store: store.tag("a:1", ["a:1", "b:1", "x:1"]),
    "untag": lambda store: store.untag(["a:1", "b:1"]),
    "rmi": lambda store: store.remove("b:1"),
    "rmi-last": lambda store: store.remove("m:1"),
    "prune": lambda store: store.prune(Pruning()),
    "prune-all": lambda store: store.prune(Pruning(every=True)),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_killed_at_every_third_step(command: str, known: list[Archive], memory: Path) -> None:
    folder = memory / command
    prepared = World.empty(folder, known, random.Random(0))
    for archive in known:
        with opened_images(str(archive.path), scratch=prepared.store.scratch) as sources:
            for source in sources:
                prepared.store.add(source)
    prepared.store.untag(["m:2", "m:latest"])
    before = prepared.look()
    seen = set()
    for step in itertools.count(1, 3):
        copy = folder / f"copy{step}"
        subprocess.run(["cp", "-a", prepared.store.root, copy], check=True)
        world = World(Store.open(copy), known, folder / "mnt", random.Random(0))
        result, _ = killed_at(step, lambda world=world: COMMANDS[command](world.store))
        world.known = world.look()
        seen.add(world.known)
        if step % 5 == 1 or result == "done":
            world.settle_accounts()
            shutil.rmtree(copy.with_name("fresh"))
        shutil.rmtree(copy)
        if result == "done":
            break
    assert step > 20
    assert before in seen
    assert len(seen) == 2, "before and after, and nothing between"
