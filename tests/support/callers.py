"""Doing things as one user or another, and being refused."""

import errno
import os
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from overlayfs.linux.files import renameat2
from tests.support.union import run

_AT_FDCWD = -100
SOMEONE = 1000
GROUP = 1000


@contextmanager
def refused(code: int) -> Iterator[None]:
    """The block must fail with errno *code*."""
    with pytest.raises(OSError, match=r".+") as caught:
        yield
    assert errno.errorcode[caught.value.errno or 0] == errno.errorcode[code]


def as_someone(script: str, *arguments: str | Path, groups: tuple[int, ...] = ()) -> str:
    """What the Python *script* prints as another user; the name of the errno if it fails.

    The process becomes that user by itself: the interpreter may lie where only root goes.
    """
    wrapped = f"""
import errno, os, socket, subprocess, sys
from pathlib import Path
os.umask(0o022)
os.setgroups({list(groups)})
os.setresgid({GROUP}, {GROUP}, {GROUP})
os.setresuid({SOMEONE}, {SOMEONE}, {SOMEONE})
try:
{textwrap.indent(script.strip(), "    ")}
except OSError as exc:
    print(errno.errorcode[exc.errno])
"""
    return run(sys.executable, "-c", wrapped, *arguments).strip()


def by_root(script: str, *arguments: str | Path) -> str:
    """What the Python *script* prints as this user."""
    return run(sys.executable, "-c", f"import os, sys\n{script}", *arguments).strip()


def outcome(act: Callable[[], object]) -> str:
    """What came of *act*: the name of its errno, or ``done``."""
    try:
        act()
    except OSError as exc:
        return errno.errorcode[exc.errno or 0]
    return "done"


def rename(old: Path, new: Path, flags: int = 0) -> None:
    renameat2(_AT_FDCWD, os.fsencode(old), _AT_FDCWD, os.fsencode(new), flags)
