"""Images go in once, and come out by name, id and digest."""

import gzip
import json
import os
import resource
import subprocess
from pathlib import Path

import pytest

from overlayfs.errors import AmbiguousImage, ImageNotFound, InvalidImage, OverlayError
from overlayfs.store.paths import default_root
from overlayfs.store.store import Store
from overlayfs.union.names import Format
from tests.store.conftest import BASE, UPPER, Counter, add, contents, docker, oci, opened
from tests.support.archives import digest, to_json
from tests.support.layers import as_user, file, folder, in_child, kinds, shown, tar


def zstd(data: bytes) -> bytes:
    """*data*, packed by zstd(1)."""
    return subprocess.run(["zstd", "-q"], input=data, capture_output=True, check=True).stdout


def xz(data: bytes) -> bytes:
    """*data*, packed by xz(1)."""
    return subprocess.run(["xz"], input=data, capture_output=True, check=True).stdout


def test_an_image_goes_in_whole(store: Store, tmp_path: Path) -> None:
    path = oci(tmp_path / "image", BASE, UPPER)
    image = add(store, path)
    assert image.names == ("app:1",)
    assert image.id == image.config.id
    assert [str(layer.diff_id) for layer in image.layers] == [digest(BASE), digest(UPPER)]
    assert [layer.entries for layer in image.layers] == [6, 3]
    assert kinds(image.layers[1].path, Format.KERNEL) == {
        b"": "dir",
        b"etc": "dir",
        b"etc/new": "file",
        b"etc/old": "whiteout",
        b"linked": "file",
        b"bin": "file",
    }
    # What the upper layer's tar leaves unsaid is as below.
    top = shown(image.layers[1].path, Format.KERNEL)
    assert (top[b""].mode, top[b"etc"].mode, top[b"etc"].uid) == (0o711, 0o750, 3)
    assert image.layers[1].path.parent.name.endswith("." + digest(BASE)[7:23])
    assert store.images() == [image]
    assert store.image("app:1") == image


def test_the_manifest_keeps_its_bytes(store: Store, tmp_path: Path) -> None:
    path = oci(tmp_path / "image", BASE)
    image = add(store, path)
    index = json.loads((path / "index.json").read_bytes())
    assert str(image.manifest.digest) == index["manifests"][0]["digest"]
    for blob in (path / "blobs/sha256").iterdir():
        assert (store.root / "blobs/sha256" / blob.name).read_bytes() == blob.read_bytes()


@pytest.mark.parametrize("pack", [None, xz], ids=["plain", "xz"])
def test_what_has_no_packing_of_its_own_is_kept_as_gzip(
    pack: None, store: Store, tmp_path: Path
) -> None:
    image = add(store, oci(tmp_path / "image", BASE, pack=pack, suffix=""))
    blob = image.layers[0].blob
    assert blob.media_type.endswith("tar+gzip")
    data = (store.root / "blobs/sha256" / blob.digest.hex).read_bytes()
    assert (digest(data), len(data)) == (str(blob.digest), blob.size)
    assert gzip.decompress(data) == BASE
    assert data[4:8] == b"\0\0\0\0"
    assert len(data) < len(BASE) / 2


def test_zstd_stays_zstd(store: Store, tmp_path: Path) -> None:
    image = add(store, oci(tmp_path / "image", BASE, pack=zstd, suffix="+zstd"))
    assert image.layers[0].blob.digest == image.layers[0].blob.digest.of(zstd(BASE))
    assert kinds(image.layers[0].path, Format.KERNEL)[b"sh"] == "symlink"


def test_a_layer_is_unpacked_once_for_all_images(store: Store, tmp_path: Path) -> None:
    first = add(store, oci(tmp_path / "a", BASE, UPPER, name="a:1"))
    counter = Counter()
    with opened(store, oci(tmp_path / "b", BASE, tar(file("x")), name="b:1")) as source:
        second = store.add(source, progress=counter)
        assert counter.total == source.layers[1].size == counter.done
    assert second.layers[0] == first.layers[0]
    assert [image.names for image in store.images()] == [("a:1",), ("b:1",)]


def test_other_forms_of_a_known_layer_are_not_unpacked_again(store: Store, tmp_path: Path) -> None:
    plain = add(store, docker(tmp_path / "docker.tar", BASE))
    again = add(store, oci(tmp_path / "oci", BASE, name="other:1"))
    assert again.layers[0].path == plain.layers[0].path
    assert again.layers[0].blob != plain.layers[0].blob
    assert store.image("app:1") == plain


def test_the_same_layer_on_other_bases_is_completed_for_each(store: Store, tmp_path: Path) -> None:
    upper = tar(file("d/f"))
    images = [
        add(store, oci(tmp_path / str(mode), tar(folder("d", mode)), upper, name=f"m:{mode}"))
        for mode in (0o700, 0o711, 0o755)
    ]
    assert [shown(one.layers[1].path, Format.KERNEL)[b"d"].mode for one in images] == [
        0o700,
        0o711,
        0o755,
    ]
    assert len({one.layers[1].path for one in images}) == 3
    assert [store.image(f"m:{mode}").layers for mode in (0o700, 0o711, 0o755)] == [
        one.layers for one in images
    ]


def test_a_layer_may_come_twice(store: Store, tmp_path: Path) -> None:
    again = tar(file("d/f"))
    image = add(store, oci(tmp_path / "i", again, tar(folder("d", 0o700)), again, again))
    assert [shown(one.path, Format.KERNEL)[b"d"].mode for one in image.layers] == [
        0o755,
        0o700,
        0o700,
        0o700,
    ]
    assert store.image("app:1") == image


def test_an_image_without_layers_is_an_image(store: Store, tmp_path: Path) -> None:
    assert add(store, oci(tmp_path / "i")).layers == ()
    assert store.image("app:1").layers == ()


@pytest.mark.parametrize("form", [oci, docker])
def test_a_known_image_is_not_read(form: object, store: Store, tmp_path: Path) -> None:
    assert callable(form)
    path = form(tmp_path / "image", BASE, UPPER)
    image = add(store, path)
    before = contents(store.root)
    counter = Counter()
    with opened(store, path) as source:
        assert store.add(source, progress=counter) == image
    assert (counter.began, counter.done) == (0, 0)
    assert contents(store.root) == before


def test_a_new_name_for_a_known_image_costs_nothing(store: Store, tmp_path: Path) -> None:
    add(store, oci(tmp_path / "a", BASE, name="a:1"))
    counter = Counter()
    with opened(store, oci(tmp_path / "b", BASE, name="b:2")) as source:
        image = store.add(source, progress=counter)
    assert counter.began == 0
    assert image.names == ("a:1", "b:2")


def test_a_name_moves_to_the_newest_image(store: Store, tmp_path: Path) -> None:
    old = add(store, oci(tmp_path / "a", BASE))
    new = add(store, oci(tmp_path / "b", tar(file("b")), name="base:1"))
    assert store.image("base:1") == new
    newest = add(store, oci(tmp_path / "c", tar(file("c"))))
    assert store.image("app:1") == newest
    assert store.image(str(old.id)).names == ()


def test_an_image_may_have_no_name(store: Store, tmp_path: Path) -> None:
    image = add(store, oci(tmp_path / "a", BASE, name=None))
    assert store.image(image.id.hex[:12]) == image
    assert add(store, oci(tmp_path / "b", BASE, name="now:1")).names == ("now:1",)
    assert len(store.images()) == 1


def test_references(store: Store, tmp_path: Path) -> None:
    image = add(store, oci(tmp_path / "a", BASE, name="docker.io/library/app:latest"))
    for reference in (
        "app",
        "app:latest",
        "docker.io/library/app:latest",
        f"app@{image.manifest.digest}",
        str(image.id),
        image.id.hex,
        image.id.hex[:2],
        str(image.manifest.digest),
    ):
        assert store.image(reference) == image, reference
    for reference in ("app:2", "ap", image.id.hex[:1], "", "../x", f"sha256:{'0' * 64}"):
        with pytest.raises(ImageNotFound):
            store.image(reference)


def test_short_ids_must_be_clear(store: Store, tmp_path: Path) -> None:
    ids: dict[str, int] = {}
    for number in range(300):
        image = add(store, oci(tmp_path / str(number), tar(file(f"{number}")), name=f"n:{number}"))
        short = image.id.hex[:2]
        if short in ids:
            break
        ids[short] = number
    with pytest.raises(AmbiguousImage, match=f"n:{ids[short]}"):
        store.image(short)


def test_copies_by_other_tools_are_images(store: Store, tmp_path: Path) -> None:
    path = oci(tmp_path / "a", BASE, UPPER, name="x")
    target = f"oci:{store.root}:copied:3"
    subprocess.run(["skopeo", "copy", "-q", f"oci:{path}:x", target], check=True)
    image = store.image("copied:3")
    assert [layer.entries for layer in image.layers] == [6, 3]


@pytest.mark.parametrize("form", [oci, docker])
def test_other_tools_read_the_store(form: object, store: Store, tmp_path: Path) -> None:
    assert callable(form)
    image = add(store, form(tmp_path / "image", BASE, UPPER, name="localhost/some/app:1"))
    reference = f"{store.root}:localhost/some/app:1"

    def output(*command: str) -> str:
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    said = json.loads(output("skopeo", "inspect", f"oci:{reference}"))
    assert said["Digest"] == str(image.manifest.digest)
    assert said["Layers"] == [str(layer.blob.digest) for layer in image.layers]
    output("umoci", "unpack", "--image", reference, str(tmp_path / "bundle"))
    assert (tmp_path / "bundle/rootfs/etc/new").read_bytes() == b"new"
    output("skopeo", "copy", "-q", f"oci:{reference}", f"dir:{tmp_path}/dir")
    # Docker's manifest in a dir: becomes OCI's; the configuration stays what it was.
    output("skopeo", "copy", "-q", "--format=v2s2", f"oci:{reference}", f"dir:{tmp_path}/v2s2")
    again = add(store, tmp_path / "v2s2")
    assert again.manifest.media_type == "application/vnd.oci.image.manifest.v1+json"
    assert [layer.path for layer in again.layers] == [layer.path for layer in image.layers]


# -- what is refused -------------------------------------------------------------------


def damaged(path: Path, diff: bytes, change: object) -> None:
    """Change the gzip blob of the layer *diff* in the layout *path*."""
    assert callable(change)
    for blob in (path / "blobs/sha256").iterdir():
        data = blob.read_bytes()
        if data[:2] == b"\x1f\x8b" and gzip.decompress(data) == diff:
            blob.write_bytes(change(data))
            return
    raise AssertionError("no such blob")


def consistent(path: Path, manifest: dict[str, object], config: dict[str, object]) -> None:
    """Write *manifest* and *config* into the layout *path*, digests and all."""
    config_data = to_json(config)
    (path / "blobs/sha256" / digest(config_data)[7:]).write_bytes(config_data)
    manifest["config"] = {
        "mediaType": "application/vnd.oci.image.config.v1+json",
        "digest": digest(config_data),
        "size": len(config_data),
    }
    data = to_json(manifest)
    (path / "blobs/sha256" / digest(data)[7:]).write_bytes(data)
    index = json.loads((path / "index.json").read_bytes())
    index["manifests"][0] |= {"digest": digest(data), "size": len(data)}
    (path / "index.json").write_bytes(to_json(index))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        pytest.param(lambda data: data[:-40], "bytes", id="short"),
        pytest.param(lambda data: data + b"x", "expected .* bytes, got", id="long"),
        pytest.param(
            lambda data: data[:99] + b"\0\xff" + data[101:], "layer sha256:", id="flipped"
        ),
        pytest.param(lambda data: gzip.compress(tar(file("z"))), "layer sha256:", id="another"),
        pytest.param(lambda data: b"", "layer sha256:", id="empty"),
    ],
)
@pytest.mark.parametrize("which", [BASE, UPPER], ids=["first", "last"])
def test_damaged_blobs_leave_nothing(
    which: bytes, change: object, says: str, store: Store, tmp_path: Path
) -> None:
    add(store, oci(tmp_path / "other", tar(file("x")), name="other:1"))
    path = oci(tmp_path / "image", BASE, UPPER)
    damaged(path, which, change)
    before = contents(store.root)
    with pytest.raises(InvalidImage, match=says):
        add(store, path)
    assert contents(store.root) == before
    assert [image.names for image in store.images()] == [("other:1",)]


def test_the_diff_id_must_agree(store: Store, tmp_path: Path) -> None:
    path = oci(tmp_path / "image", BASE)
    index = json.loads((path / "index.json").read_bytes())
    blob = path / "blobs/sha256" / index["manifests"][0]["digest"][7:]
    manifest = json.loads(blob.read_bytes())
    config = json.loads((path / "blobs/sha256" / manifest["config"]["digest"][7:]).read_bytes())
    config["rootfs"]["diff_ids"] = [digest(UPPER)]
    consistent(path, manifest, config)
    before = contents(store.root)
    with pytest.raises(InvalidImage, match=f"{digest(UPPER)}: expected .* got {digest(BASE)}"):
        add(store, path)
    assert contents(store.root) == before


@pytest.mark.parametrize(
    "layer",
    [
        pytest.param(tar(file("../../escape")), id="escape"),
        pytest.param(b"no tar at all" * 100, id="no-tar"),
        pytest.param(tar(file("a", b"x" * 2000), end=False)[:1500], id="cut"),
    ],
)
@pytest.mark.parametrize("form", [oci, docker])
def test_bad_layers_leave_nothing(form: object, layer: bytes, store: Store, tmp_path: Path) -> None:
    assert callable(form)
    path = form(tmp_path / "image", BASE, layer)
    before = contents(store.root)
    with pytest.raises(InvalidImage, match=digest(layer)):
        add(store, path)
    assert contents(store.root) == before
    assert not (tmp_path / "escape").exists()


# -- the store itself ------------------------------------------------------------------


def test_a_plain_user_has_a_store(open_folder: Path, needs_root: None) -> None:
    oci(open_folder / "image", BASE, UPPER)

    def work() -> None:
        store = Store.open(Path("store"))
        assert store.format is Format.USER
        image = add(store, Path("image"))
        top = shown(image.layers[1].path, Format.USER)
        assert (top[b"etc"].mode, top[b"etc"].uid, top[b"linked"].nlink) == (0o750, 3, 2)
        assert top[b"etc/old"].kind is None
        assert Store.open(Path("store")).image("app:1") == image

    as_user(work, open_folder)


def test_roots_store_is_not_for_others(open_folder: Path, needs_root: None) -> None:
    Store.open(open_folder / "store").root.chmod(0o755)

    def work() -> None:
        with pytest.raises(OverlayError, match="belongs to root"):
            Store.open(Path("store"))

    as_user(work, open_folder)


def test_a_store_is_private(store: Store) -> None:
    assert store.root.stat().st_mode & 0o777 == 0o700


def test_access_lists_around_the_store_stay_out(tmp_path: Path, needs_root: None) -> None:
    subprocess.run(["setfacl", "-d", "-m", "u:7:rwx,o::rwx", tmp_path], check=True)
    image = add(Store.open(tmp_path / "store"), oci(tmp_path / "image", BASE, UPPER))
    for layer in image.layers:
        for one in shown(layer.path, Format.KERNEL).values():
            assert one.xattrs == {}
    assert shown(image.layers[0].path, Format.KERNEL)[b"etc/passwd"].mode == 0o644


def test_hundreds_of_layers(store: Store, tmp_path: Path) -> None:
    layers = [tar(file(f"d/{number}")) for number in range(300)]
    path = oci(tmp_path / "image", tar(folder("d", 0o700)), *layers)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)

    def work() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
        image = add(store, path)
        assert {shown(one.path, Format.KERNEL)[b"d"].mode for one in image.layers} == {0o700}

    assert in_child(work) == 0


def test_a_newer_store_is_left_alone(store: Store) -> None:
    settings = store.root / "store.json"
    settings.write_bytes(b'{"version":2,"format":"kernel"}')
    with pytest.raises(OverlayError, match="another version"):
        Store.open(store.root)


def test_a_store_needs_a_directory(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OverlayError, match="Not a directory"):
        Store.open(tmp_path / "file/store")


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        pytest.param({"PYOVERLAY_ROOT": "/a"}, "/a", id="chosen"),
        pytest.param({"PYOVERLAY_ROOT": ""}, "/var/lib/pyoverlay", id="root"),
    ],
)
def test_default_root(
    environment: dict[str, str],
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
    needs_root: None,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert default_root() == Path(expected)


@pytest.mark.parametrize(
    ("data", "expected"),
    [("/data", "/data/pyoverlay"), ("relative", "/h/.local/share/pyoverlay"),
     ("", "/h/.local/share/pyoverlay")],
)  # fmt: skip
def test_default_root_of_a_user(data: str, expected: str, tmp_path: Path, needs_root: None) -> None:
    def work() -> None:
        os.environ.pop("PYOVERLAY_ROOT", None)
        os.environ.update(XDG_DATA_HOME=data, HOME="/h")
        assert default_root() == Path(expected)

    as_user(work, tmp_path)
