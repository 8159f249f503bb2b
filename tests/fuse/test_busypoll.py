"""When polling for the next request pays."""

import os

import pytest

from overlayfs.fuse.busypoll import ONE_LOOK, USUAL, Auto, Fixed, usable_processors


class Times:
    """A machine with some processors, and its clock."""

    def __init__(self, *, processors: int = 2) -> None:
        self.processors = processors
        self.now = 1000.0
        self.polling = Auto(self.now, lambda: self.processors)

    def miss(self, times: int = 1, *, hits: int = 0) -> None:
        for _ in range(times):
            self.now += self.polling.seconds
            self.polling.missed(hits, self.now)

    def miss_until_it_stops(self) -> int:
        """How many misses that took."""
        for count in range(1, 1000):
            self.miss()
            if not self.polling.seconds:
                return count
        raise AssertionError("it goes on")

    def pause(self) -> float:
        """How long it is off from now on, to a millisecond."""
        began = self.now
        while not self.polling.seconds:
            assert self.now < began + 10, "it stays off"
            self.now += 0.001
            self.polling.consider(self.now)
        return self.now - began


def test_it_polls_from_the_start() -> None:
    assert Times().polling.seconds == USUAL


def test_misses_in_a_row_end_it() -> None:
    assert Times().miss_until_it_stops() == 16


def test_where_it_has_paid_it_goes_on_for_longer_but_not_for_ever() -> None:
    times = Times()
    times.miss(hits=1_000_000)
    assert times.miss_until_it_stops() == 63


@pytest.mark.parametrize(
    ("hits", "misses", "goes_on"),
    [(9, 1, True), (1, 1, True), (1, 2, True), (1, 3, False), (1, 9, False)],
)
def test_a_third_of_the_looks_must_find_something(hits: int, misses: int, goes_on: bool) -> None:
    times = Times()
    for _ in range(1000):
        times.miss(hits=hits)
        times.miss(misses - 1)
        if not times.polling.seconds:
            break
    assert bool(times.polling.seconds) is goes_on


def test_short_bursts_far_from_each_other_pay() -> None:
    times = Times()
    for _ in range(1000):
        times.now += 60
        times.miss(hits=20)
    assert times.polling.seconds == USUAL


def test_it_tries_again_after_pauses_that_grow_to_a_second() -> None:
    times = Times()
    pauses = []
    for _ in range(10):
        times.miss_until_it_stops()
        pauses.append(times.pause())
    assert pauses == pytest.approx([0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1, 1, 1], abs=0.002)


def test_a_trial_that_fails_costs_less_than_a_thousandth() -> None:
    times = Times()
    for _ in range(10):
        times.miss_until_it_stops()
        times.pause()
    assert times.miss_until_it_stops() * USUAL < times.pause() / 1000


def test_success_makes_pauses_short_again() -> None:
    times = Times()
    for _ in range(10):
        times.miss_until_it_stops()
        times.pause()
    times.miss(hits=100)
    times.miss_until_it_stops()
    assert times.pause() == pytest.approx(0.01, abs=0.002)


def test_whoever_needs_the_processor_ends_it_at_once() -> None:
    times = Times()
    times.miss(hits=100)
    times.polling.held_up(times.now)
    assert not times.polling.seconds
    assert times.pause() == pytest.approx(0.01, abs=0.002)
    times.polling.held_up(times.now)
    assert times.pause() == pytest.approx(0.02, abs=0.002)


def test_on_a_single_processor_it_looks_once() -> None:
    """Nobody can ask while it polls, and so it does not wait actively."""
    assert Times(processors=1).polling.seconds == ONE_LOOK


def test_processors_are_counted_again_now_and_then() -> None:
    times = Times()
    times.processors = 1
    times.miss(hits=1)
    assert times.polling.seconds == USUAL
    times.now += 1
    times.miss(hits=1)
    assert times.polling.seconds == ONE_LOOK
    times.processors = 2
    times.now += 1
    times.miss(hits=1)
    assert times.polling.seconds == USUAL


def test_processors_are_counted_again_after_a_pause() -> None:
    times = Times()
    times.miss_until_it_stops()
    times.processors = 1
    times.pause()
    assert times.polling.seconds == ONE_LOOK


def test_the_processors_are_those_that_may_be_used() -> None:
    before = os.sched_getaffinity(0)
    assert usable_processors() == len(before)
    os.sched_setaffinity(0, [min(before)])
    try:
        assert usable_processors() == 1
    finally:
        os.sched_setaffinity(0, before)


@pytest.mark.parametrize("seconds", [0.0, 3e-5])
def test_a_fixed_time_stays(seconds: float) -> None:
    polling = Fixed(seconds)
    for now in range(100):
        polling.missed(0, now)
        polling.held_up(now)
        polling.consider(now)
    assert polling.seconds == seconds
