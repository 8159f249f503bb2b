"""The ratio of each peer to fuse-overlayfs, row by row, as a picture."""

import sys
from pathlib import Path
from types import ModuleType

from scripts.lib.bench.peers import OURS
from scripts.lib.bench.results import Mode, Results
from scripts.lib.bench.stacks import stack_row


def draw(results: Results, yardstick: str, file: Path) -> None:
    """Bars on a logarithmic scale: left of 1 is faster than *yardstick*."""
    rows = [row for row in results.rows if not row.startswith(stack_row(0, "").split("0")[0])]
    rows = [row for row in rows if any(results.median(row, mode, yardstick) for mode in Mode)]
    lines = [(peer, mode) for mode in results.modes for peer in results.peers if peer != yardstick]
    pygal = _pygal()
    # What is ours first, whatever the mode.
    lines.sort(key=lambda line: line[0] != OURS)
    chart = pygal.HorizontalBar(
        # A picture that stands alone: no script from elsewhere.
        js=[],
        logarithmic=True,
        legend_at_bottom=True,
        legend_at_bottom_columns=3,
        height=120 + 18 * len(rows) * max(len(lines), 1),
        width=900,
        margin=20,
        truncate_legend=-1,
        style=pygal.style.Style(
            background="white", plot_background="white", font_family="sans-serif"
        ),
        title=f"Time, {yardstick} = 1 (less is better)",
    )
    # Bars are drawn from below.
    chart.x_labels = list(reversed(rows))
    for peer, mode in reversed(lines):
        ratios = [results.ratio(row, mode, peer, yardstick) for row in reversed(rows)]
        chart.add(f"{peer}, {mode}", [ratio and round(ratio, 3) for ratio in ratios])
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
