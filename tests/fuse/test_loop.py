"""Turns to read, waiting for requests, and the place of trio in pyfuse3."""

import contextlib
import os
import random
import signal
import time
from collections.abc import Awaitable, Callable, Iterator
from types import ModuleType, SimpleNamespace

import pyfuse3
import pytest
import trio
import trio.testing

from overlayfs.fuse.busypoll import BusyPoll, Fixed
from overlayfs.fuse.loop import FastLoop, Reader, Turn

# Nothing here takes a second; what hangs is to fail before pytest's own limit.
PATIENCE = 60


def run(main: Callable[[Turn], Awaitable[None]]) -> None:
    """``main(turn)`` in trio, with the instrument that makes a turn of it."""
    turn = Turn()

    async def within_limits() -> None:
        with trio.fail_after(PATIENCE):
            await main(turn)

    trio.run(within_limits, instruments=[turn])


async def others_run() -> None:
    """Let all others come to where they wait."""
    await trio.testing.wait_all_tasks_blocked()


# -- turns ---------------------------------------------------------------------------------


def test_a_turn_that_nobody_else_wants_takes_no_step() -> None:
    async def main(turn: Turn) -> None:
        ran = []

        async def other() -> None:
            ran.append(True)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(other)
            for _ in range(1000):
                async with turn:
                    pass
            assert ran == []

    run(main)


def test_who_comes_back_at_once_goes_on_and_who_waits_meanwhile_gives_it_away() -> None:
    async def main(turn: Turn) -> None:
        said = []

        async def other() -> None:
            async with turn:
                said.append("other")

        async with trio.open_nursery() as nursery:
            async with turn:
                nursery.start_soon(other)
                await others_run()
            for _ in range(3):
                async with turn:
                    said.append("one")
            await trio.lowlevel.checkpoint()
            async with turn:
                said.append("one")
        assert said == ["one", "one", "one", "other", "one"]

    run(main)


def test_a_turn_given_away_is_nobody_elses_before_its_owner_runs() -> None:
    async def main(turn: Turn) -> None:
        order = []

        async def wait(name: str) -> None:
            async with turn:
                order.append(name)
                await trio.lowlevel.checkpoint()

        async with trio.open_nursery() as nursery:
            async with turn:
                for name in "abcdef":
                    nursery.start_soon(wait, name)
                    await others_run()
            # Whoever comes later comes behind them, in whatever order trio runs its tasks.
            await trio.lowlevel.checkpoint()
            await wait("late")
        assert order == [*"abcdef", "late"]

    for _ in range(20):
        run(main)


def test_who_is_cancelled_waits_no_more() -> None:
    async def main(turn: Turn) -> None:
        got = []

        async def wait(name: str, scope: trio.CancelScope) -> None:
            with scope:
                async with turn:
                    got.append(name)

        async with trio.open_nursery() as nursery:
            scopes = {name: trio.CancelScope() for name in "abc"}
            async with turn:
                for name, scope in scopes.items():
                    nursery.start_soon(wait, name, scope)
                    await others_run()
                scopes["a"].cancel()
                scopes["b"].cancel()
                await others_run()
                assert got == []
        assert got == ["c"]
        assert not turn.taken

    run(main)


def test_a_turn_is_passed_on_by_who_is_cancelled_when_it_comes() -> None:
    async def main(turn: Turn) -> None:
        got = []

        async def wait(name: str, scope: trio.CancelScope) -> None:
            with scope:
                async with turn:
                    await trio.lowlevel.checkpoint()
                    got.append(name)

        async with trio.open_nursery() as nursery:
            first = trio.CancelScope()
            async with turn:
                nursery.start_soon(wait, "first", first)
                await others_run()
                nursery.start_soon(wait, "second", trio.CancelScope())
                await others_run()
                first.cancel()  # the turn is let go of in the same step
        assert got == ["second"]

    run(main)


@pytest.mark.parametrize("seed", range(30))
def test_no_turn_is_lost_or_given_to_two(seed: int) -> None:
    async def main(turn: Turn) -> None:
        chance = random.Random(seed)
        holders = 0
        done = 0

        async def work() -> None:
            nonlocal holders, done
            for _ in range(20):
                with trio.CancelScope() as scope:
                    if chance.random() < 0.3:
                        running.append(scope)
                    async with turn:
                        holders += 1
                        try:
                            assert holders == 1
                            if chance.random() < 0.5:
                                await trio.lowlevel.checkpoint()
                        finally:
                            holders -= 1
                if chance.random() < 0.5:
                    await trio.lowlevel.checkpoint()
            done += 1

        async def cancel() -> None:
            while done < 8:
                if running:
                    running.pop(chance.randrange(len(running))).cancel()
                await trio.lowlevel.checkpoint()

        running: list[trio.CancelScope] = []
        async with trio.open_nursery() as nursery:
            for _ in range(8):
                nursery.start_soon(work)
            nursery.start_soon(cancel)
        assert (done, turn.taken, len(turn.waiting)) == (8, False, 0)

    run(main)


# -- waiting for requests ------------------------------------------------------------------


class Device:
    """What is asked: a pipe, in which every byte stands for a request that is never read."""

    def __init__(self) -> None:
        self.reading, self.writing = os.pipe()

    def ask(self) -> None:
        os.write(self.writing, b"?")

    def answer(self) -> None:
        os.read(self.reading, 1)

    def hang_up(self) -> None:
        os.close(self.writing)
        self.writing = -1


@pytest.fixture
def device() -> Iterator[Device]:
    made = Device()
    yield made
    os.close(made.reading)
    if made.writing >= 0:
        os.close(made.writing)


class Watched(Fixed):
    """What is told to whoever decides how long to poll."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.told: list[int] = []
        self.held = 0

    def missed(self, hits: int, now: float) -> None:
        self.told.append(hits)

    def held_up(self, now: float) -> None:
        self.held += 1


class Session:
    """One who reads, one who waits for the turn to, and handlers that wait for something."""

    def __init__(self, turn: Turn, device: Device, busy_poll: BusyPoll | None = None) -> None:
        self.turn = turn
        self.device = device
        self.reader = Reader(turn, busy_poll or Fixed(0))

    async def read(self, main: Callable[["Session"], Awaitable[None]], *, handlers: int) -> None:
        """Run ``main(self)`` as who reads; ends with it."""
        async with trio.open_nursery() as nursery:
            for _ in range(handlers):
                nursery.start_soon(trio.sleep_forever)

            async def spare() -> None:
                async with self.turn:
                    await trio.sleep_forever()

            async def one() -> None:
                async with self.turn:
                    nursery.start_soon(spare)
                    await trio.lowlevel.checkpoint()
                    await trio.lowlevel.checkpoint()
                assert self.turn.waiting
                await main(self)
                nursery.cancel_scope.cancel()

            nursery.start_soon(one)

    async def request(self) -> None:
        """Get one request, and answer it at once."""
        async with self.turn:
            await self.reader.wait_readable(self.device.reading)

    async def stream(self) -> None:
        """Get requests for ever, of which the next one is there whenever one is answered."""
        self.device.ask()
        while True:
            await self.request()


def serve(
    device: Device,
    main: Callable[[Session], Awaitable[None]],
    busy_poll: BusyPoll | None = None,
    *,
    handlers: int = 0,
    beside: Callable[[], Awaitable[None]] | None = None,
) -> None:
    """Run ``main(session)``, and *beside* in a task of its own; ends with either."""

    async def both(turn: Turn) -> None:
        session = Session(turn, device, busy_poll)
        async with trio.open_nursery() as nursery:

            async def until_it_ends(what: Callable[[], Awaitable[None]]) -> None:
                await what()
                nursery.cancel_scope.cancel()

            if beside is not None:
                nursery.start_soon(until_it_ends, beside)
            nursery.start_soon(until_it_ends, lambda: session.read(main, handlers=handlers))

    run(both)


@pytest.mark.parametrize(("handlers", "between"), [(0, 65), (1, 9)], ids=["alone", "beside"])
def test_others_run_amid_a_stream_of_requests(device: Device, handlers: int, between: int) -> None:
    """And more often where a handler waits."""
    rounds = 0
    counted = 0

    async def count() -> None:
        nonlocal rounds
        while True:
            rounds += 1
            await trio.lowlevel.checkpoint()

    async def requests(session: Session) -> None:
        nonlocal counted
        device.ask()
        before = rounds
        for _ in range(1000):
            await session.request()
        counted = rounds - before

    serve(device, requests, handlers=handlers, beside=count)
    assert counted >= 1000 // between


def test_others_run_between_requests_that_take_long(device: Device) -> None:
    rounds = 0
    counted = 0

    async def count() -> None:
        nonlocal rounds
        while True:
            rounds += 1
            await trio.lowlevel.checkpoint()

    async def requests(session: Session) -> None:
        nonlocal counted
        device.ask()
        before = rounds
        for _ in range(10):
            await session.request()
            until = time.monotonic() + 0.002
            while time.monotonic() < until:
                pass
        counted = rounds - before

    serve(device, requests, beside=count)
    assert counted >= 8


def test_the_next_reader_gets_to_wait_at_once(device: Device) -> None:
    """Else pyfuse3, which sees none, starts another one for each request."""

    async def main(turn: Turn) -> None:
        reader = Reader(turn, Fixed(0))
        started = 0

        async def read() -> None:
            nonlocal started
            for _ in range(20):
                async with turn:
                    await reader.wait_readable(device.reading)
                if not turn.waiting:
                    started += 1
                    nursery.start_soon(spare)
            nursery.cancel_scope.cancel()

        async def spare() -> None:
            async with turn:
                await trio.sleep_forever()

        device.ask()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
        # In the round that lets it run, trio may run the reader first.
        assert started in (1, 2)

    run(main)


def test_a_request_that_is_gone_is_none(device: Device) -> None:
    """The kernel drops that of a program which is killed; to read would block then."""
    os.set_blocking(device.reading, False)

    def take_back() -> None:
        with contextlib.suppress(BlockingIOError):
            device.answer()

    async def requests(session: Session) -> None:
        for _ in range(20):
            await session.request()
            device.answer()

    async def ask_in_vain() -> None:
        while True:
            device.ask()
            # Now trio has seen it, and runs this task or the reader first.
            await trio.lowlevel.checkpoint()
            take_back()
            await trio.lowlevel.checkpoint()

    serve(device, requests, beside=ask_in_vain)


def test_a_thread_is_heard_amid_a_stream_of_requests(device: Device) -> None:
    async def wait() -> None:
        for _ in range(20):
            await trio.to_thread.run_sync(lambda: None)

    serve(device, Session.stream, beside=wait)


def test_a_signal_is_heard_amid_a_stream_of_requests(device: Device) -> None:
    async def wait() -> None:
        with trio.open_signal_receiver(signal.SIGUSR1) as signals:
            os.kill(os.getpid(), signal.SIGUSR1)
            async for number in signals:
                assert number == signal.SIGUSR1
                return

    serve(device, Session.stream, beside=wait)


def test_a_handler_that_waits_lets_others_read(device: Device) -> None:
    """The next reader is there before the first one is back."""

    async def main(turn: Turn) -> None:
        reader = Reader(turn, Fixed(0))
        answered = trio.Event()

        async def slow() -> None:
            async with turn:
                nursery.start_soon(fast)
                await reader.wait_readable(device.reading)
            await answered.wait()

        async def fast() -> None:
            async with turn:
                await reader.wait_readable(device.reading)
            answered.set()

        device.ask()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(slow)

    run(main)


@pytest.mark.parametrize("polls", [0.0, 1e-4], ids=["sleeping", "polling"])
@pytest.mark.parametrize("idle", [True, False], ids=["idle", "loaded"])
def test_a_reader_can_be_cancelled(device: Device, polls: float, idle: bool) -> None:
    async def look_on() -> None:
        for _ in range(10):
            await trio.lowlevel.checkpoint()

    reading = Session.request if idle else Session.stream
    serve(device, reading, Fixed(polls), beside=look_on)


@pytest.mark.parametrize("idle", [True, False], ids=["idle", "loaded"])
def test_a_reader_learns_that_the_device_is_closed(device: Device, idle: bool) -> None:
    """Whether it sleeps, or has not slept for long."""
    sessions = []
    learned = []

    async def read(session: Session) -> None:
        sessions.append(session)
        try:
            await (session.request() if idle else session.stream())
        except trio.ClosedResourceError:
            learned.append(True)

    async def close() -> None:
        for _ in range(10):
            await trio.lowlevel.checkpoint()
        sessions[0].reader.notify_closing(device.reading)
        await trio.sleep_forever()

    serve(device, read, beside=close)
    assert learned == [True]


@pytest.mark.parametrize("polls", [0.0, 1e-4], ids=["sleeping", "polling"])
def test_a_reader_learns_that_the_device_has_hung_up(device: Device, polls: float) -> None:
    async def hang_up() -> None:
        for _ in range(10):
            await trio.lowlevel.checkpoint()
        device.hang_up()
        await trio.sleep_forever()

    serve(device, Session.request, Fixed(polls), beside=hang_up)


class Asking(Watched):
    """A program asks as soon as the reader wonders whether to poll, or is about to sleep."""

    def __init__(self, device: Device) -> None:
        super().__init__(0)
        self._device = device

    def consider(self, now: float) -> None:
        self.seconds = PATIENCE
        self._device.ask()

    def missed(self, hits: int, now: float) -> None:
        super().missed(hits, now)
        self._device.ask()

    def held_up(self, now: float) -> None:
        super().held_up(now)
        if self.seconds < PATIENCE:
            self._device.ask()


def test_a_request_that_comes_in_time_is_found_by_polling(device: Device) -> None:
    asking = Asking(device)

    async def requests(session: Session) -> None:
        asked = 0
        # Where others have the processor meanwhile, it does not count.
        while asked < asking.held + 20:
            asking.seconds = 0
            await session.request()
            device.answer()
            asked += 1
        asking.seconds = 1e-4
        while not asking.told:
            await session.request()
            device.answer()

    serve(device, requests, asking)
    assert asking.told == [20]


def test_nobody_polls_while_a_handler_waits(device: Device) -> None:
    """It would keep the interpreter from the thread that the handler waits for."""
    watched = Watched(1e-4)

    async def requests(session: Session) -> None:
        await session.request()

    async def ask() -> None:
        for _ in range(10):
            await trio.lowlevel.checkpoint()
        device.ask()
        await trio.sleep_forever()

    serve(device, requests, watched, handlers=1, beside=ask)
    assert (watched.told, watched.held) == ([], 0)


# -- in trio's place -----------------------------------------------------------------------


def stand_in(wait: object) -> ModuleType:
    """A module as pyfuse3's would look to whoever takes trio's place in it."""
    module = ModuleType("pyfuse3")
    vars(module).update(trio=trio, _wait_fuse_readable=wait)
    return module


def test_what_pyfuse3_waits_for_is_in_its_module() -> None:
    loop = FastLoop(Fixed(0))
    with loop.installed(pyfuse3):
        names = vars(pyfuse3)["trio"]
        assert names.Lock() is loop.turn
        assert names.lowlevel.wait_readable is not trio.lowlevel.wait_readable
        assert names.lowlevel.notify_closing is not trio.lowlevel.notify_closing
        # All else is trio's.
        assert names.open_nursery is trio.open_nursery
        assert names.ClosedResourceError is trio.ClosedResourceError
        assert names.lowlevel.current_task is trio.lowlevel.current_task
    assert vars(pyfuse3)["trio"] is trio


def test_trio_is_back_after_a_failure() -> None:
    with pytest.raises(OSError, match="no mount"), FastLoop(Fixed(0)).installed(pyfuse3):
        raise OSError("no mount")
    assert vars(pyfuse3)["trio"] is trio


def test_a_module_that_waits_as_pyfuse3_does_fits() -> None:
    async def wait() -> bool:
        async with vars(module)["trio"].Lock():
            await vars(module)["trio"].lowlevel.wait_readable(3)
        return True

    module = stand_in(wait)
    loop = FastLoop(Fixed(0))
    with loop.installed(module):
        assert loop.fits(module)
        assert vars(module)["trio"] is not trio


async def waits_without_a_turn() -> bool:
    await vars(module_of_waits)["trio"].lowlevel.wait_readable(3)
    return True


async def waits_elsewhere() -> bool:
    async with vars(module_of_waits)["trio"].Lock():
        pass
    return True


async def waits_in_trio() -> bool:
    async with trio.Lock():
        await trio.lowlevel.wait_readable(0)
    return True


async def waits_longer() -> bool:
    async with vars(module_of_waits)["trio"].Lock():
        await vars(module_of_waits)["trio"].lowlevel.wait_readable(3)
        await trio.lowlevel.checkpoint_if_cancelled()
        await trio.lowlevel.cancel_shielded_checkpoint()
    return True


async def answers_otherwise() -> None:
    async with vars(module_of_waits)["trio"].Lock():
        await vars(module_of_waits)["trio"].lowlevel.wait_readable(3)


module_of_waits = stand_in(None)


@pytest.mark.parametrize(
    "wait",
    [
        waits_without_a_turn,
        waits_elsewhere,
        waits_in_trio,
        waits_longer,
        answers_otherwise,
        lambda: None,
        lambda session: None,
        None,
    ],
)
def test_a_module_that_waits_otherwise_gets_trio_back(wait: object) -> None:
    module = module_of_waits
    vars(module)["_wait_fuse_readable"] = wait
    loop = FastLoop(Fixed(0))
    with loop.installed(module):
        assert not loop.fits(module)
        assert vars(module)["trio"] is trio
        assert not loop.turn.taken


def test_a_module_without_the_function_gets_trio_back() -> None:
    module = ModuleType("pyfuse3")
    vars(module)["trio"] = trio
    loop = FastLoop(Fixed(0))
    with loop.installed(module):
        assert not loop.fits(module)
        assert vars(module)["trio"] is trio


def test_who_else_is_in_trios_place_stays() -> None:
    """As after ``pyfuse3.asyncio.enable()``."""
    other = SimpleNamespace(**vars(trio))
    module = stand_in(None)
    vars(module)["trio"] = other
    loop = FastLoop(Fixed(0))
    with loop.installed(module):
        assert not loop.fits(module)
        assert vars(module)["trio"] is other
    assert vars(module)["trio"] is other
