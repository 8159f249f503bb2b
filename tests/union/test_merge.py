"""Merging listings, by the rules of overlayfs.rst."""

from collections.abc import Iterator

import pytest

from overlayfs.union.attrs import Kind
from overlayfs.union.merge import Found, Listing, cover, merge

DIR, FILE, LINK, GONE = Kind.DIRECTORY, Kind.FILE, Kind.SYMLINK, None


def listing(**names: Kind | None) -> Listing:
    """One layer's part, not opaque; the inode numbers only tell the entries apart."""
    return Listing(
        {name.encode(): Found(kind, number) for number, (name, kind) in enumerate(names.items())},
        opaque=False,
    )


def opaque(**names: Kind | None) -> Listing:
    return listing(**names)._replace(opaque=True)


def shape(listings: list[Listing]) -> dict[bytes, tuple[Kind, list[int]]]:
    """For each visible name its kind, and from which layers it is."""
    names, _ = merge(listings)
    return {
        name: (merged.kind, [position for position, _ in merged.parts])
        for name, merged in names.items()
    }


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        pytest.param([listing(), listing(x=FILE)], (FILE, [1]), id="absent-above-is-transparent"),
        pytest.param([listing(x=FILE), listing(x=FILE)], (FILE, [0]), id="the-top-one-wins"),
        pytest.param([listing(x=GONE), listing(x=FILE)], None, id="whiteout-hides-below"),
        pytest.param([listing(x=GONE), listing(x=DIR)], None, id="whiteout-hides-a-directory"),
        pytest.param([listing(x=FILE), listing(x=GONE)], (FILE, [0]), id="whiteout-below-is-late"),
        pytest.param([listing(x=DIR), listing(x=DIR)], (DIR, [0, 1]), id="directories-merge"),
        pytest.param(
            [listing(x=DIR), listing(), listing(x=DIR)], (DIR, [0, 2]), id="a-gap-does-not-cut"
        ),
        pytest.param(
            [listing(x=DIR), listing(x=GONE), listing(x=DIR)], (DIR, [0]), id="whiteout-cuts-merge"
        ),
        pytest.param(
            [listing(x=DIR), listing(x=FILE), listing(x=DIR)], (DIR, [0]), id="file-cuts-merge"
        ),
        pytest.param(
            [listing(x=DIR), listing(x=LINK), listing(x=DIR)], (DIR, [0]), id="symlink-cuts-merge"
        ),
        pytest.param([listing(x=FILE), listing(x=DIR)], (FILE, [0]), id="file-over-directory"),
        pytest.param(
            [listing(x=FILE), listing(x=DIR), listing(x=DIR)], (FILE, [0]), id="file-over-merged"
        ),
        pytest.param([listing(x=DIR), listing(x=FILE)], (DIR, [0]), id="directory-over-file"),
        pytest.param(
            [listing(x=GONE), listing(x=DIR), listing(x=GONE), listing(x=DIR)],
            None,
            id="two-whiteouts-hide-all",
        ),
        pytest.param([opaque(), listing(x=FILE)], None, id="opaque-hides-below"),
        pytest.param([opaque(x=DIR), listing(x=DIR)], (DIR, [0]), id="opaque-keeps-its-own"),
        pytest.param(
            [listing(x=DIR), opaque(x=DIR), listing(x=DIR)], (DIR, [0, 1]), id="opaque-in-between"
        ),
        pytest.param([listing(), opaque(), listing(x=FILE)], None, id="opaque-below-the-top"),
    ],
)
def test_what_shows_under_a_name(
    layers: list[Listing], expected: tuple[Kind, list[int]] | None
) -> None:
    assert shape(layers).get(b"x") == expected


def test_each_name_is_merged_by_itself() -> None:
    found = shape(
        [listing(a=FILE, b=GONE, d=DIR), listing(a=DIR, b=FILE, c=LINK, d=DIR), listing(d=FILE)]
    )
    assert found == {b"a": (FILE, [0]), b"c": (LINK, [1]), b"d": (DIR, [0, 1])}


def test_nothing_below_an_opaque_directory_is_read() -> None:
    asked = []

    def layers() -> Iterator[Listing]:
        for number, each in enumerate([listing(a=FILE), opaque(b=FILE), listing(c=FILE)]):
            asked.append(number)
            yield each

    names, depth = merge(layers())
    assert (asked, depth, set(names)) == ([0, 1], 2, {b"a", b"b"})


def test_no_layers_show_nothing() -> None:
    assert merge([]) == ({}, 0)


def covered(upper: Listing, *lowers: Listing) -> dict[bytes, str]:
    """For each visible name whether it is of the upper layer, the lower ones or both."""
    lower, _ = merge(lowers)
    found = cover(upper.entries, lower).names
    return {
        name: "both" if own and below else "upper" if own else "lower"
        for name, (own, below) in found.items()
    }


@pytest.mark.parametrize(
    ("upper", "lower", "expected"),
    [
        pytest.param(listing(), listing(x=FILE), "lower", id="lower-shows"),
        pytest.param(listing(x=FILE), listing(), "upper", id="upper-alone"),
        pytest.param(listing(x=FILE), listing(x=FILE), "upper", id="file-over-file"),
        pytest.param(listing(x=FILE), listing(x=DIR), "upper", id="file-over-directory"),
        pytest.param(listing(x=DIR), listing(x=FILE), "upper", id="directory-over-file"),
        pytest.param(listing(x=DIR), listing(x=DIR), "both", id="directories-merge"),
        pytest.param(listing(x=GONE), listing(x=DIR), None, id="whiteout-over-directory"),
        pytest.param(listing(x=GONE), listing(), None, id="whiteout-over-nothing"),
    ],
)
def test_the_upper_layer_covers(upper: Listing, lower: Listing, expected: str | None) -> None:
    assert covered(upper, lower).get(b"x") == expected


def test_cover_tells_where_a_removal_needs_a_whiteout() -> None:
    upper = listing(own=FILE, copied=FILE, gone=GONE, pointless=GONE, merged=DIR)
    lower, _ = merge([listing(copied=FILE, gone=FILE, merged=DIR, other=FILE)])
    found = cover(upper.entries, lower)
    assert found.whiteouts == {b"gone", b"pointless"}
    assert found.below == {b"copied", b"gone", b"merged"}
