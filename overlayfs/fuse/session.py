"""A FUSE session: mount, serve, unmount."""

import errno
import gc
import logging
import signal
import time
from collections.abc import Awaitable, Callable, Collection, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pyfuse3
import trio

from overlayfs.errors import MountFailed
from overlayfs.fuse.busypoll import Auto, BusyPoll, Fixed
from overlayfs.fuse.loop import FastLoop
from overlayfs.fuse.operations import Operations
from overlayfs.fuse.tidying import Tidying
from overlayfs.linux.mounts import unmount
from overlayfs.tree.filesystem import Filesystem
from overlayfs.union.presentation import AS_IT_IS, Presentation

log = logging.getLogger(__name__)

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def _held_back(signals: Collection[signal.Signals]) -> Iterator[None]:
    """Signals that come meanwhile wait, at the latest for the end of it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _is_worth_telling(record: logging.LogRecord) -> bool:
    """Not that somebody did not wait for an answer, which the kernel says with ENOENT."""
    return not record.getMessage().endswith("fuse_reply_* failed with No such file or directory")


def serve(
    filesystem: Filesystem,
    mountpoint: Path,
    options: Collection[str],
    ready: Callable[[], None],
    presentation: Presentation = AS_IT_IS,
    *,
    aside: Callable[[], None] | None = None,
    plain: bool = False,
    busy_poll: float | None = None,
) -> None:
    """Mount *filesystem*, call *ready* once it answers, and serve until it is unmounted.

    *aside* is called in a thread after that, and waited for; what it raises is logged.  With
    *plain* pyfuse3 waits for requests in its own way, else in that of ``fuse.loop``, polling
    for *busy_poll* seconds after each one, or as long as it pays.

    SIGTERM and SIGINT unmount it: at once if nothing uses it, else it disappears from the
    tree and goes on serving those who still use it; a second signal ends that.  Raises
    MountFailed when the kernel or fusermount3 refuses.
    """
    logging.getLogger("pyfuse3").addFilter(_is_worth_telling)
    tidying = Tidying(filesystem.tree)
    answering = trio.Event()

    def answers() -> None:
        ready()
        answering.set()

    async def run_aside() -> None:
        await answering.wait()
        if aside is not None:
            await _run_aside(aside)

    loop = None if plain else FastLoop(_busy_poll(busy_poll))
    # From the mount on one that nobody hears yet would leave a mount without a daemon.
    with _held_back(_SIGNALS), loop.installed(pyfuse3) if loop else nullcontext():
        try:
            checked = "default_permissions" in options
            operations = Operations(filesystem, answers, presentation, tidying, checked=checked)
            pyfuse3.init(operations, str(mountpoint), set(options))
        except RuntimeError as exc:
            # libfuse and fusermount3 say why on stderr.
            raise MountFailed(f"{mountpoint}: the file system could not be mounted") from exc
        if loop is None:
            log.info("event loop: plain")
        elif loop.fits(pyfuse3):
            log.info("event loop: fast, busy poll: %s", _in_words(busy_poll))
        else:
            log.info("event loop: plain, as pyfuse3 %s takes no other", pyfuse3.__version__)
        # What was made so far lives as long as the mount: the collector need not look at it.
        gc.collect()
        gc.freeze()
        # What comes and goes with a request are no cycles; a tree has some, which tidying ends.
        gc.set_threshold(20_000, 20, 20)
        try:
            instruments = [loop.turn] if loop else []
            trio.run(_serve, mountpoint, tidying.run, run_aside, instruments=instruments)
        finally:
            pyfuse3.close()


def _busy_poll(seconds: float | None) -> BusyPoll:
    return Auto(time.monotonic()) if seconds is None else Fixed(seconds)


def _in_words(seconds: float | None) -> str:
    if not seconds:
        return "auto" if seconds is None else "off"
    return f"{seconds * 1e6:.0f} µs"


async def _serve(mountpoint: Path, *beside: Callable[[], Awaitable[None]]) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_unmount_on_signal, mountpoint)
        for task in beside:
            nursery.start_soon(task)
        try:
            await pyfuse3.main()
        except BaseExceptionGroup as group:
            rest = group.split(_is_hanging_up)[1]
            if rest is not None:
                raise rest from None
        nursery.cancel_scope.cancel()


def _is_hanging_up(exc: BaseException) -> bool:
    """Whether a read of /dev/fuse found the file system unmounted.

    fuse_dev_do_read() of the kernel answers ENODEV then, which libfuse takes for the end, or
    ECONNABORTED when the last user let go amid a lazy unmount.
    """
    return isinstance(exc, OSError) and exc.errno in (errno.ENODEV, errno.ECONNABORTED)


async def _run_aside(aside: Callable[[], None]) -> None:
    try:
        await trio.to_thread.run_sync(aside)
    except Exception:
        # The mount is worth more than what was to be done beside it.
        log.exception("beside the mount")


async def _unmount_on_signal(mountpoint: Path) -> None:
    with trio.open_signal_receiver(*_SIGNALS) as signals:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        asked = 0
        async for number in signals:
            asked += 1
            log.info("%s: unmounting", signal.Signals(number).name)
            if asked > 1:
                pyfuse3.terminate()
                return
            # In a thread: the kernel asks this very loop a last thing or two meanwhile.
            try:
                await trio.to_thread.run_sync(unmount, mountpoint)
            except OSError as exc:
                log.warning("%s: %s; unmounting lazily", mountpoint, exc.strerror)
                await trio.to_thread.run_sync(lambda: unmount(mountpoint, lazy=True))
