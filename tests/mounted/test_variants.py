"""The same image mounted in other ways: up to a layer, read-only, several times at once."""

import errno
import re
from pathlib import Path
from typing import Any

import pytest

from overlayfs.cli.demo_image import write_demo_image
from tests.support.command import PyOverlay
from tests.support.tree import names

pytestmark = pytest.mark.usefixtures("needs_fuse")


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image of three layers: files; a change of them; removals and an opaque directory."""
    folder = tmp_path_factory.mktemp("demo")
    write_demo_image(folder / "demo.tar", folder)
    return folder / "demo.tar"


@pytest.fixture
def pyoverlay(tmp_path: Path) -> PyOverlay:
    """The command, with an empty store."""
    return PyOverlay(tmp_path / "store")


def tree(root: Path) -> dict[str, bytes | None]:
    """The files below *root* with what is in them."""
    return {
        str(path.relative_to(root)): path.read_bytes() if path.is_file() else None
        for path in root.rglob("*")
    }


def unpacked(pyoverlay: PyOverlay) -> list[Path]:
    return pyoverlay.layer_paths("demo:latest")


def test_an_image_as_it_was_after_each_of_its_layers(
    pyoverlay: PyOverlay, demo: Path, tmp_path: Path
) -> None:
    seen = {}
    for layer in (1, 2, 3):
        with pyoverlay.mounted(demo, tmp_path / "root", "--layer", str(layer)) as root:
            seen[layer] = tree(root)
            (mount,) = pyoverlay.json("ps")
            assert mount["layer"] == layer
            assert f"demo:latest, layer {layer}  " in pyoverlay.ok("ps")
    with pyoverlay.mounted("demo", tmp_path / "root") as root:
        assert tree(root) == seen[3]
        assert pyoverlay.json("ps")[0]["layer"] is None
    # The base alone is what its directory has.
    assert seen[1] == tree(unpacked(pyoverlay)[0])
    assert len({str(sorted(one)) for one in seen.values()}) == 3


def test_changes_are_told_from_the_layer_that_was_mounted(
    pyoverlay: PyOverlay, demo: Path, tmp_path: Path
) -> None:
    with pyoverlay.mounted(demo, tmp_path / "root", "--layer", "1") as root:
        assert pyoverlay.json("diff", root) == []
        (root / "new").write_text("new")
        (root / "etc/motd").unlink()
        assert set(pyoverlay.ok("diff", root).splitlines()) == {"A /new", "C /etc", "D /etc/motd"}


@pytest.mark.parametrize("layer", ["0", "4", "-1"])
def test_a_layer_that_is_not_there_is_refused_with_their_count(
    pyoverlay: PyOverlay, demo: Path, tmp_path: Path, layer: str
) -> None:
    (tmp_path / "root").mkdir()
    done = pyoverlay("mount", "--layer", layer, demo, tmp_path / "root")
    assert (done.returncode, done.stdout) == (1, "")
    said = done.stderr.splitlines()[-1]
    assert said == f"pyoverlay: demo:latest: no layer {layer}, the image has the layers 1 to 3"
    assert pyoverlay.json("ps") == []
    assert not list((pyoverlay.store / "mounts").glob("*"))


def test_up_to_a_layer_and_read_only(pyoverlay: PyOverlay, demo: Path, tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    said = pyoverlay.ok("mount", "--read-only", "--layer=1", demo, tmp_path / "root")
    try:
        assert re.search(r": demo:latest \([0-9a-f]{12}, layer 1 of 3\), read-only\n$", said)
        assert tree(tmp_path / "root") == tree(unpacked(pyoverlay)[0])
        with pytest.raises(OSError, match="Read-only") as raised:
            (tmp_path / "root/new").touch()
        assert raised.value.errno == errno.EROFS
        assert pyoverlay.json("diff", tmp_path / "root") == []
    finally:
        pyoverlay.ok("umount", tmp_path / "root")


def test_several_mounts_of_one_image_have_the_same_layers_and_changes_of_their_own(
    pyoverlay: PyOverlay, demo: Path, tmp_path: Path
) -> None:
    roots = [tmp_path / name for name in ("one", "two", "three")]
    options: list[list[str]] = [[], [], ["--read-only"]]
    for root, more in zip(roots, options, strict=True):
        root.mkdir()
        pyoverlay.ok("mount", *more, demo, root)
    try:
        before = tree(roots[2])
        layers = [tree(layer) for layer in unpacked(pyoverlay)]
        mounts: list[dict[str, Any]] = pyoverlay.json("ps")
        assert [mount["mountpoint"] for mount in mounts] == [str(root) for root in roots]
        assert len({mount["upper"] for mount in mounts}) == 3
        assert len({mount["pid"] for mount in mounts}) == 3

        (roots[0] / "etc/motd").write_text("one")
        (roots[1] / "etc/motd").unlink()
        (roots[1] / "two").mkdir()
        assert (roots[0] / "etc/motd").read_text() == "one"
        assert names(roots[1] / "etc") == ["passwd"]
        assert not (roots[0] / "two").exists()
        assert tree(roots[2]) == before
        assert [tree(layer) for layer in unpacked(pyoverlay)] == layers
        assert pyoverlay.ok("diff", roots[0]).splitlines() == ["C /etc", "C /etc/motd"]
        assert pyoverlay.ok("diff", roots[1]).splitlines() == ["C /etc", "D /etc/motd", "A /two"]
        # What none has changed is the same file of the same layer.
        assert len({(root / "etc/passwd").stat().st_ino for root in roots}) == 1
    finally:
        for root in roots:
            pyoverlay.ok("umount", root)
    # One that goes takes nothing from the others, nor from the next.
    with pyoverlay.mounted("demo", roots[0]) as root:
        assert tree(root) == before
