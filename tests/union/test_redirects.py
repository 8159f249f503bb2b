"""Where a redirect leads, and which ones are made."""

import pytest

from overlayfs.union.redirects import LONGEST, made, resolve


@pytest.mark.parametrize(
    ("value", "above", "expected"),
    [
        pytest.param(b"/a/b", b"x/y", b"a/b", id="path-from-the-root"),
        pytest.param(b"b", b"x/y", b"x/y/b", id="name-beside"),
        pytest.param(b"b", b"", b"b", id="name-in-the-root"),
        pytest.param(b"..b", b"x", b"x/..b", id="dots-in-a-name"),
        pytest.param(b"/" + b"n" * 1000, b"", b"n" * 1000, id="any-length"),
        pytest.param(b"/\xff", b"", b"\xff", id="any-bytes"),
    ],
)
def test_a_redirect_leads_to_a_path_of_the_lower_layers(
    value: bytes, above: bytes, expected: bytes
) -> None:
    assert resolve(value, above) == expected


@pytest.mark.parametrize(
    "value",
    [b"", b"/", b"//", b"//a", b"/a/", b"/a//b", b".", b"..", b"/..", b"/a/../b", b"/a/.", b"a/b"],
)
def test_what_is_no_redirect(value: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        resolve(value, b"x")


LONG = b"x" * 200


@pytest.mark.parametrize(
    ("path", "beside", "expected"),
    [
        pytest.param(b"a/b", None, b"/a/b", id="path"),
        pytest.param(b"a/b", b"a", b"/a/b", id="path-though-a-name-would-do"),
        pytest.param(b"n" * (LONGEST - 1), None, b"/" + b"n" * (LONGEST - 1), id="longest"),
        pytest.param(LONG + b"/" + LONG, None, None, id="too-long"),
        pytest.param(LONG + b"/" + LONG, LONG, LONG, id="name-where-a-path-is-too-long"),
        pytest.param(LONG + b"/" + LONG, b"other", None, id="too-long-from-elsewhere"),
    ],
)
def test_what_is_made(path: bytes, beside: bytes | None, expected: bytes | None) -> None:
    assert made(path, beside) == expected
    if expected is not None:
        assert resolve(expected, beside or b"") == path
