"""What is to be reached, as data, and whether it was."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from scripts.lib.bench.peers import OURS
from scripts.lib.bench.results import Mode, Results
from scripts.lib.bench.stacks import MOUNT, STACK_ROWS, stack_row

# Ratio to fuse-overlayfs 1.x in C: unpinned, and with client and daemon on one core.
RATIOS: dict[str, tuple[float, float | None]] = {
    "getattr": (0.7, 1.3),
    "open+close": (0.7, 1.3),
    "missing name": (0.7, 1.3),
    "4k read": (0.7, 1.3),
    "list 1,000": (4, 7),
    "find cold": (0.65, 0.95),
    "find warm": (1.3, 1.4),
    "tar cold": (0.5, 1.3),
    "tar warm": (0.4, 1.05),
    "grep -r": (0.5, 1.1),
    "git status": (0.5, 1.1),
    "sequential read cold": (1.1, 1.1),
    "sequential read warm": (1.0, 1.0),
    "write": (1.05, 1.05),
    "creates": (0.7, 1.1),
    "stat storm": (0.8, 1.4),
    "rm -rf": (0.45, 0.45),
    "chown -R": (0.5, 0.5),
    "four clients": (1.0, None),
}
# What the most layers may cost, against one layer.
DEPTH = 1.2
# Of ours alone, with the unit of the row; unpinned.
ABSOLUTE: dict[str, tuple[float, str]] = {
    "idle": (0, "ms"),
    "memory per inode": (800, "B"),
    stack_row(500, MOUNT): (1000, "ms"),
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """One goal, and what was reached."""

    row: str
    mode: Mode
    what: str
    limit: float
    found: float | None

    @property
    def reached(self) -> bool:
        """A figure that is missing reaches nothing."""
        return self.found is not None and self.found <= self.limit

    def __str__(self) -> str:
        found = "not measured" if self.found is None else f"{self.found:.2f}"
        word = "reached" if self.reached else "MISSED"
        return f"{word}: {self.row}, {self.mode}: {found} {self.what}, goal {self.limit:g}"


def verdicts(
    results: Results, rows: Iterable[str], modes: Iterable[Mode], yardstick: str
) -> Iterator[Verdict]:
    """On each goal that is about *rows* in *modes*; one that has no figure is missed."""
    chosen, modes = list(rows), list(modes)
    for mode in modes:
        for row in chosen:
            if row in RATIOS:
                limit = RATIOS[row][0 if mode is Mode.UNPINNED else 1]
                if limit is not None:
                    found = results.ratio(row, mode, OURS, yardstick)
                    yield Verdict(row, mode, f"of {yardstick}", limit, found)
            elif row in ABSOLUTE and mode is Mode.UNPINNED:
                found = results.median(row, mode, OURS)
                limit, unit = ABSOLUTE[row]
                yield Verdict(row, mode, unit, limit, found)
        for what in STACK_ROWS:
            few, many = stack_row(1, what), stack_row(500, what)
            if few in chosen and many in chosen:
                mine = results.median(many, mode, OURS)
                other = results.median(few, mode, OURS)
                ratio = mine / other if mine is not None and other else None
                yield Verdict(many, mode, "of 1 layer", DEPTH, ratio)
