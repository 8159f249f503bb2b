"""Images and trees that take long to make, once for all tests."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.command import PyOverlay
from tests.support.images import Workshop, rich_layout, run, umoci_tree
from tests.support.podman import LAYERS, Containers, image_archive, machine, what_is_missing
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
def debian(shop: Workshop, debian_archive: Path) -> Path:
    """An OCI layout with the image ``debian``: a minimal root by debootstrap, in one layer."""
    container = shop.buildah("from", "scratch")
    shop.buildah("add", "--quiet", container, debian_archive, "/")
    shop.buildah("commit", "--quiet", "--format=oci", container, "localhost/debian")
    shop.buildah("rm", container)
    layout = shop.folder / "debian-layout"
    run("skopeo", "copy", "--quiet", shop.stored("localhost/debian"), f"oci:{layout}:debian")
    return layout


@pytest.fixture(scope="session")
def layered_image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved image of three layers, with markers of every kind in the upper two."""
    return image_archive(tmp_path_factory.mktemp("layered") / "image.tar", LAYERS)


@contextmanager
def containers_of(folder: Path, image: Path, *, rootless: bool) -> Iterator[Containers]:
    """A machine with the image in its storage; everything is unmounted at the end."""
    missing = what_is_missing(rootless=rootless)
    if missing:
        pytest.skip(missing)
    with machine(folder, image, rootless=rootless) as made:
        yield made
        assert made.beside("podman ps --all --quiet; grep '/mnt/.* fuse' /proc/mounts || :") == ""
        # The last one may be amid its end.
        made.beside("timeout 60 sh -c 'while pidof -x pyoverlayfs; do :; done'")


@pytest.fixture(scope="session")
def by_root(
    needs_root: None,
    needs_fuse: None,
    layered_image: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Containers]:
    """podman and buildah as root, with the image `IMAGE`."""
    folder = tmp_path_factory.mktemp("by-root")
    with containers_of(folder, layered_image, rootless=False) as made:
        yield made


@pytest.fixture(scope="session")
def by_user(
    needs_root: None,
    needs_fuse: None,
    layered_image: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Containers]:
    """podman and buildah as a plain user with subuids, with the image `IMAGE`."""
    folder = tmp_path_factory.mktemp("by-user")
    with containers_of(folder, layered_image, rootless=True) as made:
        yield made


@pytest.fixture(params=["root", "user"])
def containers(request: pytest.FixtureRequest) -> Containers:
    """podman and buildah, as root and then as a plain user."""
    made = request.getfixturevalue(f"by_{request.param}")
    assert isinstance(made, Containers)
    return made
