"""What a row of the tables is, and what a scene is: rows that are measured on one mount."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from scripts.lib.bench.results import Mode, Sample
from scripts.lib.bench.session import Session
from scripts.lib.bench.workload import LAYERS, Workload

MICROSECONDS, MILLISECONDS, SECONDS, BYTES = "µs", "ms", "s", "B"


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the tables.  *what* is its explanation in the help."""

    name: str
    unit: str
    what: str


@dataclass(frozen=True, slots=True)
class Settings:
    """How often a call is made where that is to be chosen, and what there is."""

    workload: Workload
    calls: int = 20_000
    creates: int = 2_000
    idle_seconds: float = 2.0


Play = Callable[[Session, Settings], Iterator[Sample]]


@dataclass(frozen=True, slots=True)
class Scene:
    """Rows that are measured one after the other on one fresh mount with an upper layer.

    *prepare* runs before, on a mount of its own that has the same upper directory.
    """

    rows: tuple[Row, ...]
    play: Play
    prepare: Callable[[Session, Settings], None] | None = None
    stack: int | None = None  # of so many layers; otherwise it is the Debian with its tree
    modes: tuple[Mode, ...] = tuple(Mode)
    daemons_only: bool = False
    writes: bool = False  # so much that the next peer would feel it

    def lowers(self) -> tuple[str, ...]:
        """The names of the layers, topmost first."""
        if self.stack is None:
            return LAYERS
        return tuple(str(number) for number in range(self.stack))
