"""Micro rows: what one request costs."""

from collections.abc import Iterator

from scripts.lib.bench.results import Sample
from scripts.lib.bench.rows import MICROSECONDS, Row, Scene, Settings
from scripts.lib.bench.session import Session
from scripts.lib.bench.workload import LISTED

GETATTR = Row(
    "getattr",
    MICROSECONDS,
    "statx(2) of an open file with AT_STATX_FORCE_SYNC, which no kernel answers from its cache",
)
OPEN = Row("open+close", MICROSECONDS, "open(2) and close(2) of the same file again and again")
MISSING = Row(
    "missing name", MICROSECONDS, "lstat(2) of a name that is not there, each time another"
)
READ_4K = Row(
    "4k read", MICROSECONDS, "pread(2) of a page without read-ahead, each page once, in disorder"
)
READ_128K = Row("128k read", MICROSECONDS, "the same with 128 KiB")
LIST = Row(
    f"list {LISTED:,}",
    MICROSECONDS,
    f"a listing of the same {LISTED:,} names again and again (a peer may let the kernel keep it)",
)

# Blocks of the first half of the file, and of the second.
_SMALL, _LARGE = 4 << 10, 128 << 10


def _play(on: Session, settings: Settings) -> Iterator[Sample]:
    calls = settings.calls
    half = settings.workload.size.data // 2
    name = f"list/name-{LISTED // 2:04}"
    for warm in (True, False):
        # The first calls find caches that are not filled and code that was never run.
        count = 200 if warm else calls
        samples = [
            on.called(GETATTR.name, "getattr", name, count),
            on.called(OPEN.name, "open", name, count),
            on.called(MISSING.name, "missing", "list", count),
            on.called(LIST.name, "list", "list", max(count // 50, 1)),
        ]
    yield from samples
    yield on.called(READ_4K.name, "read", "data", _SMALL, 0, min(calls, half // _SMALL))
    last = half // _LARGE
    yield on.called(READ_128K.name, "read", "data", _LARGE, last, min(calls // 10, last))


SCENES = (Scene((GETATTR, OPEN, MISSING, LIST, READ_4K, READ_128K), _play),)
