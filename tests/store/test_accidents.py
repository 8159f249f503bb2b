"""Hundreds of processes that die at random over one store: nothing is lost, nothing leaks."""

import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.accidents import Archive, World, archives

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
