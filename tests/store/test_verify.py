"""Damage is found, named with the image that it is in, and repaired from good copies."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from overlayfs.errors import ImageNotFound
from overlayfs.store.store import Store, StoredImage
from tests.store.conftest import BASE, UPPER, add, contents, docker, oci, opened
from tests.store.test_sweep import live
from tests.support.layers import as_user, file, folder, tar

OTHER = tar(file("other", b"other"))


def flip(path: Path) -> None:
    """Change one bit in the middle of *path*, and nothing else that can be told."""
    before = path.stat()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def blob(store: Store, digest: object) -> Path:
    return store.root / "blobs/sha256" / str(digest).removeprefix("sha256:")


def blobs(store: Store, image: StoredImage) -> dict[str, Path]:
    """Each blob of *image* by what it is."""
    return {
        "manifest": blob(store, image.manifest.digest),
        "config": blob(store, image.id),
        "first": blob(store, image.layers[0].blob.digest),
        "last": blob(store, image.layers[-1].blob.digest),
    }


def test_a_good_store(store: Store, tmp_path: Path) -> None:
    assert store.verify() == store.verify(deep=True) == []
    add(store, oci(tmp_path / "a", BASE, UPPER))
    add(store, docker(tmp_path / "b.tar", BASE, UPPER, OTHER, name="b:1"))
    before = contents(store.root)
    assert store.verify() == store.verify(deep=True) == []
    assert store.verify(["app:1"]) == []
    assert contents(store.root) == before
    with pytest.raises(ImageNotFound):
        store.verify(["missing"])


@pytest.mark.parametrize("form", [oci, docker])
@pytest.mark.parametrize("harm", [flip, truncate, Path.unlink])
@pytest.mark.parametrize("which", ["manifest", "config", "first", "last"])
def test_each_blob(
    form: Callable[..., Path],
    harm: Callable[[Path], None],
    which: str,
    store: Store,
    tmp_path: Path,
) -> None:
    path = form(tmp_path / "image", BASE, UPPER)
    image = add(store, path)
    other = add(store, oci(tmp_path / "other", OTHER, name="other:1"))
    before = contents(store.root)
    target = blobs(store, image)[which]
    harm(target)
    (damage,) = store.verify()
    assert (damage.image, str(damage.thing)) == ("app:1", f"sha256:{target.name}")
    assert store.verify(["other:1"]) == []
    # Another image has nothing that helps, and loses nothing.
    with opened(store, oci(tmp_path / "no", OTHER)) as source:
        assert store.repair([damage], source) == []
    with opened(store, path) as source:
        assert store.repair([damage], source) == [f"blob sha256:{target.name}: replaced"]
    assert store.verify(deep=True) == []
    assert {one: data for one, data in contents(store.root).items() if ".json" not in one} == {
        one: data for one, data in before.items() if ".json" not in one
    }
    assert store.image("app:1").layers == image.layers
    assert store.image("other:1") == other


@pytest.mark.parametrize("form", [oci, docker])
def test_all_blobs(form: Callable[..., Path], store: Store, tmp_path: Path) -> None:
    path = form(tmp_path / "image", BASE, UPPER)
    image = add(store, path)
    store.tag("app:1", ["app:2"])
    for target in blobs(store, image).values():
        target.unlink()
    rounds = 0
    while damage := store.verify():
        assert {one.image for one in damage} == {"app:1, app:2"}
        with opened(store, path) as source:
            assert store.repair(damage, source)
        rounds += 1
    assert rounds <= 3
    assert store.verify(deep=True) == []
    assert store.image("app:2").layers == image.layers


def test_a_blob_of_another_form_does_not_help(store: Store, tmp_path: Path) -> None:
    image = add(store, oci(tmp_path / "a", BASE))
    blobs(store, image)["first"].unlink()
    damage = store.verify()
    with opened(store, oci(tmp_path / "b", BASE, pack=None)) as source:
        assert store.repair(damage, source) == []
    assert store.verify() == damage


def harmed(change: Callable[[Path], object]) -> Callable[[Path], object]:
    """*change* a file and hide that in the time of its directory."""

    def harm(root: Path) -> object:
        before = root.stat()
        try:
            return change(root)
        finally:
            os.utime(root, ns=(before.st_atime_ns, before.st_mtime_ns))

    return harm


@pytest.mark.parametrize(
    ("harm", "why"),
    [
        pytest.param(lambda root: flip(root / "bin"), "/bin: other bytes", id="bytes"),
        pytest.param(lambda root: truncate(root / "bin"), "/bin: ", id="size"),
        pytest.param(lambda root: (root / "etc/old").unlink(), "/etc: time", id="removed"),
        pytest.param(
            harmed(lambda root: (root / "sh").unlink()), "/sh: missing", id="removed-quietly"
        ),
        pytest.param(
            harmed(lambda root: (root / "new").touch()), "/new: not in the layer", id="added"
        ),
        pytest.param(lambda root: (root / "bin").chmod(0o600), "/bin: mode 0o600", id="mode"),
        pytest.param(lambda root: os.chown(root / "bin", 5, 6), "/bin: owner 5:6", id="owner"),
        pytest.param(
            lambda root: os.setxattr(root / "bin", "user.x", b"1"), "extended", id="xattr"
        ),
        pytest.param(lambda root: root.chmod(0o700), "/: mode 0o700", id="top"),
    ],
)
def test_each_kind_of_harm_to_a_tree(
    harm: Callable[[Path], object], why: str, store: Store, tmp_path: Path
) -> None:
    image = add(store, oci(tmp_path / "image", BASE, UPPER))
    right = contents(store.root)
    harm(image.layers[0].path)
    assert store.verify() == [], "what it takes hours to find is looked for on demand"
    (damage,) = store.verify(deep=True)
    assert damage.thing == image.layers[0].path.parent.name
    assert why in damage.why
    assert store.repair([damage]) == [f"layer {damage.thing}: unpacked again"]
    assert store.verify(deep=True) == []
    assert contents(store.root) == right


@pytest.mark.parametrize(
    ("harm", "why"),
    [
        (lambda layer: (layer / "layer.json").write_bytes(b""), "its record cannot be read"),
        (lambda layer: subprocess.run(["rm", "-r", layer / "root"], check=True), "files are miss"),
        (lambda layer: subprocess.run(["rm", "-r", layer], check=True), "missing"),
    ],
)
def test_a_tree_that_is_not_there(
    harm: Callable[[Path], object], why: str, store: Store, tmp_path: Path
) -> None:
    image = add(store, oci(tmp_path / "image", BASE, UPPER))
    harm(image.layers[0].path.parent)
    (damage,) = store.verify()
    assert why in damage.why
    store.repair([damage])
    assert store.verify(deep=True) == []


def test_damage_in_several_images_is_told_of_each(store: Store, tmp_path: Path) -> None:
    image = add(store, oci(tmp_path / "a", BASE, name="a:1"))
    add(store, oci(tmp_path / "b", BASE, UPPER, name="b:1"))
    flip(blobs(store, image)["first"])
    assert [one.image for one in store.verify()] == ["a:1", "b:1"]
    assert [one.image for one in store.verify(["b:1"])] == ["b:1"]


def test_a_mounted_layer_is_not_repaired(store: Store, tmp_path: Path) -> None:
    image = add(store, oci(tmp_path / "image", BASE))
    flip(image.layers[0].path / "bin")
    damage = store.verify(deep=True)
    inode = image.layers[0].path.stat().st_ino
    with live(store, image):
        (said,) = store.repair(damage)
        assert "not repaired, it is mounted at /nowhere" in said
    assert image.layers[0].path.stat().st_ino == inode
    assert store.verify(deep=True) == damage
    assert store.repair(damage)
    assert store.verify(deep=True) == []


def test_layers_without_their_blobs_stay(store: Store, tmp_path: Path) -> None:
    """What is unpacked is all that is left of it."""
    image = add(store, oci(tmp_path / "image", BASE))
    blobs(store, image)["first"].unlink()
    (image.layers[0].path.parent / "layer.json").write_bytes(b"")
    damage = store.verify()
    assert len(damage) == 2
    assert store.repair(damage) == []
    assert (image.layers[0].path / "bin").exists()


def test_the_store_of_a_plain_user(open_folder: Path, needs_root: None) -> None:
    oci(open_folder / "image", BASE, UPPER, tar(folder("x"), file("x/.wh.y"), file("a")))

    def work() -> None:
        store = Store.open(Path("store"))
        image = add(store, Path("image"))
        assert store.verify(deep=True) == []
        os.setxattr(image.layers[0].path / "bin", "user.containers.override_stat", b"7:7:0755")
        (damage,) = store.verify(deep=True)
        assert "extended attributes" in damage.why
        store.repair([damage])
        assert store.verify(deep=True) == []
        assert store.remove("app:1").images == (image.id,)

    as_user(work, open_folder)
