"""What is asked costs the same in a hundred layers as in one; system calls are counted."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from overlayfs.union.names import Format
from tests.support.deep import FILES, FOLDERS, MISSING, deep_stack
from tests.support.live import ROOT, Live, live
from tests.support.stepping import before_each_call

LAYERS = 100
# What the interpreter asks for on its own: memory, for the most part.
NOISE = 20

pytestmark = pytest.mark.usefixtures("needs_root")
everywhere = pytest.mark.parametrize(
    "everywhere", [pytest.param(True, id="in-all-layers"), pytest.param(False, id="in-some")]
)


def calls(act: Callable[[], object]) -> int:
    """How many system calls *act* takes."""
    return sum(1 for _ in before_each_call(act))


@contextmanager
def known(base: Path, layers: int, *, everywhere: bool) -> Iterator[Live]:
    """A live tree of which everything was looked at once."""
    with live(deep_stack(base, layers, everywhere=everywhere), Format.KERNEL) as one:
        look(one)
        yield one


def look(one: Live) -> None:
    """Find everything, miss as much, and list all directories with the attributes."""
    for path in FILES:
        one.node(path)
    for path in MISSING:
        with pytest.raises(FileNotFoundError):
            one.node(path)
    for path in ("", *FOLDERS):
        handle = one.fs.opendir(one.node(path).ino)
        listing = one.fs.listing(handle, 0)
        for name in listing.names:
            one.fs.tree.attrs(one.fs.tree.child(listing.node, name))
        one.fs.releasedir(handle)


@everywhere
def test_any_number_of_layers_shows_the_same_tree(tmp_path: Path, everywhere: bool) -> None:
    with live(deep_stack(tmp_path / "one", 1), Format.KERNEL) as one:
        expected = one.tree()
    assert len(expected) == 1 + len(FOLDERS) + len(FILES)
    with live(deep_stack(tmp_path / "many", LAYERS, everywhere=everywhere), Format.KERNEL) as many:
        assert many.tree() == expected


@everywhere
@pytest.mark.parametrize("layers", [1, LAYERS])
def test_what_was_looked_at_once_needs_no_system_call(
    tmp_path: Path, layers: int, everywhere: bool
) -> None:
    with known(tmp_path / "base", layers, everywhere=everywhere) as one:
        assert calls(lambda: look(one)) <= NOISE


@everywhere
def test_opening_costs_the_same(tmp_path: Path, everywhere: bool) -> None:
    counts = []
    for layers in (1, LAYERS):
        with known(tmp_path / str(layers), layers, everywhere=everywhere) as one:
            counts.append(calls(lambda one=one: [one.read(path) for path in FILES]))
    assert counts[0] >= 2 * len(FILES), "open and read are not seen"
    assert counts[1] <= counts[0] + NOISE


def test_what_a_layer_does_not_have_is_not_looked_for(tmp_path: Path) -> None:
    """Each directory lies in ten of the hundred layers, and one of them in all."""
    stack = deep_stack(tmp_path / "base", LAYERS)
    with live(stack, Format.KERNEL) as one:
        tree = one.fs.tree
        root = calls(lambda: tree.directory(tree.node(ROOT)))
        tree.directory(tree.node(ROOT))
        folders = [one.node(path) for path in FOLDERS]
        counts = [calls(lambda node=node: tree.directory(node)) for node in folders]
    parts = [sum((lower / name).is_dir() for lower in stack.lowers) for name in FOLDERS]
    assert set(parts) == {LAYERS // 10}
    # Opened, asked whether it is opaque, listed: see Loading.load and Layer.scan.
    assert LAYERS * 5 <= root <= LAYERS * 12 + NOISE
    for count, layers in zip(counts, parts, strict=True):
        assert layers * 5 <= count <= layers * 12 + NOISE


def test_a_layer_that_is_mounted_costs_few_descriptors(tmp_path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    with live(deep_stack(tmp_path / "base", LAYERS), Format.KERNEL):
        opened = len(list(Path("/proc/self/fd").iterdir())) - before
    assert LAYERS <= opened <= LAYERS + 10
    assert len(list(Path("/proc/self/fd").iterdir())) == before
