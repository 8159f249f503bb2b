"""Docker's second spelling is the same command."""

from pathlib import Path

import pytest

from tests.support.command import PyOverlay, completed


@pytest.fixture
def stocked(pyoverlay: PyOverlay, image: Path) -> PyOverlay:
    """A store with the demo's image."""
    pyoverlay.ok("load", image)
    return pyoverlay


@pytest.mark.parametrize(
    ("second", "first"),
    [
        ("image ls --no-trunc", "images --no-trunc"),
        ("image list -q", "images -q"),
        ("image inspect demo", "inspect demo"),
        ("image history --json demo", "history --json demo"),
        ("image prune --dry-run", "prune --dry-run"),
        ("image verify", "verify"),
    ],
)
def test_both_spellings_say_the_same(stocked: PyOverlay, second: str, first: str) -> None:
    assert stocked.ok(*second.split()) == stocked.ok(*first.split())


def test_names_and_images_come_and_go(stocked: PyOverlay, tmp_path: Path) -> None:
    stocked.ok("image", "tag", "demo", "other:1")
    assert stocked.json("images")[0]["names"] == ["demo:latest", "other:1"]
    stocked.ok("image", "untag", "other:1")
    stocked.ok("image", "save", "--output", tmp_path / "saved.tar", "demo")
    stocked.ok("image", "remove", "demo")
    assert stocked.json("images") == []
    stocked.ok("image", "load", "--input", tmp_path / "saved.tar")
    stocked.ok("image", "rm", "demo")
    assert stocked.json("image", "ls") == []


def test_help_lists_them_and_each_has_its_own(pyoverlay: PyOverlay) -> None:
    text = pyoverlay.ok("image", "--help")
    for name in ("history", "import", "inspect", "load", "ls", "prune", "rm", "save", "tag"):
        assert f"\n  {name} " in text
        assert pyoverlay.ok("image", name, "--help").startswith(f"Usage: pyoverlay image {name} ")
    done = pyoverlay("image", "nothing")
    assert (done.returncode, done.stdout) == (1, "")
    assert "No such command 'nothing'" in done.stderr


def test_bash_completes_images_for_what_takes_them(
    needs_fuse: None, stocked: PyOverlay, tmp_path: Path
) -> None:
    store, root = stocked.store, tmp_path / "root"
    for command in ("inspect", "history", "image inspect", "image history"):
        assert completed(store, f"pyoverlay {command} d") == ["file,d", "plain,demo:latest"]
    for command in ("images", "image ls"):
        assert completed(store, f"pyoverlay {command} d") == ["plain,demo:latest"]
    assert "plain,inspect" in completed(store, "pyoverlay image i")
    with stocked.mounted("demo", root):
        assert f"plain,{root}" in completed(store, f"pyoverlay inspect {tmp_path}/r")
