"""What a file system cannot do, and what a store has lost, is found by trying."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from overlayfs.archive.detect import open_image
from overlayfs.doctor import disk
from overlayfs.doctor.finding import Finding, State
from overlayfs.doctor.person import Person
from overlayfs.store.store import Store
from tests.support.archives import from_1_10, image, write_tar
from tests.support.images import run

ROOT = Person(0, "root", mighty=True)
JANE = Person(1000, "jane", mighty=False)


@contextmanager
def on(kind: str, base: Path, *making: str) -> Iterator[Path]:
    """A fresh file system of *kind* at *base*."""
    base.mkdir()
    if kind == "ramfs":
        run("mount", "-t", kind, "none", base)
    else:
        file = base.with_suffix(".img")
        with file.open("wb") as made:
            made.truncate(64 << 20)
        run(f"mkfs.{kind}", *making, file)
        run("mount", "-o", "loop", file, base)
    try:
        yield base
    finally:
        run("umount", base)


def lines(*findings: Finding) -> list[tuple[str, State]]:
    return [(one.name, one.state) for one in findings]


def test_a_store_that_is_not_there_is_looked_at_where_it_will_be(tmp_path: Path) -> None:
    root = tmp_path / "a/b"
    assert disk.place(root) == tmp_path
    assert disk.writable(root).said == f"{root} can be made"
    assert disk.attributes(root, JANE).said == "user.*"
    assert disk.entry_types(root).state is State.OK
    (found,) = disk.store(root, ROOT)
    assert (found.state, found.said) == (State.OK, f"{root}: not made yet")
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    found = disk.writable(tmp_path / "file/store")
    assert (found.state, found.said) == (State.FAIL, f"{tmp_path / 'file'}: not a directory")
    assert "PYOVERLAY_ROOT" in found.fix


def test_attributes_that_a_disk_has_not(needs_root: None, tmp_path: Path) -> None:
    assert disk.attributes(tmp_path, ROOT).said == "trusted.* and user.*"
    with on("ramfs", tmp_path / "ram") as ram:
        found = disk.attributes(ram, JANE)
        assert found.state is State.FAIL
        assert found.said.startswith(f"user.* cannot be set in {ram}: ")
        assert "ext4, xfs, btrfs" in found.fix
        assert disk.attributes(ram, ROOT).said.startswith("trusted.* cannot be set")
        assert list(ram.iterdir()) == []


def test_types_that_a_disk_does_not_tell(needs_root: None, tmp_path: Path) -> None:
    with on("ext4", tmp_path / "disk", "-q", "-O", "^filetype") as base:
        found = disk.entry_types(base)
    assert found.state is State.WARN
    assert "the kernel's overlayfs refuses it" in found.said


@pytest.mark.parametrize(
    ("limits", "state", "said"),
    [
        ({"little": 0, "none": 0, "few": 0}, State.OK, " GB"),
        ({"little": 1 << 60, "none": 0}, State.WARN, " GB"),
        ({"little": 1 << 60, "none": 1 << 60}, State.FAIL, " GB"),
        ({"little": 0, "none": 0, "few": 1 << 60}, State.WARN, "files only"),
    ],
)
def test_free_space(tmp_path: Path, limits: dict[str, int], state: State, said: str) -> None:
    found = disk.space(tmp_path / "store", **limits)
    assert (found.state, said in found.said) == (state, True)


def test_space_that_nobody_counts(needs_root: None, tmp_path: Path) -> None:
    with on("ramfs", tmp_path / "ram") as ram:
        assert disk.space(ram).said == "not counted here"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A store with an image."""
    made = image("text", history=[])
    archive = write_tar(tmp_path / "image.tar", from_1_10([(made, ["some:1"])]))
    store = Store.open(tmp_path / "store")
    with open_image(str(archive), scratch=tmp_path) as source:
        store.add(source)
    return store.root


def test_a_store_that_is_well(needs_root: None, root: Path) -> None:
    assert lines(*disk.store(root, ROOT)) == [("store", State.OK), ("overlay format", State.OK)]


def test_a_store_that_has_lost_a_part(root: Path) -> None:
    layout = json.loads((root / "index.json").read_text())
    manifest = json.loads(blob(root, layout["manifests"][0]["digest"]).read_text())
    layer = blob(root, manifest["layers"][0]["digest"])
    layer.unlink()
    found = disk.store(root, ROOT)[0]
    assert found.state is State.WARN
    assert found.said == f"image some:1: blob sha256:{layer.name}: missing in the store"
    assert "verify" in found.fix
    blob(root, manifest["config"]["digest"]).write_bytes(b"{}")
    assert "image some:1: " in disk.store(root, ROOT)[0].said


def blob(root: Path, digest: str) -> Path:
    return root / "blobs/sha256" / digest.removeprefix("sha256:")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("store.json", b"", "store.json"),
        ("store.json", b'{"version":99,"format":"kernel"}', "another version"),
        ("index.json", b"[]", "index.json"),
    ],
)
def test_a_store_that_cannot_be_read(root: Path, name: str, content: bytes, said: str) -> None:
    (root / name).write_bytes(content)
    (found,) = disk.store(root, ROOT)
    assert found.state is State.FAIL
    assert said in found.said
    assert found.fix


def test_a_store_in_a_format_that_could_be_better(needs_root: None, root: Path) -> None:
    settings = root / "store.json"
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"format": "user"}))
    found = disk.store(root, ROOT)[1]
    assert (found.name, found.state) == ("overlay format", State.WARN)
    assert lines(*disk.store(root, JANE))[1] == ("overlay format", State.OK)


def test_nothing_stays_of_what_was_tried(root: Path) -> None:
    before = sorted(os.walk(root))
    for _ in disk.writable(root), disk.attributes(root, JANE), disk.entry_types(root):
        pass
    assert sorted(os.walk(root)) == before
