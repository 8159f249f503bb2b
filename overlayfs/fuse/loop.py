"""What pyfuse3 waits with: for its turn to read, and for the next request.

pyfuse3 asks trio for both, by the name ``trio`` in its module, and that costs a lock, an
epoll registration and task switches for each request.  Its own support of asyncio puts
another object in the place of that name, and so does this.
"""

import os
import select
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, cast

import trio
from trio.lowlevel import Abort, Task

from overlayfs.fuse.busypoll import BusyPoll

# Requests between two rounds of trio's loop, which take ten microseconds or more: for signals,
# for threads that are done, and for handlers that wait; fewer while there are some.
_MANY, _FEW = 64, 8
# The same in seconds, for requests that take long.
_ROUND = 1e-3
# Giving the processor away and looking takes two microseconds; above this, others had it.
_HELD_UP = 200e-6


class _AtOnce:
    """Awaiting it takes no time: not even a coroutine is made, of which each costs 0.1 µs."""

    # An iterator that has nothing to wait for, as PEP 492 wants one.
    __await__ = staticmethod(().__iter__)


_AT_ONCE = cast("Awaitable[None]", _AtOnce())


class Turn(trio.abc.Instrument):
    """Whose turn it is to read requests: a lock that costs nothing while nobody waits.

    Who lets go of it and comes back within the same step of its task, having answered a
    request without waiting for anything, finds it free whoever waits.  After every other
    step somebody has it as long as anybody wants it: as an instrument of the loop, it hands
    itself to whoever has waited longest.  ``trio.run`` must be given it.
    """

    def __init__(self) -> None:
        self.waiting: deque[Task] = deque()
        self.taken = False

    def __aenter__(self) -> Awaitable[None]:
        if self.taken:
            return self._wait()
        self.taken = True
        return _AT_ONCE

    def __aexit__(self, *exc: object) -> Awaitable[None]:
        self.taken = False
        return _AT_ONCE

    async def _wait(self) -> None:
        task = trio.lowlevel.current_task()
        self.waiting.append(task)

        def abort(_: object) -> Abort:
            self.waiting.remove(task)
            return Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)

    def after_task_step(self, task: Task) -> None:
        """Called by trio."""
        if self.waiting and not self.taken:
            # It is that task's before it runs, so that nobody comes in between.
            self.taken = True
            trio.lowlevel.reschedule(self.waiting.popleft())


class Reader:
    """Waits for requests: looks, polls for as long as *busy_poll* says, and sleeps in trio.

    Only who has the *turn* may wait, in a task of a nursery whose tasks all read and answer.
    """

    def __init__(self, turn: Turn, busy_poll: BusyPoll) -> None:
        self._turn = turn
        self._busy_poll = busy_poll
        self._fd = -1
        self._look = select.poll().poll
        self._nursery: trio.Nursery | None = None
        self._closing = False
        self._left = 0
        self._due = 0.0
        self._hits = 0

    def wait_readable(self, fd: int) -> Awaitable[None]:
        """Return when *fd* can be read or has hung up; ClosedResourceError as with trio's."""
        now = time.monotonic()
        self._left -= 1
        # Where nobody waits for the turn, pyfuse3 has started a task that could not run yet,
        # and would start another one for each request.
        if self._left < 0 or now > self._due or not self._turn.waiting:
            return self._let_others_run(fd)
        if self._look(0):
            return _AT_ONCE
        return self._wait(fd, now)

    async def _wait(self, fd: int, now: float) -> None:
        busy_poll = self._busy_poll
        if not busy_poll.seconds:
            busy_poll.consider(now)
        if busy_poll.seconds and not self._handlers_wait() and self._poll(now):
            return
        while True:
            await trio.lowlevel.wait_readable(fd)
            # The kernel drops the request of whoever is killed, and to read would block then,
            # and with it the answers of handlers that wait.
            if self._look(0):
                break
            self._check_open()
        self._begin_round()

    def notify_closing(self, fd: int) -> None:
        """As trio's, but who does not sleep at the moment learns it, too."""
        self._closing = True
        trio.lowlevel.notify_closing(fd)

    async def _let_others_run(self, fd: int) -> None:
        if fd != self._fd:
            self._fd = fd
            poll = select.poll()
            poll.register(fd, select.POLLIN)
            self._look = poll.poll
        self._nursery = trio.lowlevel.current_task().parent_nursery
        await trio.lowlevel.checkpoint()
        self._check_open()
        self._begin_round()
        if not self._look(0):
            await self._wait(fd, time.monotonic())

    def _check_open(self) -> None:
        if self._closing:
            raise trio.ClosedResourceError

    def _begin_round(self) -> None:
        self._left = _FEW if self._handlers_wait() else _MANY
        self._due = time.monotonic() + _ROUND

    def _handlers_wait(self) -> bool:
        """Whether a handler waits for something, a thread as a rule.

        A thread needs the interpreter, of which polling leaves it little, and what it has to
        say is heard in trio's loop.
        """
        assert self._nursery is not None
        return len(self._nursery.child_tasks) > 1 + len(self._turn.waiting)

    def _poll(self, now: float) -> bool:
        """Whether a request came in time."""
        busy_poll = self._busy_poll
        end = now + busy_poll.seconds
        while True:
            # Who asks next may need this very processor for it.
            os.sched_yield()
            found = self._look(0)
            before, now = now, time.monotonic()
            if now - before > _HELD_UP:
                busy_poll.held_up(now)
                return bool(found)
            if found:
                self._hits += 1
                return True
            if now >= end:
                busy_poll.missed(self._hits, now)
                self._hits = 0
                return False


class FastLoop:
    """Takes the place of trio in pyfuse3; *turn* is for ``trio.run``."""

    def __init__(self, busy_poll: BusyPoll) -> None:
        self.turn = Turn()
        reader = Reader(self.turn, busy_poll)
        self._trio = self._instead(reader.wait_readable, reader.notify_closing)

    def _instead(self, wait: Callable[[int], Awaitable[None]], end: Callable[[int], None]) -> Any:
        lowlevel = _Instead(trio.lowlevel, wait_readable=wait, notify_closing=end)
        return _Instead(trio, Lock=lambda: self.turn, lowlevel=lowlevel)

    @contextmanager
    def installed(self, pyfuse3: ModuleType) -> Iterator[None]:
        """Be in trio's place; to be done before a session is made, which may make the lock."""
        names = vars(pyfuse3)
        before = names.get("trio")
        if before is trio:
            names["trio"] = self._trio
        try:
            yield
        finally:
            if before is trio:
                names["trio"] = trio

    def fits(self, pyfuse3: ModuleType) -> bool:
        """Whether *pyfuse3*, which has a session, waits with this; if not, trio is back.

        One wait is rehearsed, with nobody reading.
        """
        names = vars(pyfuse3)
        if names.get("trio") is not self._trio:
            return False
        taken: list[bool] = []

        async def rehearse(fd: int) -> None:
            taken.append(self.turn.taken)

        names["trio"] = self._instead(rehearse, trio.lowlevel.notify_closing)
        fits = _answer_at_once(pyfuse3) is True and taken == [True] and not self.turn.taken
        names["trio"] = self._trio if fits else trio
        return fits


def _answer_at_once(pyfuse3: ModuleType) -> object:
    """What pyfuse3's wait for a request answers without waiting; None if there is no such."""
    try:
        waiting = pyfuse3._wait_fuse_readable()
        try:
            waiting.send(None)
        except StopIteration as done:
            return done.value
        waiting.close()
    except (AttributeError, TypeError, RuntimeError):
        pass  # it is another function, or trio's own, outside of trio's loop
    return None


class _Instead:
    """*original* with *others* under some of its names."""

    def __init__(self, original: object, **others: Any) -> None:
        self._original = original
        self.__dict__.update(others)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._original, name)
