"""A store and a small image for each test of the commands."""

from pathlib import Path

import pytest

from overlayfs.cli.demo_image import write_demo_image
from tests.support.command import PyOverlay


@pytest.fixture
def pyoverlay(tmp_path: Path) -> PyOverlay:
    """The command, with an empty store."""
    return PyOverlay(tmp_path / "store")


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's image in a tar."""
    folder = tmp_path_factory.mktemp("demo")
    write_demo_image(folder / "demo.tar", folder)
    return folder / "demo.tar"
