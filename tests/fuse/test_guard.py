"""Every request is answered, whatever happens: the kernel waits for each of them."""

import errno
import inspect
import logging
import os
import subprocess
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pyfuse3
import pytest
from pyfuse3 import FUSEError

from overlayfs.fuse import guard
from overlayfs.fuse.operations import Operations
from tests.support.union import PATIENCE, REPOSITORY, Stack, await_mount, run, write

T = TypeVar("T")

# These two have no answer, so no errno either: FUSE_INIT is over when init is called, and
# linux/fuse.h says of FUSE_FORGET "no reply".
UNANSWERED = {"init", "forget"}


def handlers(of: type) -> dict[str, Any]:
    """The methods that pyfuse3 may call."""
    return {
        name: method
        for name, method in inspect.getmembers(of, inspect.isfunction)
        if not name.startswith("_")
    }


def test_every_handler_is_guarded() -> None:
    own = {
        name: method for name, method in handlers(Operations).items() if name in vars(Operations)
    }
    assert set(own) <= set(handlers(pyfuse3.Operations)), "pyfuse3 calls no such thing"
    guarded = guard.replies(pyfuse3.Operations.lookup).__code__  # type: ignore[attr-defined]
    unguarded = {name for name, method in own.items() if method.__code__ is not guarded}
    assert unguarded == UNANSWERED


def test_every_request_that_pyfuse3_knows_is_handled() -> None:
    inherited = {name for name in handlers(pyfuse3.Operations) if name not in vars(Operations)}
    # What is left to pyfuse3 is one for debugging, and what newer versions may have.
    assert inherited <= {"stacktrace", "poll"}


def answer(coroutine: Coroutine[Any, Any, T]) -> T:
    """What a coroutine that waits for nothing returns."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        value: T = done.value
        return value
    raise AssertionError("it waits")


@pytest.mark.parametrize(
    ("raised", "code"),
    [
        pytest.param(FileNotFoundError(errno.ENOENT, "gone"), errno.ENOENT, id="os-error"),
        pytest.param(OSError(errno.EXDEV, "elsewhere"), errno.EXDEV, id="another-os-error"),
        pytest.param(OSError("no number"), errno.EIO, id="os-error-without-errno"),
        pytest.param(FUSEError(errno.ENODATA), errno.ENODATA, id="fuse-error"),
        pytest.param(ValueError("a bug"), errno.EIO, id="value-error"),
        pytest.param(KeyError(1), errno.EIO, id="key-error"),
        pytest.param(AssertionError(), errno.EIO, id="assertion"),
        pytest.param(RecursionError(), errno.EIO, id="recursion"),
        pytest.param(MemoryError(), errno.EIO, id="memory"),
    ],
)
def test_exceptions_become_errnos(raised: Exception, code: int) -> None:
    @guard.replies
    async def handler() -> None:
        raise raised

    with pytest.raises(FUSEError) as caught:
        answer(handler())
    assert caught.value.errno == code


def test_only_bugs_are_logged_as_such(caplog: pytest.LogCaptureFixture) -> None:
    @guard.replies
    async def handler(exc: Exception) -> None:
        raise exc

    with caplog.at_level(logging.WARNING):
        for exc in (FileNotFoundError(errno.ENOENT, "x"), FUSEError(errno.ENODATA)):
            with pytest.raises(FUSEError):
                answer(handler(exc))
        assert caplog.records == []
        with pytest.raises(FUSEError):
            answer(handler(ValueError("the reason")))
    (record,) = caplog.records
    assert (record.levelname, record.getMessage()) == ("ERROR", "handler: answering EIO")
    assert record.exc_info is not None
    assert "the reason" in str(record.exc_info[1])


def test_what_ends_the_program_passes() -> None:
    @guard.replies
    async def handler() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        answer(handler())


def test_answers_pass_as_they_are() -> None:
    @guard.replies
    async def handler(one: int, *, other: int) -> tuple[int, int]:
        """What it does."""
        return one, other

    assert answer(handler(1, other=2)) == (1, 2)
    assert (handler.__name__, handler.__doc__) == ("handler", "What it does.")


WITH_A_BUG = """
import os, sys
from pathlib import Path
from overlayfs.fuse.session import serve
from overlayfs.serving import Stack
from overlayfs.tree.filesystem import Filesystem
from overlayfs.union.names import Format


class Buggy(Filesystem):
    def lookup(self, parent, name):
        if name == b"bug":
            raise ValueError("a bug in a lookup")
        return super().lookup(parent, name)

    def readlink(self, ino):
        raise RuntimeError("a bug in readlink")

    def listing(self, handle, offset):
        raise LookupError("a bug in readdir")


lower, upper, work, mountpoint = (Path(word) for word in sys.argv[1:])
tree = Stack((lower,), upper, work, Format.KERNEL).open().tree
filesystem = Buggy(tree)
serve(filesystem, mountpoint, ["default_permissions"], lambda: None)
filesystem.close()
"""


def test_a_mount_survives_bugs(tmp_path: Path, needs_root: None, needs_fuse: None) -> None:
    stack = Stack.make(tmp_path / "stack")
    write(stack.lower / "file", "text")
    (stack.lower / "link").symlink_to("file")
    mnt = stack.mountpoint
    with subprocess.Popen(
        [sys.executable, "-c", WITH_A_BUG, stack.lower, stack.upper, stack.work, mnt],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert await_mount(mnt, process.pid)
        try:
            for wrong in (
                (mnt / "bug").stat,
                (mnt / "bug").mkdir,
                (mnt / "link").readlink,
                lambda: list(mnt.iterdir()),
            ):
                with pytest.raises(OSError, match="Input/output error"):
                    wrong()
                assert (mnt / "file").read_text() == "text"
            (mnt / "file").write_text("changed")
        finally:
            run("umount", mnt)
        said = process.communicate(timeout=PATIENCE)[1]
        assert process.returncode == 0
    for reason in ("a bug in a lookup", "a bug in readlink", "a bug in readdir"):
        assert f"Error: {reason}" in said
    assert "lookup: answering EIO" in said
    assert (stack.upper / "file").read_text() == "changed"
