"""The same directory of 1,000 files in one layer, and dealt out to many."""

from collections.abc import Iterator

from scripts.lib.bench.results import Sample
from scripts.lib.bench.rows import MICROSECONDS, MILLISECONDS, Play, Row, Scene, Settings
from scripts.lib.bench.session import Session
from scripts.lib.bench.workload import LISTED

STACKS = "layers "  # how all of these rows begin
MOUNT, FIRST = "mount", "first lookup"
LOOKUP, MISS, OPEN, LISTING = "lookup", "miss", "open", "listing"

# What is compared with one layer.
STACK_ROWS = (LOOKUP, MISS, OPEN, LISTING)
_WHAT = {
    MOUNT: (MILLISECONDS, "from the start of the program until the root answers"),
    FIRST: (MILLISECONDS, "the first lookup in the directory: who merges it at once does it now"),
    LOOKUP: (MICROSECONDS, "the first lstat(2) of each name, after that one"),
    MISS: (MICROSECONDS, "lstat(2) of a name that is not there, each time another"),
    OPEN: (MICROSECONDS, "open(2) and close(2) of each file, again and again"),
    LISTING: (MICROSECONDS, "a listing of the directory, again and again"),
}


def stack_row(layers: int, what: str) -> str:
    """The name of a row."""
    return f"{STACKS}{layers}: {what}"


def stack_scene(layers: int) -> Scene:
    """The rows on *layers* layers."""
    rows = tuple(Row(stack_row(layers, what), unit, text) for what, (unit, text) in _WHAT.items())
    return Scene(rows, _play(layers), stack=layers)


def _play(layers: int) -> Play:
    def play(on: Session, settings: Settings) -> Iterator[Sample]:
        def row(what: str) -> str:
            return stack_row(layers, what)

        yield Sample(row(MOUNT), on.mount_seconds * 1e3, on.cpu(), *on.memory())
        first = on.called(row(FIRST), "missing", "dir", 1)
        yield Sample(first.row, first.value / 1e3, first.cpu, first.pss, first.rss)
        names = [f"dir/name-{at:04}" for at in range(LISTED)]
        times = max(settings.calls // LISTED, 1)
        yield on.called(row(LOOKUP), "stat", 1, names=names)
        yield on.called(row(MISS), "missing", "dir", settings.calls)
        yield on.called(row(OPEN), "openall", times, names=names)
        on.called(row(LISTING), "list", "dir", 1)
        yield on.called(row(LISTING), "list", "dir", max(settings.calls // 50, 1))

    return play
