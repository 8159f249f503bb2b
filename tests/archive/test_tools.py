"""Images that buildah, podman, skopeo and umoci wrote are read as those tools meant them."""

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from overlayfs.archive.compression import decompressed
from overlayfs.archive.detect import list_images, open_image
from overlayfs.errors import AmbiguousImage, ImageNotFound
from overlayfs.image.config import ImageConfig
from overlayfs.image.digest import Digest
from overlayfs.image.platform import Platform
from tests.support.archives import Taken, taken
from tests.support.images import Workshop, run


@dataclass(frozen=True, slots=True)
class Bench:
    """A workshop with the images ``base`` and ``app``, and ``multi`` for three platforms."""

    shop: Workshop
    ids: dict[str, str]


@pytest.fixture(scope="module")
def bench(needs_root: None, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """Images of one and two layers, and a list of three platforms, by ``buildah bud``."""
    folder = tmp_path_factory.mktemp("tools")
    shop = Workshop(folder)
    context = folder / "context"
    context.mkdir()
    (context / "text").write_text("text " * 10_000)
    (context / "noise").write_bytes(os.urandom(200_000))
    (context / "Base").write_text("FROM scratch\nCOPY text /text\nLABEL a=b\n")
    (context / "App").write_text('FROM localhost/base\nCOPY noise /noise\nCMD ["/noise"]\n')
    ids = {}
    for name in ("base", "app"):
        file = context / name.capitalize()
        shop.buildah("bud", "--quiet", "--layers", "-f", file, "-t", f"localhost/{name}", context)
    for machine in ("amd64", "arm64", "s390x"):
        shop.buildah(
            *("bud", "--quiet", "-f", context / "Base", "--platform", f"linux/{machine}"),
            *("--manifest", "localhost/multi", context),
        )
    for name in ("base", "app"):
        inspected = json.loads(shop.buildah("inspect", "--type=image", f"localhost/{name}"))
        ids[name] = f"sha256:{inspected['FromImageID']}"
    return Bench(shop, ids)


@pytest.fixture
def opened(bench: Bench, tmp_path: Path) -> "Opened":
    """Opens what a tool wrote below a folder of the test's own."""
    return Opened(bench, tmp_path)


@dataclass(frozen=True, slots=True)
class Opened:
    """Copies the images of a bench and reads the copies."""

    bench: Bench
    folder: Path

    def copy(self, destination: str, *options: str, name: str = "app") -> None:
        """One image of the storage, copied by skopeo to *destination* in the folder."""
        transport, _, rest = destination.partition(":")
        target = f"{transport}:{self.folder}/{rest}"
        source = self.bench.shop.stored(f"localhost/{name}")
        run("skopeo", "copy", "--quiet", *options, source, target)

    def take(self, spec: str, platform: str | None = None) -> Taken:
        """Everything that the image *spec* in the folder gives."""
        wanted = None if platform is None else Platform.parse(platform)
        with open_image(f"{self.folder}/{spec}", platform=wanted, scratch=self.folder) as source:
            return taken(source)

    def packing(self, spec: str) -> set[str]:
        """How the layers of the image *spec* are packed."""
        with open_image(f"{self.folder}/{spec}", scratch=self.folder) as source:
            found = set()
            for layer in source.layers:
                with decompressed(layer.open()) as stream:
                    stream.read(1)
                    found.add(str(stream.compression))
            return found


@pytest.mark.parametrize(
    ("destination", "options", "spec", "names", "packing"),
    [
        (
            "docker-archive:x:localhost/app:v1",
            [],
            "x",
            ("localhost/app:v1",),
            {"none"},
        ),
        ("docker-archive:x", [], "x", (), {"none"}),
        ("oci-archive:x:localhost/app:v1", [], "x", ("localhost/app:v1",), {"gzip"}),
        ("oci-archive:x.tar:v1", [], "x.tar", ("x:v1",), {"gzip"}),
        ("oci-archive:x.tar", [], "x.tar", (), {"gzip"}),
        ("oci:x:v1", [], "x", ("x:v1",), {"gzip"}),
        ("oci:x:v1", ["--dest-compress-format=zstd"], "x", ("x:v1",), {"zstd"}),
        (
            "oci:x:v1",
            ["--format=oci", "--dest-oci-accept-uncompressed-layers"],
            "x",
            None,
            {"none"},
        ),
        ("dir:x", [], "x", (), {"none"}),
        ("dir:x", ["--dest-compress"], "x", (), {"gzip"}),
        ("dir:x", ["--format=v2s2"], "x", (), {"none"}),
        (
            "dir:x",
            ["--dest-compress", "--dest-compress-format=zstd", "--format=oci"],
            "x",
            (),
            {"zstd"},
        ),
    ],
)
def test_skopeo(
    opened: Opened,
    destination: str,
    options: list[str],
    spec: str,
    names: tuple[str, ...] | None,
    packing: set[str],
) -> None:
    opened.copy(destination, *options)
    found = opened.take(spec)
    if names is not None:
        assert found.names == names
    assert len(found.layers) == 2
    assert b"text text" in found.layers[0]
    assert opened.packing(spec) == packing
    if "--format=v2s2" not in options and not destination.startswith("docker-archive"):
        assert found.id == opened.bench.ids["app"]
    assert (found.manifest is None) == destination.startswith("docker-archive")


@pytest.mark.parametrize("form", ["docker-archive", "oci-archive"])
def test_podman_save(opened: Opened, form: str) -> None:
    opened.bench.shop.podman(
        "save", "--quiet", f"--format={form}", f"--output={opened.folder}/x", "localhost/app"
    )
    found = opened.take("x")
    assert found.names == ("localhost/app:latest",)
    assert (found.manifest is None) == (form == "docker-archive")
    assert len(found.layers) == 2


def test_podman_save_of_several(opened: Opened) -> None:
    names = ["localhost/app", "localhost/base"]
    opened.bench.shop.podman("save", "-q", "-m", "-o", opened.folder / "x", *names)
    with pytest.raises(AmbiguousImage, match=r"@0 .*\n.*@1 "):
        opened.take("x")
    assert len(opened.take("x:localhost/app:latest").layers) == 2
    assert len(opened.take("x:localhost/base").layers) == 1
    both = list_images(str(opened.folder / "x"), scratch=opened.folder)
    assert {name for one in both for name in one.names} == {f"{name}:latest" for name in names}
    for one in both:
        assert opened.take(f"x@{one.index}").id == str(one.id)


def test_podman_save_as_a_directory(opened: Opened) -> None:
    target = opened.folder / "x"
    opened.bench.shop.podman("save", "-q", "--format=oci-dir", "-o", target, "localhost/app")
    assert opened.take("x").id == opened.bench.ids["app"]


@pytest.mark.parametrize("tool", ["gzip", "xz", "zstd"])
def test_an_archive_packed_as_a_whole(opened: Opened, tool: str) -> None:
    opened.copy("docker-archive:x.tar:localhost/app:v1")
    with (opened.folder / "x.tar").open("rb") as plain, (opened.folder / "y").open("wb") as packed:
        subprocess.run([tool, "-1", "-c"], stdin=plain, stdout=packed, check=True)
    assert opened.take("y") == opened.take("x.tar")
    assert opened.take("y").names == ("localhost/app:v1",)


def test_a_layout_of_several_images_by_skopeo(opened: Opened) -> None:
    opened.copy("oci:x:one", name="base")
    opened.copy("oci:x:two")
    with pytest.raises(AmbiguousImage):
        opened.take("x")
    assert opened.take("x:one").id == opened.bench.ids["base"]
    assert opened.take("x:two").id == opened.bench.ids["app"]
    assert opened.take("x@1").names == ("x:two",)


def test_an_image_copied_again_under_its_tag_is_the_new_one(opened: Opened) -> None:
    opened.copy("oci:x:v1", name="base")
    opened.copy("oci:x:v1")
    assert opened.take("x:v1").id == opened.bench.ids["app"]
    assert opened.take("x@0").id == opened.bench.ids["base"], "skopeo keeps it without a name"


def test_umoci(opened: Opened) -> None:
    layout = opened.folder / "my-layout"
    run("umoci", "init", "--layout", layout)
    run("umoci", "new", "--image", f"{layout}:empty")
    assert opened.take("my-layout").layers == ()
    assert opened.take("my-layout").names == ("my-layout:empty",)
    (opened.folder / "file").write_text("inserted by umoci")
    image = f"{layout}:full"
    run("umoci", "tag", "--image", f"{layout}:empty", "full")
    run("umoci", "insert", "--image", image, opened.folder / "file", "/file")
    run("umoci", "config", "--image", image, "--config.cmd", "/file", "--architecture", "arm64")
    found = opened.take("my-layout:full")
    assert found.names == ("my-layout:full",)
    assert b"inserted by umoci" in found.layers[0]
    assert opened.packing("my-layout:full") == {"gzip"}
    with open_image(f"{layout}:full", scratch=opened.folder) as source:
        config = ImageConfig.parse(source.config)
    assert config.config.cmd == ("/file",)
    assert str(config.platform) == "linux/arm64"
    with pytest.raises(AmbiguousImage):
        opened.take("my-layout")


@pytest.mark.parametrize("destination", ["oci:x:v1", "oci-archive:x:v1", "dir:x"])
def test_an_index_by_buildah(opened: Opened, destination: str) -> None:
    opened.bench.shop.buildah(
        *("manifest", "push", "--quiet", "--all", "localhost/multi"),
        destination.replace(":x", f":{opened.folder}/x"),
    )
    ids = {machine: opened.take("x", machine).id for machine in ("amd64", "arm64", "s390x")}
    assert len(set(ids.values())) == 3
    listed = list_images(str(opened.folder / "x"), scratch=opened.folder)
    assert {str(one.platform): str(one.id) for one in listed} == {
        f"linux/{machine}": id_ for machine, id_ in ids.items()
    }
    assert opened.take("x").id == ids[Platform.host().architecture]
    with pytest.raises(ImageNotFound, match=r"there is one for .*linux/arm64"):
        opened.take("x", "riscv64")


def test_the_digest_is_the_one_that_skopeo_tells(opened: Opened) -> None:
    opened.copy("oci:x:v1")
    told = json.loads(run("skopeo", "inspect", f"oci:{opened.folder}/x:v1"))
    with open_image(str(opened.folder / "x"), scratch=opened.folder) as source:
        assert source.manifest_descriptor is not None
        assert source.manifest_descriptor.digest == Digest.parse(told["Digest"])
        blobs = [layer.descriptor for layer in source.layers]
    assert [str(blob.digest) for blob in blobs if blob is not None] == told["Layers"]
