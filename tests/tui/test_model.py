"""What the explorer knows of an image: every name of every layer, and how it went on."""

import random
from pathlib import Path

import pytest

from overlayfs.errors import InvalidImage
from overlayfs.tui.model import Model
from overlayfs.tui.node import Change, Node
from overlayfs.tui.scope import Mode, Scope
from overlayfs.union.attrs import Kind
from overlayfs.view.entry import Entry
from overlayfs.view.image import ImageView
from overlayfs.view.waste import Did, account
from tests.support.layers import file, folder, link, symlink
from tests.support.models import model_of, node, viewed
from tests.support.viewed import random_layers


def past(model: Model, path: bytes) -> list[tuple[int, str]]:
    """What each layer did to *path*."""
    return [(version.layer, str(version.change)) for version in node(model, path).versions]


# -- what a layer does ---------------------------------------------------------------------------


def test_a_layer_adds_changes_and_removes(tmp_path: Path) -> None:
    model = model_of(
        tmp_path,
        (folder("etc"), file("etc/kept", b"1"), file("etc/old", b"22"), file("etc/gone", b"333")),
        (folder("etc"), file("etc/old", b"4444"), file("etc/new", b"5"), file("etc/.wh.gone")),
    )
    assert past(model, b"etc") == [(1, "added"), (2, "kept")]
    assert past(model, b"etc/kept") == [(1, "added")]
    assert past(model, b"etc/old") == [(1, "added"), (2, "changed")]
    assert past(model, b"etc/gone") == [(1, "added"), (2, "removed")]
    assert past(model, b"etc/new") == [(2, "added")]
    assert model.root.counts_of(2) == {Change.ADDED: 1, Change.CHANGED: 1, Change.REMOVED: 1}


def test_a_directory_counts_as_changed_only_for_what_is_its_own(tmp_path: Path) -> None:
    model = model_of(
        tmp_path,
        (folder("a", mtime=1), folder("b"), folder("c"), folder("d")),
        (folder("a", mtime=2), folder("b", mode=0o700), folder("c", uid=5), file("d/f", b"")),
    )
    assert past(model, b"a") == [(1, "added"), (2, "kept")]
    assert past(model, b"b") == [(1, "added"), (2, "changed")]
    assert past(model, b"c") == [(1, "added"), (2, "changed")]
    assert past(model, b"d") == [(1, "added"), (2, "kept")]


def test_an_opaque_directory_removes_what_was_in_it(tmp_path: Path) -> None:
    model = model_of(
        tmp_path,
        (
            folder("d"),
            folder("d/sub"),
            file("d/sub/x", b"12"),
            file("d/f", b"1"),
            file("d/g", b"3"),
        ),
        (folder("d"), file("d/.wh..wh..opq"), file("d/g", b"44"), folder("d/sub")),
    )
    assert past(model, b"d/f") == [(1, "added"), (2, "removed")]
    assert past(model, b"d/g") == [(1, "added"), (2, "changed")]
    assert past(model, b"d/sub/x") == [(1, "added"), (2, "removed")]
    assert past(model, b"d/sub") == [(1, "added"), (2, "kept")]
    d = node(model, b"d")
    assert [version.opaque for version in d.versions] == [False, True]
    assert (d.size_at(1), d.size_at(2), model.wasted) == (4, 2, {1: 4})


def test_files_and_directories_take_each_others_place(tmp_path: Path) -> None:
    model = model_of(
        tmp_path,
        (folder("a"), file("a/in", b"12345"), file("b", b"123")),
        (file("a", b"1"), folder("b"), file("b/in", b"12")),
        (folder("a"), file("a/in", b"123456"), file("b", b"9999999")),
    )
    assert past(model, b"a") == [(1, "added"), (2, "changed"), (3, "changed")]
    assert past(model, b"a/in") == [(1, "added"), (2, "removed"), (3, "added")]
    assert past(model, b"b/in") == [(2, "added"), (3, "removed")]
    a, b = node(model, b"a"), node(model, b"b")
    assert [a.size_at(layer) for layer in (1, 2, 3)] == [5, 1, 6]
    assert [b.size_at(layer) for layer in (1, 2, 3)] == [3, 2, 7]
    assert [b.size_of(layer) for layer in (1, 2, 3)] == [3, 2, 7]
    assert [model.root.size_at(layer) for layer in (1, 2, 3)] == [8, 3, 13]
    assert model.wasted == {1: 8, 2: 3}
    assert b.counts_of(1) == {Change.ADDED: 1}


# -- sizes and waste -----------------------------------------------------------------------------


def test_waste_is_what_no_later_tree_shows(tmp_path: Path) -> None:
    model = model_of(
        tmp_path,
        (file("a", b"x" * 60), file("b", b"x" * 20), file("c", b"x" * 20)),
        (file("a", b"x" * 100), file(".wh.b")),
    )
    assert (model.total, dict(model.brought)) == (200, {1: 100, 2: 100})
    assert model.wasted == {1: 80}
    assert model.efficiency == pytest.approx(0.6)
    wasted = {one.path: one.wasted for one in model.walk() if one.wasted}
    assert wasted == {b"": 80, b"a": 60, b"b": 20}


def test_a_last_layer_without_a_byte_counts_as_well(tmp_path: Path) -> None:
    model = model_of(tmp_path, (file("gone", b"123"),), (file(".wh.gone"),))
    assert model.top == 2
    assert model.root.size_at(model.top) == 0


def test_an_image_without_files_wastes_nothing(tmp_path: Path) -> None:
    assert model_of(tmp_path, (folder("a"),)).efficiency == 1


def test_a_file_with_several_names_counts_once_as_long_as_one_is_left(tmp_path: Path) -> None:
    model = model_of(
        tmp_path,
        (folder("d"), file("d/one", b"x" * 10), link("two", "d/one"), link("three", "d/one")),
        (file("d/.wh.one"),),
        (file(".wh.two"),),
        (file("three", b"y"),),
    )
    assert [model.root.size_at(layer) for layer in (1, 2, 3, 4)] == [10, 10, 10, 1]
    assert node(model, b"d").size_at(2) == 0
    assert model.brought == {1: 10, 4: 1}
    assert model.wasted == {1: 10}


# -- trees -----------------------------------------------------------------------------------------


def shown(model: Model, scope: Scope) -> dict[bytes, Node]:
    """All that *scope* shows, but for what it shows as removed."""
    found = {}
    left = [model.root]
    while left:
        here = left.pop()
        version = scope.version(here)
        if version is not None and version.entry is not None:
            found[here.path] = here
            left += scope.children(here)
    return found


def sizes(tree: dict[bytes, Entry]) -> dict[bytes, int]:
    """The bytes of the regular files beneath each directory, a file with several names once."""
    totals = {path: 0 for path, entry in tree.items() if entry.is_dir}
    counted = set()
    for path, entry in sorted(tree.items()):
        if entry.kind is Kind.FILE and (entry.layer, entry.file) not in counted:
            counted.add((entry.layer, entry.file))
            for directory in totals:
                if not directory or path.startswith(directory + b"/"):
                    totals[directory] += entry.size
    return totals


@pytest.mark.parametrize("block", range(5))
def test_every_tree_is_that_of_the_layers_merged(block: int, tmp_path: Path) -> None:
    refused = 0
    for seed in range(block * 40, block * 40 + 40):
        (tmp_path / str(seed)).mkdir()
        try:
            with viewed(tmp_path / str(seed), *random_layers(seed)) as view:
                compare(view, f"seed {seed}")
        except InvalidImage:
            refused += 1
    assert refused < 30


def compare(view: ImageView, what: str) -> None:
    """Every tree of the model with the merge of those layers; sizes with what is added up."""
    model = Model.of(view.parts)
    top = len(view.parts)
    for layer in range(1, top + 1):
        merged = ImageView(view.parts[:layer])
        expected = dict(merged.walk())
        scope = Scope(Mode.UP_TO, layer, top)
        found = shown(model, scope)
        assert set(found) == set(expected), f"{what}, up to layer {layer}"
        for path, here in found.items():
            assert scope.entry(here) == expected[path], f"{what}, up to layer {layer}: {path!r}"
        several = any(entry.nlink > 1 for entry in expected.values())
        for path, size in sizes(expected).items():
            # Which of its names stands for a file with several is no matter of rules.
            if not path or not several:
                assert found[path].size_at(layer) == size, f"{what}, up to layer {layer}: {path!r}"
        alone = shown(model, Scope(Mode.ALONE, layer, top))
        assert set(alone) == set(dict(ImageView([view.parts[layer - 1]]).walk())), what
    assert set(shown(model, Scope(Mode.WHOLE, 1, top))) == set(dict(view.walk())), what
    kept = model.total - sum(model.wasted.values())
    assert kept == model.root.size_at(top), what
    accounted(model, view, what)


def accounted(model: Model, view: ImageView, what: str) -> None:
    """The figures are those that ``pyoverlay layers`` prints."""
    told = account(view.parts)
    assert (model.total, model.efficiency) == (told.total, told.efficiency), what
    for layer in told.layers:
        number = layer.number
        assert model.brought.get(number, 0) == layer.size, f"{what}, layer {number}"
        assert model.wasted.get(number, 0) == layer.wasted, f"{what}, layer {number}"
        counts = model.root.counts_of(number)
        for did in Did:
            assert counts.get(Change(did), 0) == layer.count(did), f"{what}, layer {number}: {did}"


def test_a_layer_that_removes_shows_what_it_removed_in_its_own_tree_only(tmp_path: Path) -> None:
    model = model_of(
        tmp_path,
        (folder("d"), file("d/f", b"123"), symlink("l", "d/f")),
        (file(".wh.d"), file(".wh.l")),
        (file("new", b""),),
    )
    gone = node(model, b"d/f")
    up_to = Scope(Mode.UP_TO, 2, 3)
    assert up_to.change(gone) is Change.REMOVED
    assert (up_to.entry(gone).size, up_to.size(gone)) == (3, 3)
    assert list(up_to.layers(gone)) == [1]
    assert up_to.hidden_by(gone) is None
    assert up_to._replace(layer=1).hidden_by(gone) is not None
    assert up_to._replace(layer=3).version(gone) is None
    assert up_to._replace(mode=Mode.WHOLE).version(gone) is None
    assert up_to._replace(mode=Mode.ALONE).change(gone) is Change.REMOVED


def test_many_layers_and_files_take_time_in_proportion(tmp_path: Path) -> None:
    """What is asked of the parts is counted: no clock is to be trusted."""
    chance = random.Random(1)
    layers = [
        tuple(file(f"d{chance.randrange(20)}/f{number}-{at}", b"x") for at in range(20))
        for number in range(60)
    ]
    model = model_of(tmp_path, *layers)
    assert model.nodes == 1 + 20 + 60 * 20
    assert sum(len(one.versions) for one in model.walk()) <= 60 * (1 + 20 + 20)
