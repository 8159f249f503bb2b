"""What was measured, and what follows from it."""

import statistics
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Mode(StrEnum):
    """On which processors client and daemon run."""

    UNPINNED = "unpinned"
    ONE_CORE = "one core"


@dataclass(frozen=True, slots=True)
class Sample:
    """One measurement of one row; less is better."""

    row: str
    value: float  # in the unit of the row
    cpu: float | None = None  # seconds of the daemon, in user and in kernel mode
    pss: int | None = None  # bytes of the daemon's memory, at the end
    rss: int | None = None


@dataclass(slots=True)
class Series:
    """All that was measured of one row for one peer in one mode."""

    values: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    pss: list[int] = field(default_factory=list)
    rss: list[int] = field(default_factory=list)
    failed: str | None = None

    @property
    def median(self) -> float | None:
        """None when there is nothing, or it cannot be done there."""
        return None if self.failed or not self.values else statistics.median(self.values)


Key = tuple[str, Mode, str]  # row, mode, peer


@dataclass(slots=True)
class Results:
    """Everything by row, mode and peer, in the order in which it came."""

    series: dict[Key, Series] = field(default_factory=dict)

    def add(self, sample: Sample, mode: Mode, peer: str) -> None:
        """One more measurement."""
        found = self.series.setdefault((sample.row, mode, peer), Series())
        found.values.append(sample.value)
        if sample.cpu is not None:
            found.cpu.append(sample.cpu)
        if sample.pss is not None and sample.rss is not None:
            found.pss.append(sample.pss)
            found.rss.append(sample.rss)

    def fail(self, row: str, mode: Mode, peer: str, reason: str) -> None:
        """The row cannot be measured there."""
        self.series.setdefault((row, mode, peer), Series()).failed = reason

    def failed(self, row: str, mode: Mode, peer: str) -> bool:
        """Whether it need not be tried again."""
        found = self.series.get((row, mode, peer))
        return found is not None and found.failed is not None

    def median(self, row: str, mode: Mode, peer: str) -> float | None:
        """None when there is no figure."""
        found = self.series.get((row, mode, peer))
        return found.median if found else None

    def ratio(self, row: str, mode: Mode, peer: str, to: str) -> float | None:
        """How many times *to*'s median *peer*'s is; None when either is missing or nothing."""
        mine, other = self.median(row, mode, peer), self.median(row, mode, to)
        return mine / other if mine is not None and other else None

    @property
    def rows(self) -> list[str]:
        """Those with a figure or a failure."""
        return list(dict.fromkeys(row for row, _, _ in self.series))

    @property
    def modes(self) -> list[Mode]:
        """Those that were measured."""
        return [mode for mode in Mode if any(mode == found for _, found, _ in self.series)]

    @property
    def peers(self) -> list[str]:
        """Those that were measured."""
        return list(dict.fromkeys(peer for _, _, peer in self.series))

    def as_json(self, units: dict[str, str]) -> Iterator[dict[str, Any]]:
        """One object for each series."""
        for (row, mode, peer), found in self.series.items():
            yield {
                "row": row,
                "mode": mode.value,
                "peer": peer,
                "unit": units[row],
                "median": found.median,
                "values": found.values,
                "daemon_cpu_seconds": found.cpu,
                "daemon_pss_bytes": found.pss,
                "daemon_rss_bytes": found.rss,
                "failed": found.failed,
            }
