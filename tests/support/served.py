"""Mounts served by forks of this process, which has everything imported already.

A mount costs a few milliseconds this way, and half a second as a command.  The command line
is the same, and so is what runs.
"""

import ctypes
import logging
import os
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import overlayfs.fuse.session  # noqa: F401  (imported before the fork, not in each one)
from overlayfs.cli import mountprogram
from overlayfs.linux.mounts import unmount
from tests.support.union import HUNG_UP, Stack, await_mount


@contextmanager
def served(stack: Stack, *options: str) -> Iterator[Path]:
    """The mount point of *stack*, mounted; its server must end without a complaint."""
    log = stack.base / "daemon.log"
    arguments = stack.command(*options)[3:]
    child = os.fork()
    if not child:
        _serve(["pyoverlayfs", *arguments], log)
    ended = False
    try:
        if not await_mount(stack.mountpoint, child):
            raise AssertionError(f"not mounted:\n{log.read_text()}")
        yield stack.mountpoint
        unmount(stack.mountpoint)
        ended = True
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        said = log.read_text()
        said = said.replace(HUNG_UP, "")
        assert (status, said) == (0, ""), f"the server ended with {status}\n{said}"
    finally:
        if not ended:
            unmount(stack.mountpoint, lazy=True)
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def _serve(command: list[str], log: Path) -> None:
    """In the fork: never returns."""
    status = 1
    try:
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: not to outlive the test
        os.chdir("/")
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        for fd, new in ((os.open(os.devnull, os.O_RDONLY), 0), (out, 1), (out, 2)):
            os.dup2(fd, new)
        os.closerange(3, 1 << 16)
        sys.argv = command
        # What pytest or a terminal had there is not for the fork.
        sys.stdout, sys.stderr = (os.fdopen(os.dup(fd), "w", buffering=1) for fd in (1, 2))
        logging.getLogger().handlers.clear()
        mountprogram.main()
        status = 0
    except SystemExit as exc:
        status = exc.code if isinstance(exc.code, int) else 1
    except BaseException:
        os.write(2, traceback.format_exc().encode())
    finally:
        os._exit(status)
