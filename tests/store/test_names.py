"""An image has one id and any number of names, here and for other tools."""

import json
import subprocess
from pathlib import Path

import pytest

from overlayfs.errors import AmbiguousImage, ImageInUse, ImageNotFound, OverlayError
from overlayfs.store.store import Store
from tests.store.conftest import BASE, UPPER, add, docker, oci
from tests.support.layers import file, tar

OTHER = tar(file("other", b"other"))


def names(store: Store) -> dict[str, tuple[str, ...]]:
    """The names of each image, by the beginning of its id."""
    return {image.id.hex[:12]: image.names for image in store.images()}


def listed_by_umoci(store: Store) -> set[str]:
    said = subprocess.run(
        ["umoci", "ls", "--layout", store.root], check=True, capture_output=True, text=True
    )
    return set(said.stdout.split())


def seen_by_skopeo(store: Store, name: str) -> str:
    """The digest of the image *name* in the store."""
    said = subprocess.run(
        ["skopeo", "inspect", f"oci:{store.root}:{name}"],
        check=True,
        capture_output=True,
        text=True,
    )
    return str(json.loads(said.stdout)["Digest"])


def test_a_name_more(store: Store, tmp_path: Path) -> None:
    image = add(store, oci(tmp_path / "a", BASE))
    tagged = store.tag("app:1", ["app:2", "docker.io/library/mine", "localhost:5000/x"])
    assert tagged.names == ("app:1", "app:2", "mine:latest", "localhost:5000/x:latest")
    assert tagged.id == image.id
    assert store.tag(image.id.hex[:6], ["app:2"]).names == tagged.names
    for name in tagged.names:
        assert store.image(name) == tagged
        assert seen_by_skopeo(store, name) == str(image.manifest.digest)
    assert listed_by_umoci(store) == set(tagged.names)


def test_a_name_moves_and_its_image_stays(store: Store, tmp_path: Path) -> None:
    old = add(store, oci(tmp_path / "a", BASE, name="a:1"))
    new = add(store, oci(tmp_path / "b", OTHER, name="b:1"))
    store.tag("b:1", ["a:1"])
    assert names(store) == {old.id.hex[:12]: (), new.id.hex[:12]: ("b:1", "a:1")}
    assert store.image("a:1").id == new.id
    assert store.image(old.id.hex).names == ()
    store.tag(old.id.hex, ["a:1", "b:1"])
    assert names(store) == {old.id.hex[:12]: ("a:1", "b:1"), new.id.hex[:12]: ()}
    assert seen_by_skopeo(store, "b:1") == str(old.manifest.digest)


def test_a_name_that_another_tool_wrote_in_full_is_the_same(store: Store, tmp_path: Path) -> None:
    image = add(store, oci(tmp_path / "a", BASE, name="other:1"))
    source, target = oci(tmp_path / "b", OTHER, name="b"), "docker.io/library/app:1"
    subprocess.run(
        ["skopeo", "copy", "-q", f"oci:{source}:b", f"oci:{store.root}:{target}"], check=True
    )
    assert store.image("app:1").names == (target,)
    assert store.tag("other:1", ["app:1"]).id == image.id
    assert store.image("app:1").id == image.id
    assert store.untag(["docker.io/library/app:1"]) == ["app:1"]


@pytest.mark.parametrize(
    ("name", "why"),
    [
        (f"app@sha256:{'a' * 64}", "a digest is no name"),
        ("sha256:1234", "the name of a digest's algorithm"),
        ("a" * 64, "is an id"),
        ("App", "must be lower case"),
        ("a b", "not a legal name"),
    ],
)
def test_what_cannot_be_a_name(name: str, why: str, store: Store, tmp_path: Path) -> None:
    add(store, oci(tmp_path / "a", BASE))
    with pytest.raises(OverlayError, match=why):
        store.tag("app:1", ["fine:1", name])
    assert store.image("app:1").names == ("app:1",)


def test_names_away(store: Store, tmp_path: Path) -> None:
    image = add(store, oci(tmp_path / "a", BASE))
    store.tag("app:1", ["app:2", "app:3"])
    with pytest.raises(ImageNotFound):
        store.untag(["app:2", "missing"])
    with pytest.raises(ImageNotFound, match="not a name"):
        store.untag([image.id.hex])
    assert store.untag(["app:2", "docker.io/library/app:1"]) == ["app:2", "app:1"]
    assert listed_by_umoci(store) == {"app:3"}
    assert store.untag(["app:3"]) == ["app:3"]
    assert names(store) == {image.id.hex[:12]: ()}
    assert listed_by_umoci(store) == set()


def test_by_digest(store: Store, tmp_path: Path) -> None:
    image = add(store, oci(tmp_path / "a", BASE))
    digest = image.manifest.digest
    # The digest wins; what is said beside it must be the image's.
    for reference in (f"app@{digest}", f"app:other@{digest}", f"docker.io/library/app@{digest}"):
        assert store.image(reference) == image
    for reference in (f"other@{digest}", f"app@{image.id}"):
        with pytest.raises(ImageNotFound):
            store.image(reference)
    store.untag(["app:1"])
    assert store.image(f"whatever@{digest}").id == image.id


def test_by_the_digest_that_it_came_with(store: Store, tmp_path: Path) -> None:
    """A manifest of Docker's is written anew; the registry knows the image by the old digest."""
    path = oci(tmp_path / "a", BASE, name="x")
    run = ["skopeo", "copy", "-q", "--format=v2s2", f"oci:{path}:x", f"dir:{tmp_path}/dir"]
    subprocess.run(run, check=True)
    given = json.loads(
        subprocess.run(
            ["skopeo", "inspect", f"dir:{tmp_path}/dir"], check=True, capture_output=True
        ).stdout
    )["Digest"]
    image = add(store, tmp_path / "dir")
    assert str(image.manifest.digest) != given
    store.tag(image.id.hex, ["app:1"])
    assert store.image(f"app@{given}").id == image.id


def test_two_forms_of_an_image_have_one_id(store: Store, tmp_path: Path) -> None:
    one = add(store, docker(tmp_path / "a.tar", BASE, name="a:1"))
    other = add(store, oci(tmp_path / "b", BASE, name="b:1"))
    assert one.id == other.id
    assert one.manifest.digest != other.manifest.digest
    assert store.image(one.id.hex[:8]).id == one.id
    with pytest.raises(ImageInUse, match="a:1, b:1"):
        store.remove(one.id.hex, force=False)
    assert store.remove(one.id.hex, force=True).untagged == ("a:1", "b:1")
    assert store.images() == []


def test_one_of_several_names_is_only_untagged(store: Store, tmp_path: Path) -> None:
    image = add(store, oci(tmp_path / "a", BASE))
    store.tag("app:1", ["app:2"])
    for force in (False, True):
        store.tag("app:1", ["app:3"])
        removed = store.remove("app:3", force=force)
        assert (removed.untagged, removed.images) == (("app:3",), ())
    with pytest.raises(ImageInUse, match="several names: app:1, app:2"):
        store.remove(image.id.hex[:12])
    assert store.image("app:2").names == ("app:1", "app:2")
    assert listed_by_umoci(store) == {"app:1", "app:2"}


def test_removing_takes_what_no_other_image_needs(store: Store, tmp_path: Path) -> None:
    both = add(store, oci(tmp_path / "a", BASE, UPPER, name="both:1"))
    base = add(store, oci(tmp_path / "b", BASE, name="base:1"))
    removed = store.remove("both:1")
    assert (removed.untagged, removed.images) == (("both:1",), (both.id,))
    assert len(removed.swept.chains) == 1
    assert removed.swept.freed > 0
    assert not both.layers[1].path.exists()
    assert store.image("base:1") == base
    assert base.layers[0].path.is_dir()
    assert listed_by_umoci(store) == {"base:1"}
    assert seen_by_skopeo(store, "base:1") == str(base.manifest.digest)
    store.remove(base.id.hex)
    assert store.images() == []
    assert list((store.root / "blobs/sha256").iterdir()) == []
    assert list((store.root / "layers/sha256").iterdir()) == []


def test_who_is_removed_must_be_clear(store: Store, tmp_path: Path) -> None:
    seen: dict[str, int] = {}
    for number in range(300):
        image = add(store, oci(tmp_path / str(number), tar(file(f"{number}")), name=f"n:{number}"))
        if image.id.hex[:2] in seen:
            break
        seen[image.id.hex[:2]] = number
    with pytest.raises(AmbiguousImage, match=image.id.hex[:12]):
        store.remove(image.id.hex[:2], force=True)
    with pytest.raises(ImageNotFound):
        store.remove("missing")
    assert len(store.images()) == number + 1


def test_an_image_that_was_damaged_can_be_removed(store: Store, tmp_path: Path) -> None:
    image = add(store, oci(tmp_path / "a", BASE))
    other = add(store, oci(tmp_path / "b", OTHER, name="other:1"))
    (store.root / "blobs/sha256" / image.id.hex).unlink()
    # Whose the layers are that it needs cannot be told: nothing goes but what was asked for.
    removed = store.remove("other:1")
    assert removed.images == (other.id,)
    assert f"blob {image.id}: missing" in removed.kept_back
    assert other.layers[0].path.is_dir()
    assert store.remove("app:1").untagged == ("app:1",)
    assert list((store.root / "blobs/sha256").iterdir()) == []
    assert list((store.root / "layers/sha256").iterdir()) == []
