"""A store for the tests of the command."""

from pathlib import Path

import pytest

from tests.support.command import PyOverlay


@pytest.fixture
def pyoverlay(tmp_path: Path) -> PyOverlay:
    return PyOverlay(tmp_path / "store")
