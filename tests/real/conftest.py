"""Images and trees that take long to make, once for all tests."""

from pathlib import Path

import pytest

from tests.support.command import PyOverlay
from tests.support.images import Workshop, debian_root, rich_layout, run, umoci_tree
from tests.support.tree import Tree, snapshot


@pytest.fixture(scope="session")
def shop(needs_root: None, tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    """The tools that make images."""
    return Workshop(tmp_path_factory.mktemp("workshop"))


@pytest.fixture(scope="session")
def layout(shop: Workshop) -> Path:
    """The OCI layout with the images ``rich`` and ``dense``."""
    return rich_layout(shop)


@pytest.fixture(scope="session")
def umoci_trees(shop: Workshop, layout: Path) -> dict[str, Tree]:
    """What ``umoci unpack`` makes of the two."""
    return {
        name: snapshot(umoci_tree(layout, name, shop.folder / f"unpacked-{name}"))
        for name in ("rich", "dense")
    }


@pytest.fixture
def pyoverlay(tmp_path: Path) -> PyOverlay:
    """The command, with an empty store."""
    return PyOverlay(tmp_path / "store")


@pytest.fixture(scope="session")
def debian(shop: Workshop) -> Path:
    """An OCI layout with the image ``debian``: a minimal root by debootstrap, in one layer."""
    archive = debian_root(shop.folder)
    container = shop.buildah("from", "scratch")
    shop.buildah("add", "--quiet", container, archive, "/")
    shop.buildah("commit", "--quiet", "--format=oci", container, "localhost/debian")
    shop.buildah("rm", container)
    layout = shop.folder / "debian-layout"
    run("skopeo", "copy", "--quiet", shop.stored("localhost/debian"), f"oci:{layout}:debian")
    return layout
