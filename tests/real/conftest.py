"""Images and trees that take long to make, once for all tests."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.command import PyOverlay
from tests.support.images import Workshop, debian_root, rich_layout, run, umoci_tree
from tests.support.podman import (
    Containers,
    Member,
    busybox_members,
    folder,
    image_archive,
    machine,
    missing_tools,
)
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


# To work in.  Sizes differ where one file may take the name of another: podman compares sizes and
# times, and sees no change when both are the same.
WORK_TREE = (
    *(folder("tree"), folder("tree/a"), folder("tree/a/sub"), Member("tree/a/sub/f", b"f" * 9000)),
    *(folder("tree/b"), folder("tree/b/deep"), Member("tree/b/deep/g", b"g\n")),
    *(folder("tree/c"), Member("tree/c/one", b"1\n"), Member("tree/c/two", b"2\n", 0o400)),
    *(folder("tree/d"), Member("tree/d/in", b"in\n")),
    *(folder("tree/owned", 0o2775, (1000, 50)), Member("tree/owned/suid", b"s", 0o4755)),
    Member("tree/owned/its", b"its\n", 0o640, (1000, 1000)),
    *(folder("tree/owned/sub", 0o700, (1001, 50)), Member("tree/owned/link", "its")),
    *(
        Member("tree/text", b"a line\n" * 2000),
        Member("tree/e", b"e\n"),
        Member("tree/x", b"the x\n"),
    ),
    *(Member("tree/y", b"y\n"), Member("tree/symlink", "a/sub"), Member("tree/dangling", "no")),
    *(Member("tree/one", b"linked\n"), Member("tree/two", hard="tree/one")),
    Member("tree/three", hard="tree/one"),
    *(folder("tree/mixed"), Member("tree/mixed/first", b"first\n")),
    *(folder("tree/kept"), Member("tree/kept/untouched", b"u\n")),
)

LAYERS = (
    (
        *busybox_members(),
        *(folder("opaque"), Member("opaque/old"), Member("opaque/kept", b"below")),
        *(folder("opaque/deep"), Member("opaque/deep/old")),
        *(folder("partly"), Member("partly/old"), folder("partly/deep")),
        *(Member("partly/deep/old"), Member("partly/deep/left", b"left")),
        *(folder("gone"), Member("gone/file"), Member("removed")),
        *(folder("again"), Member("again/old"), Member("again/now-a-dir")),
        *(folder("becomes-file"), Member("becomes-file/old")),
        *WORK_TREE,
        Member("suid", b"suid", 0o6755),
        Member("linked", b"linked", 0o640, (3, 4)),
        Member("linked-too", mode=0o640, owner=(3, 4), hard="linked"),
    ),
    (
        *(folder("opaque", 0o1775, (5, 6)), Member("opaque/.wh..wh..opq")),
        Member("opaque/kept", b"kept"),
        *(folder("partly"), Member("partly/.wh.old")),
        Member("partly/new", b"new", 0o600, (1000, 1000)),
        *(folder("partly/deep"), Member("partly/deep/.wh.old")),
        *(Member(".wh.gone"), Member(".wh.again"), Member(".wh.becomes-file")),
    ),
    (
        *(folder("opaque", 0o1775, (5, 6)), folder("opaque/deep")),
        Member("opaque/deep/third", b"third"),
        *(folder("again"), Member("again/now", b"now")),
        *(folder("again/now-a-dir"), Member("again/now-a-dir/in", b"in")),
        Member("becomes-file", b"file"),
        *(folder("tree"), folder("tree/mixed"), Member("tree/mixed/third", b"the third\n")),
        Member(".wh.removed"),
    ),
)


@pytest.fixture(scope="session")
def layered_image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved image of three layers, with markers of every kind in the upper two."""
    return image_archive(tmp_path_factory.mktemp("layered") / "image.tar", LAYERS)


@contextmanager
def containers_of(folder: Path, image: Path, *, rootless: bool) -> Iterator[Containers]:
    """A machine with the image in its storage; everything is unmounted at the end."""
    missing = missing_tools()
    if missing:
        pytest.skip(f"missing: {missing}")
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
