"""Images of every layout, taken in and saved in every format, are what the tools know."""

import json
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from overlayfs.archive.detect import open_image
from overlayfs.store.store import Store, StoredImage
from tests.support.command import PyOverlay
from tests.support.images import LAYOUTS, Workshop, copied, run
from tests.support.tree import Tree, assert_same, snapshot

pytestmark = pytest.mark.usefixtures("needs_root")

NAME = "example.org/team/app:1.0"
FORMATS = ("docker-archive", "oci-archive", "oci", "dir")


def taken_in(store: Store, source: str | Path) -> StoredImage:
    """The image *source* in the store, with a name where it had none."""
    with open_image(str(source), scratch=store.scratch) as image:
        if not image.names:
            image.names = (NAME,)  # type: ignore[misc]  # what `tag` would do, before there is one
        return store.add(image)


@dataclass(frozen=True, slots=True)
class Config:
    """What skopeo says of an image's configuration."""

    diff_ids: list[str]
    history: list[Any]
    config: Any

    @classmethod
    def of(cls, source: str) -> "Config":
        found = json.loads(run("skopeo", "inspect", "--config", source))
        return cls(found["rootfs"]["diff_ids"], found["history"], found.get("config"))


@pytest.mark.parametrize("form", LAYOUTS)
def test_digest_id_tree_and_history_stay_in_every_format(
    form: str, shop: Workshop, layout: Path, pyoverlay: PyOverlay, tmp_path: Path
) -> None:
    name = "dense" if form.endswith("podman") else "rich"
    source = copied(shop, f"oci:{layout}:{name}", form, tmp_path / "image")
    image = taken_in(Store.open(pyoverlay.store), source)
    reference = Config.of(f"oci:{layout}:{name}")
    for saved in FORMATS:
        target = tmp_path / saved
        pyoverlay.ok("save", "--format", saved, "-o", target, image.names[0])
        assert Config.of(f"{saved}:{target}") == reference
        again = taken_in(Store.open(tmp_path / f"store-{saved}"), target)
        assert (again.id, again.manifest.digest) == (image.id, image.manifest.digest)
        if saved != "dir":  # which has no place for a name
            assert again.names == image.names
        if saved != "docker-archive":  # of which skopeo makes a manifest of its own
            found = json.loads(run("skopeo", "inspect", f"{saved}:{target}"))
            assert found["Digest"] == str(image.manifest.digest)


@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
@pytest.mark.parametrize("form", FORMATS)
def test_other_compressions_keep_id_and_tree(
    form: str,
    compression: str,
    layout: Path,
    umoci_trees: dict[str, Tree],
    pyoverlay: PyOverlay,
    tmp_path: Path,
) -> None:
    image = taken_in(Store.open(pyoverlay.store), f"{layout}:rich")
    target = tmp_path / "saved"
    level = () if compression == "none" else ("--level", "4")
    options = ("--format", form, "--compression", compression, *level)
    pyoverlay.ok("save", *options, "-o", target, image.names[0])
    again = taken_in(Store.open(tmp_path / "other"), target)
    assert again.id == image.id
    suffix = "" if compression == "none" else f"+{compression}"
    # The tools compute each diff id while they copy, and refuse others.
    copy = tmp_path / "copy"
    run("skopeo", "copy", "--quiet", f"{form}:{target}", f"oci:{copy}:x")
    if form == "oci-archive":
        manifest = json.loads(run("skopeo", "inspect", "--raw", f"{form}:{target}"))
        assert {layer["mediaType"] for layer in manifest["layers"]} == {
            f"application/vnd.oci.image.layer.v1.tar{suffix}"
        }
    if compression != "zstd":  # umoci 0.4 does not know it
        run("umoci", "unpack", "--image", f"{copy}:x", tmp_path / "bundle")
        assert_same(umoci_trees["rich"], snapshot(tmp_path / "bundle/rootfs"))


def test_umoci_unpacks_a_saved_layout(
    layout: Path, umoci_trees: dict[str, Tree], pyoverlay: PyOverlay, tmp_path: Path
) -> None:
    image = taken_in(Store.open(pyoverlay.store), f"{layout}:rich")
    pyoverlay.ok("save", "--format", "oci", "-o", tmp_path / "saved", image.names[0])
    (listed,) = run("umoci", "ls", "--layout", tmp_path / "saved").split()
    run("umoci", "unpack", "--image", f"{tmp_path}/saved:{listed}", tmp_path / "bundle")
    assert_same(umoci_trees["rich"], snapshot(tmp_path / "bundle/rootfs"))


@pytest.mark.parametrize("form", ["docker-archive", "oci-archive"])
def test_podman_loads_it_under_its_name(
    form: str, shop: Workshop, layout: Path, pyoverlay: PyOverlay, tmp_path: Path
) -> None:
    image = taken_in(Store.open(pyoverlay.store), f"{layout}:dense")
    pyoverlay.ok("save", "--format", form, "-o", tmp_path / "saved", image.names[0])
    said = shop.podman("load", "--quiet", "--input", tmp_path / "saved")
    full = f"docker.io/library/{image.names[0]}"
    assert said == f"Loaded image: {full}"
    (inspected,) = json.loads(shop.podman("image", "inspect", full))
    assert f"sha256:{inspected['Id']}" == str(image.id)
    assert inspected["RootFS"]["Layers"] == [str(one) for one in image.config.diff_ids]


def test_podman_and_skopeo_find_all_images_and_names_of_one_archive(
    shop: Workshop, layout: Path, pyoverlay: PyOverlay, tmp_path: Path
) -> None:
    store = Store.open(pyoverlay.store)
    images = {}
    for name in ("rich", "dense"):
        run("skopeo", "copy", "--quiet", f"oci:{layout}:{name}", f"oci:{tmp_path}/{name}:{name}")
        with open_image(f"{tmp_path}/{name}", scratch=store.scratch) as source:
            source.names = (f"example.org/many/{name}:1", f"{name}:2")  # type: ignore[misc]  # as above
            images[name] = store.add(source)
    archive = tmp_path / "many.tar"
    pyoverlay.ok("save", "-o", archive, *(image.id.hex for image in images.values()))
    with tarfile.open(archive) as tar:
        names = tar.getnames()
        assert len(set(names)) == len(names)
        listed = tar.extractfile("manifest.json")
        assert listed is not None
        tags = [one["RepoTags"] for one in json.load(listed)]
    assert tags == [
        [f"example.org/many/{name}:1", f"docker.io/library/{name}:2"] for name in ("rich", "dense")
    ]
    for name, image in images.items():
        config = run("skopeo", "inspect", "--config", "--raw", f"docker-archive:{archive}:{name}:2")
        assert config.encode() == image.config.raw
    said = shop.podman("load", "--quiet", "--input", archive)
    assert "example.org/many/dense:1" in said
    for name in ("example.org/many/dense:1", "docker.io/library/dense:2"):
        (inspected,) = json.loads(shop.podman("image", "inspect", name))
        assert f"sha256:{inspected['Id']}" == str(images["dense"].id)


def test_a_file_is_converted_without_being_taken_in(
    layout: Path, pyoverlay: PyOverlay, tmp_path: Path
) -> None:
    run("skopeo", "copy", "--quiet", f"oci:{layout}:rich", f"docker-archive:{tmp_path}/a:app:1")
    pyoverlay.ok("save", "--format", "oci", "-o", tmp_path / "b", tmp_path / "a")
    assert pyoverlay.json("images") == []
    assert Config.of(f"oci:{tmp_path}/b") == Config.of(f"oci:{layout}:rich")
    raw = run("skopeo", "inspect", "--raw", f"oci:{tmp_path}/b:docker.io/library/app:1")
    assert {one["mediaType"] for one in json.loads(raw)["layers"]} == {
        "application/vnd.oci.image.layer.v1.tar"
    }


def test_dockers_manifest_stays_in_a_directory_and_becomes_ocis_in_a_layout(
    layout: Path, pyoverlay: PyOverlay, tmp_path: Path
) -> None:
    options = ("--quiet", "--format=v2s2", "--dest-compress")
    run("skopeo", "copy", *options, f"oci:{layout}:rich", f"dir:{tmp_path}/docker")
    pyoverlay.ok("save", "--format", "dir", "-o", tmp_path / "dir", tmp_path / "docker")
    manifest = (tmp_path / "docker/manifest.json").read_bytes()
    assert (tmp_path / "dir/manifest.json").read_bytes() == manifest
    run("skopeo", "copy", "--quiet", f"dir:{tmp_path}/dir", f"dir:{tmp_path}/copy")
    pyoverlay.ok("save", "--format", "oci", "-o", tmp_path / "oci", tmp_path / "docker")
    raw = json.loads(run("skopeo", "inspect", "--raw", f"oci:{tmp_path}/oci"))
    assert raw["mediaType"] == "application/vnd.oci.image.manifest.v1+json"
    assert raw["config"]["digest"] == json.loads(manifest)["config"]["digest"]
    with open_image(f"{tmp_path}/docker", scratch=tmp_path) as source:
        stored = Store.open(pyoverlay.store).add(source)
    assert (
        run("skopeo", "inspect", "--raw", f"oci:{tmp_path}/oci").encode()
        == (pyoverlay.store / "blobs/sha256" / stored.manifest.digest.hex).read_bytes()
    )


@pytest.mark.parametrize("form", ["docker-archive", "oci-archive", "oci"])
def test_load_save_load_keeps_all_images_names_and_digests(
    form: str, layout: Path, pyoverlay: PyOverlay, tmp_path: Path
) -> None:
    pyoverlay.ok("load", "--quiet", layout)
    pyoverlay.ok("tag", "layout:rich", "example.org/other/rich:2")
    images = Store.open(pyoverlay.store).images()
    assert len(images) == 2
    target = tmp_path / "saved"
    pyoverlay.ok("save", "--format", form, "-o", target, *(image.id.hex[:12] for image in images))
    other = PyOverlay(tmp_path / "other")
    other.ok("load", "--quiet", target)
    again = Store.open(other.store).images()
    assert [(one.id, one.manifest.digest, set(one.names)) for one in again] == [
        (one.id, one.manifest.digest, set(one.names)) for one in images
    ]
    other.ok("save", "--format", form, "-o", tmp_path / "twice", *(one.id.hex for one in images))
    if form != "oci":
        assert target.read_bytes() == (tmp_path / "twice").read_bytes()
