"""The lines of the tree: what is open, filtered, sorted and searched."""

import os
from pathlib import Path

import pytest

from overlayfs.errors import OverlayError
from overlayfs.tui.filter import Filter, parse_size
from overlayfs.tui.links import destination
from overlayfs.tui.model import Model
from overlayfs.tui.node import Change
from overlayfs.tui.outline import Outline
from overlayfs.tui.scope import Mode, Scope
from tests.support.layers import file, folder, symlink
from tests.support.models import model_of, node


@pytest.fixture
def model(tmp_path: Path) -> Model:
    return model_of(
        tmp_path,
        (
            folder("bin"),
            file("bin/sh", b"x" * 500, mode=0o755),
            file("bin/su", b"x" * 300, mode=0o4755),
            folder("etc"),
            file("etc/motd", b"hello"),
            file("etc/passwd", b"root"),
            folder("usr"),
            folder("usr/lib"),
            file("usr/lib/libc.so", b"x" * 2000),
            file("usr/README", b"read"),
        ),
        (
            file("etc/.wh.motd"),
            file("etc/passwd", b"root, and others"),
            file("usr/lib/libm.so", b"x" * 900),
        ),
    )


@pytest.fixture
def outline(model: Model) -> Outline:
    return Outline(model.root, Scope(Mode.UP_TO, 2, 2))


def paths(outline: Outline) -> list[str]:
    return ["/" + os.fsdecode(row.node.path) for row in outline.rows]


def wanting(outline: Outline, wanted: Filter) -> list[str]:
    """The lines with everything open and this filter."""
    outline.wanted = wanted
    outline.refresh()
    outline.unfold_all()
    return paths(outline)


# -- opening -------------------------------------------------------------------------------------


def test_at_first_only_the_root_is_open(outline: Outline) -> None:
    assert paths(outline) == ["/", "/bin", "/etc", "/usr"]
    assert [row.is_open for row in outline.rows] == [True, False, False, False]


def test_a_directory_opens_and_what_was_open_in_it_stays_so(model: Model, outline: Outline) -> None:
    outline.toggle(node(model, b"usr"))
    outline.toggle(node(model, b"usr/lib"))
    expected = ["/", "/bin", "/etc", "/usr", "/usr/README", "/usr/lib"]
    expected += ["/usr/lib/libc.so", "/usr/lib/libm.so"]
    assert paths(outline) == expected
    outline.toggle(node(model, b"usr"))
    assert paths(outline) == ["/", "/bin", "/etc", "/usr"]
    outline.toggle(node(model, b"usr"))
    assert paths(outline) == expected


def test_lines_lead_to_what_is_in_a_directory(outline: Outline) -> None:
    outline.unfold_all()
    guides = {"/" + os.fsdecode(row.node.path): row.guide for row in outline.rows}
    assert guides["/bin"] == ""
    assert guides["/bin/sh"] == "├─ "
    assert guides["/bin/su"] == "└─ "
    assert guides["/usr/lib/libm.so"] == "   └─ "


def test_what_the_layer_removed_has_its_line(outline: Outline) -> None:
    assert "/etc/motd" in wanting(outline, Filter())
    outline.scope = outline.scope._replace(mode=Mode.WHOLE)
    assert "/etc/motd" not in wanting(outline, Filter())


def test_a_layer_alone_has_only_what_it_changed(outline: Outline) -> None:
    outline.scope = outline.scope._replace(mode=Mode.ALONE)
    expected = ["/", "/etc", "/etc/motd", "/etc/passwd", "/usr", "/usr/lib", "/usr/lib/libm.so"]
    assert wanting(outline, Filter()) == expected


def test_by_size_the_largest_comes_first(outline: Outline) -> None:
    outline.by_size = True
    outline.refresh()
    outline.unfold_all()
    assert [path for path in paths(outline) if path.count("/") == 1] == [
        "/",
        "/usr",
        "/bin",
        "/etc",
    ]
    assert paths(outline).index("/usr/lib/libc.so") < paths(outline).index("/usr/lib/libm.so")


def test_reveal_opens_what_is_above(model: Model, outline: Outline) -> None:
    assert outline.reveal(node(model, b"usr/lib/libc.so"))
    place = outline.place(node(model, b"usr/lib/libc.so"))
    assert place is not None
    assert paths(outline)[place] == "/usr/lib/libc.so"
    assert outline.place(node(model, b"bin/sh")) is None
    assert paths(outline)[outline.nearest(node(model, b"bin/sh"))] == "/bin"
    outline.scope = outline.scope._replace(mode=Mode.ALONE)
    outline.refresh()
    assert not outline.reveal(node(model, b"bin/sh"))


def test_a_tree_deeper_than_pythons_stack(tmp_path: Path) -> None:
    deep = "/".join(["d"] * 1500)
    model = model_of(tmp_path, (file(f"{deep}/f", b"12"),))
    outline = Outline(model.root, Scope(Mode.UP_TO, 1, 1))
    outline.wanted = Filter(glob="f")
    outline.refresh()
    outline.unfold_all()
    assert len(outline.rows) == 1502
    assert outline.search("f", model.root) is outline.rows[-1].node
    assert model.root.size_at(1) == 2


# -- filtering -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        pytest.param(Filter(glob="*.so"), ["/usr/lib/libc.so", "/usr/lib/libm.so"], id="name"),
        pytest.param(Filter(glob="/etc/p*"), ["/etc/passwd"], id="path"),
        pytest.param(
            Filter(least=500), ["/bin/sh", "/usr/lib/libc.so", "/usr/lib/libm.so"], id="size"
        ),
        pytest.param(Filter(privileged=True), ["/bin/su"], id="suid"),
        pytest.param(Filter(privileged=True, least=301), [], id="suid-and-size"),
        pytest.param(
            Filter(without=frozenset((None,))),
            ["/etc/motd", "/etc/passwd", "/usr/lib/libm.so"],
            id="changed-only",
        ),
        pytest.param(
            Filter(without=frozenset((None, Change.REMOVED, Change.CHANGED))),
            ["/usr/lib/libm.so"],
            id="added-only",
        ),
        pytest.param(Filter(hidden=True), [], id="nothing-is-hidden-at-the-top"),
    ],
)
def test_a_filter_leaves_what_is_wanted_and_what_leads_there(
    outline: Outline, wanted: Filter, expected: list[str]
) -> None:
    found = wanting(outline, wanted)
    assert [path for path in found if not outline.rows[found.index(path)].is_dir] == expected
    for path in found:
        assert path.rpartition("/")[0] or "/" in found


def test_what_later_layers_hide_can_be_asked_for(outline: Outline) -> None:
    outline.scope = outline.scope._replace(layer=1)
    expected = ["/", "/etc", "/etc/motd", "/etc/passwd"]
    assert wanting(outline, Filter(hidden=True)) == expected


@pytest.mark.parametrize(
    ("text", "size"),
    [("", 0), ("300", 300), ("4k", 4000), ("1.5 MB", 1_500_000), ("2G", 2_000_000_000), ("7b", 7)],
)
def test_sizes_are_read(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["-1", "many", "1x", "1e9", "1" * 16, "\x1b[2J"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(OverlayError, match="not a size") as caught:
        parse_size(text)
    assert caught.value.message.isprintable()


# -- searching -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "found"),
    [
        pytest.param("lib", b"usr/lib", id="part-of-a-name"),
        pytest.param("readme", b"usr/README", id="small-letters-find-all"),
        pytest.param("README", b"usr/README", id="capitals"),
        pytest.param("ReadMe", None, id="capitals-are-meant"),
        pytest.param("*.so", b"usr/lib/libc.so", id="pattern"),
        pytest.param("lib/", b"usr/lib/libc.so", id="path"),
        pytest.param("nothing", None, id="nothing"),
        pytest.param("", None, id="empty"),
    ],
)
def test_search(model: Model, outline: Outline, text: str, found: bytes | None) -> None:
    match = outline.search(text, model.root)
    assert (match.path if match else None) == found


def test_search_goes_on_and_round_and_back(model: Model, outline: Outline) -> None:
    first, second = node(model, b"usr/lib/libc.so"), node(model, b"usr/lib/libm.so")
    assert outline.search(".so", first) is second
    assert outline.search(".so", second) is first
    assert outline.search(".so", first, back=True) is second
    assert outline.search(".so", second, back=True) is first
    assert outline.search(".so", second, also=True) is second
    assert outline.search("passwd", node(model, b"etc/passwd")) is node(model, b"etc/passwd")


def test_search_looks_only_at_what_is_shown(model: Model, outline: Outline) -> None:
    outline.wanted = Filter(glob="libm*")
    outline.refresh()
    assert outline.search("libc", model.root) is None
    assert outline.search("lib", node(model, b"bin/sh"), also=True) is node(model, b"usr/lib")


# -- symbolic links ------------------------------------------------------------------------------


def test_where_links_lead(tmp_path: Path) -> None:
    model = model_of(
        tmp_path,
        (
            folder("usr"),
            folder("usr/bin"),
            file("usr/bin/python3", b""),
            symlink("bin", "usr/bin"),
            symlink("usr/bin/python", "python3"),
            symlink("absolute", "/bin/python"),
            symlink("up", "../../usr/./bin/../bin/python3"),
            symlink("usr/nowhere", "gone"),
            symlink("loop", "loop"),
            symlink("root", "/"),
        ),
        (file("usr/gone", b""),),
    )
    scope = Scope(Mode.UP_TO, 1, 2)

    def lead(path: bytes) -> bytes | None:
        found = destination(model.root, scope, node(model, path))
        return found.path if found else None

    assert lead(b"bin") == b"usr/bin"
    assert lead(b"usr/bin/python") == b"usr/bin/python3"
    assert lead(b"absolute") == b"usr/bin/python3"
    assert lead(b"up") == b"usr/bin/python3"
    assert lead(b"usr/nowhere") is None
    assert lead(b"loop") is None
    assert lead(b"root") == b""
    scope = scope._replace(mode=Mode.WHOLE)
    assert lead(b"usr/nowhere") == b"usr/gone"
