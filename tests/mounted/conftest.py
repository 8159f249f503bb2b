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
