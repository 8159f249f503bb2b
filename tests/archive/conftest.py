"""Opening a made archive the way a user does."""

from collections.abc import Callable
from pathlib import Path

import pytest

from overlayfs.archive.choice import Choice
from overlayfs.archive.detect import list_images, open_image
from overlayfs.image.platform import Platform
from tests.support.archives import Members, Taken, taken, write_tar

Take = Callable[..., Taken]


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    """Where compressed archives are unpacked."""
    path = tmp_path / "scratch"
    path.mkdir()
    return path


@pytest.fixture
def take(tmp_path: Path, scratch: Path) -> Take:
    """Everything that the image in a tar with these members gives."""

    def take_(members: Members, choice: str = "", platform: str | None = None) -> Taken:
        path = write_tar(tmp_path / "app.tar", members)
        wanted = None if platform is None else Platform.parse(platform)
        with open_image(f"{path}{choice}", platform=wanted, scratch=scratch) as source:
            return taken(source)

    return take_


@pytest.fixture
def listed(tmp_path: Path, scratch: Path) -> Callable[[Members], list[Choice]]:
    """The images in a tar with these members."""
    return lambda members: list_images(
        str(write_tar(tmp_path / "app.tar", members)), scratch=scratch
    )
