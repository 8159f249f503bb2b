"""All scenes, and which of them are wanted."""

from collections.abc import Iterable, Iterator, Sequence

from scripts.lib.bench import jobs, micro
from scripts.lib.bench.rows import Row, Scene
from scripts.lib.bench.stacks import stack_scene
from scripts.lib.bench.workload import Size


def scenes(size: Size) -> Iterator[Scene]:
    """What can be measured on a work-load of *size*."""
    yield from micro.SCENES
    yield from jobs.SCENES
    yield from map(stack_scene, size.stacks)


def rows(of: Iterable[Scene]) -> list[Row]:
    """Their rows, in order."""
    return [row for scene in of for row in scene.rows]


def chosen(size: Size, words: Sequence[str]) -> list[str]:
    """The names of the rows that begin with one of *words*, or of all; ValueError for no row."""
    names = [row.name for row in rows(scenes(size))]
    for word in words:
        if not any(name.startswith(word) for name in names):
            raise ValueError(f"{word}: no such row; there are: {', '.join(names)}")
    return [name for name in names if not words or any(map(name.startswith, words))]
