"""For how long to poll for the next request before sleeping: decisions, and nothing else.

A process that sleeps between two requests is woken for each of them, perhaps on a processor
that sleeps as well; in a virtual machine that takes tens of microseconds, most of what a
request costs.  Polling saves it where the next request comes soon, and wastes processor time
where it does not.
"""

import os
from collections.abc import Callable
from typing import Protocol

# Longer than most programs take from an answer to their next request.
USUAL = 50e-6
# On a single processor nobody can ask while this process runs: once it has given the
# processor away, it looks a single time.
ONE_LOOK = 1e-6


class BusyPoll(Protocol):
    """*seconds* is how long to poll now, 0 not at all.

    Whoever polls tells what came of it, with the time of a clock that never goes back.
    """

    seconds: float

    def missed(self, hits: int, now: float) -> None:
        """No request came in time, after *hits* that did since the last miss."""

    def held_up(self, now: float) -> None:
        """Others had the processor for much longer than one look takes."""

    def consider(self, now: float) -> None:
        """To be asked while *seconds* is 0, before sleeping: perhaps it pays again."""


class Fixed:
    """Always *seconds*; 0 never polls."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def missed(self, hits: int, now: float) -> None:
        """Makes no difference."""

    def held_up(self, now: float) -> None:
        """Makes no difference."""

    def consider(self, now: float) -> None:
        """Makes no difference."""


# A hit pays for two misses: it saves a sleep, which is processor time too, and a wake-up.
_HIT, _MISS = 2, 1
# So many misses in a row end it: a few to try, more where it has paid before.
_TRIAL, _FULL = 16, 64
# Pauses grow while trials fail, so that those cost less than a thousandth.
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.01, 1.0
_BETWEEN_COUNTS = 1.0


def usable_processors() -> int:
    """How many processors this process may run on."""
    return len(os.sched_getaffinity(0))


class Auto:
    """The usual time where that pays, which is measured, with pauses where it does not.

    It does not where programs take their time between two requests, and where others need
    the processor.  How many *processors* there are is asked now and then.
    """

    def __init__(self, now: float, processors: Callable[[], int] = usable_processors) -> None:
        self._processors = processors
        self._pause = _SHORTEST_PAUSE
        self._credit = _TRIAL
        self._count(now)

    def missed(self, hits: int, now: float) -> None:
        """Pause where too few looks were worth it."""
        self._credit = min(self._credit + hits * _HIT, _FULL)
        if self._credit == _FULL:
            self._pause = _SHORTEST_PAUSE
        self._credit -= _MISS
        if self._credit <= 0:
            self._stop(now)
        elif now >= self._count_at:
            self._count(now)

    def held_up(self, now: float) -> None:
        """Pause: whoever sleeps gets the processor back sooner than whoever gave it away."""
        self._stop(now)

    def consider(self, now: float) -> None:
        """Try again after a pause."""
        if now >= self._again:
            self._credit = _TRIAL
            self._count(now)

    def _count(self, now: float) -> None:
        self._count_at = now + _BETWEEN_COUNTS
        self.seconds = USUAL if self._processors() > 1 else ONE_LOOK

    def _stop(self, now: float) -> None:
        self.seconds = 0.0
        self._again = now + self._pause
        self._pause = min(self._pause * 2, _LONGEST_PAUSE)
