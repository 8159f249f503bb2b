"""A store for each test, in the kernel's format, and images that lie in it or beside it."""

from collections.abc import Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path

import pytest

from overlayfs.archive.detect import open_image
from overlayfs.store.store import Store
from overlayfs.view.image import ImageView
from overlayfs.view.opening import of_source, of_stored
from tests.support.archives import Made, from_1_10, write_tar
from tests.support.viewed import Opened


@pytest.fixture
def store(tmp_path: Path, needs_root: None) -> Store:
    """An empty store in the kernel's format."""
    return Store.open(tmp_path / "store")


@pytest.fixture(params=["archive", "store"])
def opened(request: pytest.FixtureRequest, store: Store, tmp_path: Path) -> Iterator[Opened]:
    """Opens an image that has the given layers, base first; where it lies must not matter."""
    numbers = count()
    with ExitStack() as stack:

        def of(layers: list[bytes]) -> ImageView:
            archive = write_tar(
                tmp_path / f"{next(numbers)}.tar", from_1_10([(Made(tuple(layers)), [])])
            )
            source = stack.enter_context(open_image(str(archive), scratch=store.scratch))
            if request.param == "archive":
                view = of_source(source, what="image", scratch=store.scratch)
            else:
                view = of_stored(store.add(source))
            return stack.enter_context(view)

        yield of
