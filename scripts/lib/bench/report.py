"""What is printed: tables for people, lines for files, an object for programs."""

import os
import platform
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from scripts.lib.bench.goals import Verdict
from scripts.lib.bench.peers import OURS
from scripts.lib.bench.results import Mode, Results
from scripts.lib.bench.rows import MICROSECONDS, MILLISECONDS, Row
from tests.support.images import run


@dataclass(frozen=True, slots=True)
class Lines:
    """A table: what stands above it, the heads of the columns, the cells of each line."""

    title: str
    head: tuple[str, ...]
    cells: list[tuple[str, ...]]

    def markdown(self) -> Iterator[str]:
        """It as text."""
        yield f"**{self.title}**"
        yield ""
        yield f"| {' | '.join(self.head)} |"
        yield f"|---|{'---:|' * (len(self.head) - 1)}"
        for cells in self.cells:
            yield f"| {' | '.join(cells)} |"
        yield ""

    def on_terminal(self) -> Table:
        """It as a drawing."""
        table = Table(title=self.title, title_justify="left", header_style="bold")
        for at, name in enumerate(self.head):
            table.add_column(name, justify="right" if at else "left")
        for cells in self.cells:
            table.add_row(*cells)
        return table


def machine(work: Path) -> dict[str, Any]:
    """What the numbers were measured on."""
    release = platform.freedesktop_os_release()
    file_system = run("findmnt", "--noheadings", "--output=FSTYPE", "--target", work).strip()
    return {
        "system": release.get("PRETTY_NAME", "Linux"),
        "kernel": platform.release(),
        "processors": len(os.sched_getaffinity(0)),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "file_system": file_system,
        "python": platform.python_version(),
    }


def figure(value: float) -> str:
    """Three digits that count."""
    if value >= 100 or value == 0:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value >= 0.001 else f"{value:.1g}"


def medians(results: Results, rows: Sequence[Row], mode: Mode) -> Lines:
    """The median of each peer, and how many times that ours is."""
    peers = results.peers
    others = [peer for peer in peers if peer != OURS] if OURS in peers else []
    cells = []
    for row in rows:
        if not any((row.name, mode, peer) in results.series for peer in peers):
            continue
        line = [f"{row.name}, {row.unit}"]
        for peer in peers:
            line.append(_cell(results.median(row.name, mode, peer)))
        for other in others:
            ratio = results.ratio(row.name, mode, OURS, other)
            line.append("-" if ratio is None else f"{ratio:.2f}")
        cells.append(tuple(line))
    head = (mode.value, *peers, *(f"of {peer}" for peer in others))
    return Lines(f"Medians, {mode}; and {OURS}, of each", head, cells)


def daemons(results: Results, rows: Sequence[Row], mode: Mode) -> Lines:
    """The processor time and the memory of each daemon."""
    peers = [
        peer
        for peer in results.peers
        if any(found.pss for (_, _, name), found in results.series.items() if name == peer)
    ]
    cells = []
    for row in rows:
        found = [results.series.get((row.name, mode, peer)) for peer in peers]
        if not any(each and each.cpu for each in found):
            continue
        # Of a single call where the row is about one.
        unit, scale = (MICROSECONDS, 1e6) if row.unit == MICROSECONDS else (MILLISECONDS, 1e3)
        line = [f"{row.name}, {unit}"]
        for each in found:
            line.append(_cell(statistics.median(each.cpu) * scale if each and each.cpu else None))
        for each in found:
            line.append(_cell(statistics.median(each.pss) / 1e6 if each and each.pss else None))
        cells.append(tuple(line))
    head = (mode.value, *(f"{peer} cpu" for peer in peers), *(f"{peer} MB" for peer in peers))
    return Lines(f"Processor time and memory (Pss) of the daemons, {mode}", head, cells)


def _cell(value: float | None) -> str:
    return "-" if value is None else figure(value)


def show(results: Results, rows: Sequence[Row], about: dict[str, Any], rounds: int) -> None:
    """Prints all: drawn on a terminal, as Markdown elsewhere."""
    console = Console()
    headline = (
        f"{about['system']}, Linux {about['kernel']}, {about['processors']} processors, "
        f"{about['memory_gb']} GB, {about['file_system']}, Python {about['python']}; "
        f"{rounds} interleaved rounds."
    )
    console.print(headline, highlight=False, soft_wrap=True)
    console.print()
    for mode in results.modes:
        for table in (medians(results, rows, mode), daemons(results, rows, mode)):
            if not table.cells:
                continue
            if console.is_terminal:
                console.print(table.on_terminal())
            else:
                print("\n".join(table.markdown()))
    for (row, mode, peer), found in results.series.items():
        if found.failed:
            print(f"{peer} cannot do {row} ({mode}): {found.failed}")


def as_json(
    results: Results,
    rows: Sequence[Row],
    about: dict[str, Any],
    settings: dict[str, Any],
    verdicts: Sequence[Verdict],
) -> dict[str, Any]:
    """Everything, for programs."""
    return {
        "machine": about,
        "settings": settings,
        "rows": [asdict(row) for row in rows],
        "results": list(results.as_json({row.name: row.unit for row in rows})),
        "ratios": [
            {"row": row, "mode": mode.value, "to": peer, "ratio": ratio}
            for row in results.rows
            for mode in results.modes
            for peer in results.peers
            if peer != OURS and (ratio := results.ratio(row, mode, OURS, peer)) is not None
        ],
        "goals": [
            {**asdict(verdict), "mode": verdict.mode.value, "reached": verdict.reached}
            for verdict in verdicts
        ],
    }
