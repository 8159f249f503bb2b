"""The pictures in ``docs/explore.md`` are those of the explorer as it is, and so are its keys."""

import re

import pytest

from overlayfs.tui.keys import KEYS, MARKS
from tests.support.pictures import DOCS, PICTURES, Picture, draw, texts


@pytest.mark.parametrize("picture", PICTURES, ids=lambda picture: picture.name)
def test_a_picture_says_what_the_explorer_says_now(picture: Picture) -> None:
    """`python -m tests.support.pictures` draws them anew."""
    kept = (DOCS / picture.name).read_text()
    assert texts(kept) == texts(draw(picture))
    assert "http" not in re.sub(r'xmlns(:\w+)?="[^"]*"', "", kept), "a picture fetches nothing"


def test_the_documentation_shows_every_picture_and_lists_every_key() -> None:
    text = (DOCS / "explore.md").read_text()
    assert [
        name for name in (picture.name for picture in PICTURES) if f"({name})" not in text
    ] == []
    rows = dict(re.findall(r"^\| `(.+?)` \| (.+?) \|$", text, re.MULTILINE))
    for _, keys in (*KEYS, ("Marks", MARKS)):
        for key, what in keys:
            assert rows.get(key) == what, key
