"""Leaving a process behind that serves a mount, and hearing from it."""

import errno
import gc
import json
import linecache  # noqa: F401  (for tracebacks, once the mount covers where it lies)
import logging
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from overlayfs.errors import MountFailed, OverlayError

log = logging.getLogger(__name__)

LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def leave_behind(serve: Callable[[Callable[[], None]], None], logfile: Path | None) -> None:
    """Run ``serve(ready)`` in a daemon; returns once it has called *ready*.

    The process is made before it has a thread or an event loop, and leaves the session of
    the terminal.  Its output goes to *logfile*, or nowhere.  An OverlayError from *serve*
    before that is raised here as MountFailed, with the last line of the log as the hint
    if it has none; any other exception as RuntimeError, with the traceback in the log.
    """
    reading, writing = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    # What is there by now stays: neither process should look through it, and the daemon need
    # not copy the pages that a look writes to. It also halves the time in which this one ends.
    gc.freeze()
    child = os.fork()
    if not child:
        os.close(reading)
        _become_daemon(serve, logfile, writing)
    os.close(writing)
    os.waitpid(child, 0)
    with open(reading, "rb") as pipe:  # noqa: PTH123  (a descriptor)
        said = pipe.read()
    words = _last_words(logfile)
    if not said:
        raise MountFailed("the daemon died before it answered", hint=words)
    answer = json.loads(said)
    if "bug" in answer:
        raise RuntimeError(f"the daemon failed, see {logfile}: {answer['bug']}")
    if "error" in answer:
        raise MountFailed(answer["error"], hint=answer["hint"] or words)


def _last_words(logfile: Path | None) -> str:
    lines = logfile.read_text(errors="replace").strip().splitlines() if logfile else []
    return lines[-1] if lines else ""


def _become_daemon(
    serve: Callable[[Callable[[], None]], None], logfile: Path | None, writing: int
) -> NoReturn:
    """In the child: never returns."""
    status = 1
    try:
        os.setsid()
        if os.fork():
            os._exit(0)
        os.chdir("/")
        null = os.open(os.devnull, os.O_RDWR)
        out = os.open(logfile, os.O_WRONLY | os.O_APPEND) if logfile else null
        for fd, new in ((null, 0), (out, 1), (out, 2)):
            os.dup2(fd, new)
        logging.basicConfig(level=logging.INFO, format=LOG_FORMAT, force=True)

        def ready() -> None:
            _say(writing, {"ready": True})

        serve(ready)
        status = 0
    except OverlayError as exc:
        if not _say(writing, {"error": exc.message, "hint": exc.hint}):
            log.error("%s", exc)
    except BaseException as exc:
        traceback.print_exc()
        _say(writing, {"bug": repr(exc)})
    finally:
        logging.shutdown()
        os._exit(status)


def _say(writing: int, answer: dict[str, object]) -> bool:
    """Answer the process that waits; False when it was answered before, or is gone."""
    try:
        os.write(writing, json.dumps(answer).encode())
        os.close(writing)
    except OSError as exc:
        if exc.errno not in (errno.EBADF, errno.EPIPE):
            raise
        return False
    return True
