"""What the tests of mounts share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.union import Stack


@pytest.fixture
def stack(tmp_path: Path, needs_root: None, needs_fuse: None) -> Stack:
    """Two empty lower directories, an upper one, and a place to mount them."""
    return Stack.make(tmp_path / "stack", lowers=2)


@pytest.fixture
def mnt(stack: Stack) -> Iterator[Path]:
    """The mount point of *stack*, mounted."""
    with stack.mounted() as mountpoint:
        yield mountpoint


@pytest.fixture
def open_stack(tmp_path: Path, stack: Stack) -> Stack:
    """A stack whose mount point other users can reach."""
    for folder in (tmp_path, *tmp_path.parents[:2]):
        if folder != Path("/tmp"):
            folder.chmod(folder.stat().st_mode | 0o011)
    return stack
