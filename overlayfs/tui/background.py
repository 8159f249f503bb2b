"""Work beside the loop that draws."""

import asyncio
from collections.abc import Callable
from threading import Thread
from typing import TypeVar

from textual.message_pump import MessagePump

from overlayfs.errors import OverlayError

T = TypeVar("T")
Failure = OverlayError | OSError


class Background:
    """Threads that end with the process: nobody waits for them who wants to leave.

    *idle* is set while nothing is under way.
    """

    def __init__(self, app: MessagePump) -> None:
        self._app = app
        self._under_way = 0
        self.idle = asyncio.Event()
        self.idle.set()

    def run(
        self,
        work: Callable[[], T],
        then: Callable[[T], None],
        failed: Callable[[Failure], None],
    ) -> None:
        """Do *work* in a thread; then call *then* with what it gave, or *failed*, in the loop."""

        def do() -> None:
            try:
                result = work()
            except (OverlayError, OSError) as exc:
                self.tell(finished, failed, exc)
            else:
                self.tell(finished, then, result)

        def finished(what: Callable[[object], None], result: object) -> None:
            self._under_way -= 1
            if not self._under_way:
                self.idle.set()
            what(result)

        self._under_way += 1
        self.idle.clear()
        Thread(target=do, daemon=True).start()

    def tell(self, what: Callable[..., None], *arguments: object) -> None:
        """From a thread: call *what* in the loop, if that is still there."""
        self._app.call_later(what, *arguments)
