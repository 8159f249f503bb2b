"""The ratio of each peer to fuse-overlayfs, row by row, as a picture."""

import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from scripts.lib.bench.peers import OURS
from scripts.lib.bench.results import Mode, Results
from scripts.lib.bench.rows import MICROSECONDS, SECONDS, Row
from scripts.lib.bench.stacks import STACKS

TIMES = (MICROSECONDS, SECONDS)
MARKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100)


def draw(results: Results, rows: Sequence[Row], yardstick: str, file: Path) -> None:
    """Bars on a logarithmic scale: left of 1 is faster than *yardstick*.

    Ours in both modes, the others unpinned; the stacks of many layers are a matter of their own.
    """
    names = [
        row.name
        for row in rows
        if row.unit in TIMES
        and not row.name.startswith(STACKS)
        and any(results.median(row.name, mode, yardstick) for mode in Mode)
    ]
    lines = [(OURS, mode) for mode in results.modes]
    others = [peer for peer in results.peers if peer not in (OURS, yardstick)]
    lines += [(peer, mode) for mode in results.modes[:1] for peer in others]
    pygal = _pygal()
    chart = pygal.HorizontalBar(
        # A picture that stands alone: no script from elsewhere.
        js=[],
        logarithmic=True,
        legend_at_bottom=True,
        legend_at_bottom_columns=2,
        height=160 + 12 * len(names) * max(len(lines), 1),
        width=900,
        margin=20,
        truncate_legend=-1,
        style=pygal.style.Style(
            background="white", plot_background="white", font_family="sans-serif"
        ),
        title=f"Time, {yardstick} = 1 (less is better)",
    )
    # The rows are drawn from below.
    names.reverse()
    chart.x_labels = names
    every = []
    for peer, mode in lines:
        ratios = [results.ratio(name, mode, peer, yardstick) for name in names]
        every += [ratio for ratio in ratios if ratio]
        chart.add(f"{peer}, {mode}", [ratio and round(ratio, 3) for ratio in ratios])
    if every:
        chart.y_labels = [mark for mark in MARKS if min(every) / 3 < mark < max(every) * 2]
        # Where the bars begin.
        chart.zero = chart.y_labels[0]
    file.write_bytes(chart.render())


def _pygal() -> ModuleType:
    """The library, without the finder that it puts among those of the modules.

    That is for its plugins, and of a kind that warns in Python 3.11 and is passed over since.
    """
    finders = sys.meta_path.copy()
    import pygal.style  # type: ignore[import-untyped]  # it has no types

    sys.meta_path[:] = finders
    found: ModuleType = pygal
    return found
