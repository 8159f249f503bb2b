"""What nothing uses goes, and only that: marks from names and mounts, locks for the rest."""

import gzip
import hashlib
import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from overlayfs.errors import ImageInUse, ImageNotFound, OverlayError
from overlayfs.linux import locks
from overlayfs.store.mounts import MountDirectory, Record
from overlayfs.store.removing import Pruning
from overlayfs.store.store import Store, StoredImage
from tests.store.conftest import BASE, UPPER, Counter, add, contents, docker, oci, opened
from tests.support.layers import file, in_child, tar

OTHER = tar(file("other", b"other"))


def files(store: Store) -> set[str]:
    """All that lies in the store, but directories."""
    return {path for path in contents(store.root) if not (store.root / path).is_dir()}


def mount(
    store: Store, image: StoredImage, *, upper: Path | None = None, ended: bool = False
) -> tuple[MountDirectory, int]:
    """What a mount of *image* leaves in the store, without mounting; and its lock."""
    directory = MountDirectory.create(store.root)
    lock = directory.lock()
    own = upper is None
    upper = upper or directory.upper
    upper.mkdir(exist_ok=True)
    record = Record(
        id=directory.path.name,
        image=(image.names or (image.id.short,))[0],
        image_id=str(image.id),
        mountpoint="/nowhere",
        pid=os.getpid(),
        upper=str(upper),
        work=str(directory.work if own else upper.with_name("work")),
        own_upper=own,
        since=datetime.now(UTC),
        layers=[str(layer.path) for layer in image.layers],
        format=str(store.format),
        ended=ended,
    )
    directory.write(record)
    return directory, lock


@contextmanager
def live(store: Store, image: StoredImage) -> Iterator[MountDirectory]:
    """A mount that lives."""
    directory, lock = mount(store, image)
    try:
        yield directory
    finally:
        os.close(lock)


def test_a_store_in_order_is_left_alone(store: Store, tmp_path: Path) -> None:
    add(store, oci(tmp_path / "a", BASE, UPPER))
    add(store, docker(tmp_path / "b.tar", OTHER, name="b:1"))
    before = contents(store.root)
    removed = store.prune(Pruning(kept=True))
    assert (removed.untagged, removed.images, removed.swept.freed) == ((), (), 0)
    assert contents(store.root) == before


def test_what_has_lost_its_name_goes(store: Store, tmp_path: Path) -> None:
    empty = files(store)
    add(store, oci(tmp_path / "a", BASE, name="a:1"))
    alone = files(store)
    old = add(store, oci(tmp_path / "b", OTHER, name="b:1"))
    store.untag(["b:1"])
    planned = store.planned(Pruning())
    assert [one.id for one in planned.images] == [old.id]
    found = store.sizes(planned.garbage)
    assert (len(found["layers"]), len(found["blobs"])) == (1, 3)
    removed = store.prune(Pruning())
    assert removed.images == (old.id,)
    # More by the records of layers, which are not worth showing.
    assert removed.swept.freed >= sum(sum(sizes.values()) for sizes in found.values()) > 0
    assert files(store) == alone
    assert store.prune(Pruning(every=True)).untagged == ("a:1",)
    assert files(store) == empty


def test_filters_choose_images(store: Store, tmp_path: Path) -> None:
    kept = add(store, oci(tmp_path / "a", BASE, name="a:1"))
    add(store, oci(tmp_path / "b", OTHER, name="b:1"))
    pruning = Pruning(every=True, takes=lambda config: config.id != kept.id)
    assert store.prune(pruning).untagged == ("b:1",)
    assert [image.id for image in store.images()] == [kept.id]


def test_another_form_of_a_layer_goes_alone(store: Store, tmp_path: Path) -> None:
    """Two blobs of one layer: the directory stays for the image that stays."""
    one = add(store, oci(tmp_path / "a", BASE, name="a:1"))
    other = add(store, oci(tmp_path / "b", BASE, name="b:1", pack=loosely))
    assert one.layers[0].path == other.layers[0].path
    assert one.layers[0].blob.digest != other.layers[0].blob.digest
    store.untag(["a:1"])
    store.prune(Pruning())
    assert not blob(store, one).exists()
    assert store.image("b:1").layers == other.layers
    assert blob(store, other).exists()
    record = store.root / f"layers/sha256/{other.layers[0].diff_id.hex}.json"
    known = [one["digest"] for one in json.loads(record.read_text())["blobs"]]
    assert known == [str(other.layers[0].blob.digest)]


def loosely(data: bytes) -> bytes:
    return gzip.compress(data, 1, mtime=1)


def blob(store: Store, image: StoredImage) -> Path:
    return store.root / "blobs/sha256" / image.layers[0].blob.digest.hex


def test_the_same_layer_on_another_base_goes_alone(store: Store, tmp_path: Path) -> None:
    """A layer that is complete on certain layers only has a directory for each."""
    bases = [tar(file("bin", b"%d" % number)) for number in range(2)]
    images = [
        add(store, oci(tmp_path / f"{number}", base, UPPER, name=f"n:{number}"))
        for number, base in enumerate(bases)
    ]
    paths = [image.layers[1].path for image in images]
    assert paths[0] != paths[1]
    removed = store.remove("n:0")
    assert len(removed.swept.chains) == 2
    assert [path.exists() for path in paths] == [False, True]
    assert store.image("n:1") == images[1]


# -- mounts ----------------------------------------------------------------------------


def test_a_live_mount_keeps_its_layers(store: Store, tmp_path: Path) -> None:
    image = add(store, oci(tmp_path / "a", BASE, UPPER))
    with live(store, image) as directory:
        with pytest.raises(ImageInUse, match="app:1: in use: mounted at /nowhere") as caught:
            store.remove("app:1")
        assert "umount /nowhere" in caught.value.hint
        assert store.prune(Pruning(every=True)).images == ()
        assert store.remove("app:1", force=True).images == (image.id,)
        store.prune(Pruning(every=True, kept=True))
        assert store.images() == []
        assert all((layer.path / "etc").is_dir() for layer in image.layers)
        assert list((store.root / "blobs/sha256").iterdir()) == []
        directory.upper.joinpath("change").write_bytes(b"")
        assert store.prune(Pruning(kept=True)).swept.freed == 0
        assert directory.upper.joinpath("change").exists()
    store.prune(Pruning())
    assert all(layer.path.is_dir() for layer in image.layers), "there are changes to them"
    assert store.prune(Pruning(kept=True)).swept.freed > 0
    assert list((store.root / "layers/sha256").iterdir()) == []
    assert list((store.root / "mounts").iterdir()) == []


def test_an_image_that_is_mounted_may_lose_other_names(store: Store, tmp_path: Path) -> None:
    image = add(store, oci(tmp_path / "a", BASE))
    store.tag("app:1", ["app:2"])
    with live(store, image):
        assert store.remove("app:2").untagged == ("app:2",)
        assert store.untag(["app:1"]) == ["app:1"]
        assert store.prune(Pruning()).images == ()
    assert store.prune(Pruning()).images == (image.id,)


def test_kept_changes_are_in_use(store: Store, tmp_path: Path) -> None:
    image = add(store, oci(tmp_path / "a", BASE))
    directory, lock = mount(store, image, ended=True)
    os.close(lock)
    (directory.upper / "change").write_bytes(b"mine")
    with pytest.raises(ImageInUse, match="changes made at /nowhere are kept in") as caught:
        store.remove("app:1")
    assert "prune --kept" in caught.value.hint
    assert store.prune(Pruning(every=True)).images == ()
    assert (directory.upper / "change").read_bytes() == b"mine"
    planned = store.planned(Pruning(kept=True))
    assert list(store.sizes(planned.garbage)["mounts"]) == [directory.path]
    store.prune(Pruning(kept=True))
    assert not directory.path.exists()
    assert store.prune(Pruning(every=True)).images == (image.id,)


def test_kept_changes_that_are_mounted_again_stay(store: Store, tmp_path: Path) -> None:
    image = add(store, oci(tmp_path / "a", BASE))
    directory, lock = mount(store, image, ended=True)
    os.close(lock)
    (directory.upper / "change").write_bytes(b"mine")
    _, again = mount(store, image, upper=directory.upper)
    store.prune(Pruning(kept=True))
    assert (directory.upper / "change").read_bytes() == b"mine"
    os.close(again)


def test_what_a_mount_that_failed_has_left_goes(store: Store, tmp_path: Path) -> None:
    add(store, oci(tmp_path / "a", BASE))
    before = files(store)
    os.close(MountDirectory.create(store.root).lock())
    half = MountDirectory.create(store.root)
    half.path.rename(half.path.with_name(f".{half.path.name}"))
    locked = MountDirectory.create(store.root)
    lock = locked.lock()
    changed = MountDirectory.create(store.root)
    changed.upper.mkdir()
    (changed.upper / "change").write_bytes(b"mine")
    os.close(lock)
    store.prune(Pruning(kept=True))
    # Whose changes these are nobody knows any more, but they are somebody's.
    assert [path.name for path in (store.root / "mounts").iterdir()] == [changed.path.name]
    changed.remove()
    assert files(store) == before


# -- others at work --------------------------------------------------------------------


def test_what_is_being_added_stays(store: Store, tmp_path: Path) -> None:
    """Nothing of it is named yet, and the base that it builds on has lost its name."""
    base = add(store, oci(tmp_path / "a", BASE, name="base:1"))
    path = oci(tmp_path / "b", BASE, UPPER, name="b:1")

    class Between(Counter):
        def begin(self, total: int | None) -> None:
            super().begin(total)
            assert in_child(lambda: store.remove("base:1", force=True)) == 0
            assert in_child(lambda: store.prune(Pruning(every=True))) == 0

    with opened(store, path) as source:
        image = store.add(source, progress=Between())
    assert image.layers[0] == base.layers[0]
    assert store.verify(deep=True) == []
    assert image.names == ("b:1",)


def test_what_is_being_read_stays(store: Store, tmp_path: Path) -> None:
    image = add(store, oci(tmp_path / "a", BASE, UPPER))
    alone = {path for path in files(store) if path.startswith(("blobs", "layers/sha256"))}
    with store.reading(image):
        assert in_child(lambda: store.remove("app:1")) == 0
        assert store.images() == []
        held = {path for path in alone if (store.root / path).exists()}
        assert {path for path in alone if "/root/" in path or path.startswith("blobs")} <= held
    store.prune(Pruning())
    assert not [path for path in alone if (store.root / path).exists()]
    with pytest.raises(ImageNotFound), store.reading(image):
        pass


def test_a_mount_on_its_way_is_waited_for(store: Store, tmp_path: Path) -> None:
    image = add(store, oci(tmp_path / "a", BASE))
    said, says = os.pipe()
    with store.mounting(image) as (whole, held):
        assert whole == image
        child = os.fork()
        if child == 0:
            held.release()
            store.remove("app:1", force=True)
            os.write(says, b"removed")
            os._exit(0)
        directory, lock = mount(store, image)
        os.write(says, b"mounted ")
    os.waitpid(child, 0)
    assert os.read(said, 100) == b"mounted removed"
    assert image.layers[0].path.is_dir()
    os.close(lock)
    store.prune(Pruning())
    assert not image.layers[0].path.exists()
    assert not directory.path.exists()
    for fd in (said, says):
        os.close(fd)


def test_layers_that_are_gone_before_a_mount_are_unpacked_again(
    store: Store, tmp_path: Path
) -> None:
    image = add(store, oci(tmp_path / "a", BASE))
    removed = image.layers[0].path.parent
    subprocess.run(["rm", "-r", removed], check=True)
    with store.mounting(image) as (whole, _):
        assert (whole.layers[0].path / "etc/passwd").is_file()
    store.remove("app:1")
    with pytest.raises(ImageNotFound), store.mounting(image):
        pass


def test_what_another_tool_writes_stays_for_a_while(store: Store, tmp_path: Path) -> None:
    """skopeo puts blobs first and the name last, and takes no lock."""
    path = oci(tmp_path / "a", OTHER, name="x")
    subprocess.run(["skopeo", "copy", "-q", f"oci:{path}:x", f"oci:{store.root}:x"], check=True)
    index = store.root / "index.json"
    listed = index.read_bytes()
    index.write_bytes(b'{"schemaVersion":2,"manifests":[]}')
    store.prune(Pruning())
    blobs = list((store.root / "blobs/sha256").iterdir())
    assert len(blobs) == 3
    index.write_bytes(listed)
    assert store.image("x").names == ("x",)
    index.write_bytes(b'{"schemaVersion":2,"manifests":[]}')
    for one in blobs:
        os.utime(one, ns=(0, one.stat().st_mtime_ns - 7_200_000_000_000))
    store.prune(Pruning())
    assert list((store.root / "blobs/sha256").iterdir()) == []


def test_an_index_of_another_tool_keeps_its_platforms(store: Store, tmp_path: Path) -> None:
    """What we cannot show is somebody's all the same."""
    path = oci(tmp_path / "a", OTHER, name="x")
    listed = json.loads((path / "index.json").read_text())
    inner = {**listed, "mediaType": "application/vnd.oci.image.index.v1+json"}
    for one in inner["manifests"]:
        one.pop("annotations")
        one["platform"] = {"os": "linux", "architecture": "amd64"}
    data = json.dumps(inner).encode()
    digest = hashlib.sha256(data).hexdigest()
    (store.root / "blobs/sha256" / digest).write_bytes(data)
    for one in (path / "blobs/sha256").iterdir():
        (store.root / "blobs/sha256" / one.name).write_bytes(one.read_bytes())
    entry = {
        "mediaType": inner["mediaType"],
        "digest": f"sha256:{digest}",
        "size": len(data),
        "annotations": {"org.opencontainers.image.ref.name": "many"},
    }
    index = {"schemaVersion": 2, "manifests": [entry]}
    (store.root / "index.json").write_text(json.dumps(index))
    for one in (store.root / "blobs/sha256").iterdir():
        os.utime(one, (0, 0))
    store.prune(Pruning(every=True))
    assert len(list((store.root / "blobs/sha256").iterdir())) == 4


def test_drafts_and_locks_of_the_dead_go(store: Store, tmp_path: Path) -> None:
    before = files(store)
    (store.root / "tmp/abandoned").mkdir()
    (store.root / "tmp/abandoned/blob").write_bytes(b"x" * 10_000)
    (store.root / "locks/abandoned").write_bytes(b"")
    assert store.prune(Pruning()).swept.freed >= 10_000
    assert files(store) == before


# -- old stores ------------------------------------------------------------------------


def test_a_store_of_the_first_version_goes_on(store: Store, tmp_path: Path) -> None:
    """It had no reserve, and blobs that could be written to."""
    image = add(store, oci(tmp_path / "a", BASE, UPPER))
    old = add(store, oci(tmp_path / "b", OTHER, name="old:1"))
    (store.root / "reserve").unlink()
    for one in (store.root / "blobs/sha256").iterdir():
        one.chmod(0o644)
        os.utime(one, (0, 0))
    again = Store.open(store.root)
    assert again.image("app:1") == image
    assert again.remove("old:1").images == (old.id,)
    assert len(list((store.root / "blobs/sha256").iterdir())) == 4
    assert again.verify(deep=True) == []


# -- figures ---------------------------------------------------------------------------


def test_figures(store: Store, tmp_path: Path) -> None:
    assert store.figures().total == 0
    one = add(store, oci(tmp_path / "a", BASE, UPPER, name="a:1"))
    add(store, oci(tmp_path / "b", BASE, tar(file("b", b"b" * 50_000)), name="b:1"))
    found = store.figures()
    assert [image.names for image in found.each] == [("a:1",), ("b:1",)]
    assert found.total == found.layers.size + found.blobs.size == found.images.size
    assert (found.images.count, found.layers.count, found.blobs.count) == (2, 3, 7)
    assert found.images.size == found.images.shared + found.images.unique
    assert found.images.shared == found.each[0].shared == found.each[1].shared
    assert sum(image.unique for image in found.each) == found.images.unique
    assert found.images.reclaimable == found.images.size
    assert (found.layers.reclaimable, found.blobs.reclaimable) == (0, 0)
    # Against du, which counts the records of layers beside them too.
    said = subprocess.run(
        ["du", "-sB1", store.root / "layers/sha256", store.root / "blobs/sha256"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()
    assert found.layers.size + found.blobs.size <= int(said[0]) + int(said[2])
    with live(store, one) as directory:
        (directory.upper / "change").write_bytes(b"mine")
        mounted = store.figures()
        assert (mounted.images.active, mounted.mounts.count) == (1, 1)
        assert mounted.images.reclaimable == found.each[1].unique
        assert mounted.each[0].mounts == 1
    kept = store.figures().kept
    assert kept.reclaimable == kept.size > 0
    freed = store.prune(Pruning(every=True, kept=True)).swept.freed
    assert freed >= found.total
    assert store.figures().total == 0


# -- whose store it is -----------------------------------------------------------------


def test_the_store_of_another_user_is_refused(tmp_path: Path, needs_root: None) -> None:
    Store.open(tmp_path / "store")
    os.chown(tmp_path / "store", 54321, 54321)
    (tmp_path / "empty").mkdir()
    os.chown(tmp_path / "empty", 54321, 54321)
    for path in (tmp_path / "store", tmp_path / "empty"):
        with pytest.raises(OverlayError, match="belongs to user 54321"):
            Store.open(path)
    assert list((tmp_path / "empty").iterdir()) == []


def test_locks_leave_nothing(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with locks.attempted(path) as ours, locks.attempted(path) as theirs:
        assert (ours, theirs) == (True, False)
        assert path.exists()
    assert not path.exists()
