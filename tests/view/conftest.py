"""A store for each test, in the kernel's format."""

from pathlib import Path

import pytest

from overlayfs.store.store import Store


@pytest.fixture
def store(tmp_path: Path, needs_root: None) -> Store:
    """An empty store in the kernel's format."""
    return Store.open(tmp_path / "store")
