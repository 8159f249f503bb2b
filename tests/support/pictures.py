"""The pictures of ``docs/explore.md``; ``python -m tests.support.pictures`` draws them anew."""

import html
import re
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.support.explored import write_sample
from tests.support.pilot import Person, explore

DOCS = Path(__file__).parents[2] / "docs"

# Fonts that a page would have to fetch, as whoever looks at the picture has one; a comment.
_LEFT_OUT = re.compile(r"@font-face \{.*?\}\s*|<!--.*?-->\s*", re.DOTALL)
_TEXT = re.compile(r"<text[^>]*>(.*?)</text>", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Picture:
    """A screen of *size*, after somebody has pressed *keys*; it lies in ``docs`` as *name*."""

    name: str
    size: tuple[int, int]
    keys: tuple[str, ...]


PICTURES = (
    # The second layer with all that it changed, on a file that the first one had.
    Picture(
        "explore.svg",
        (100, 30),
        ("home", "right_square_bracket", "right_square_bracket", "tab", "plus", *["down"] * 8),
    ),
    # The third alone, on a small screen: what it removes, and how much that was.
    Picture(
        "explore-alone.svg",
        (80, 24),
        (*["left_square_bracket"] * 3, "1", "tab", "plus", "w", *["down"] * 7),
    ),
    # What is wasted.
    Picture("explore-image.svg", (100, 30), ("I",)),
    # What has a set-user-ID bit, or is large.
    Picture("explore-filter.svg", (80, 24), ("tab", "plus", "s", "f")),
)


def draw(picture: Picture) -> str:
    """*picture* as SVG, made by the explorer as it is now."""
    drawn = []

    async def look(person: Person) -> None:
        await person.press(*picture.keys)
        drawn.append(person.app.export_screenshot())

    with TemporaryDirectory() as folder, chdir(folder):
        write_sample(Path("shop.tar"))
        assert explore("shop.tar", look, size=picture.size, environ={}) is None
    return _LEFT_OUT.sub("", drawn[0]).replace("Fira Code", "DejaVu Sans Mono")


def texts(svg: str) -> list[str]:
    """What is to be read in a picture, piece by piece."""
    return [html.unescape(text).replace("\xa0", " ").rstrip() for text in _TEXT.findall(svg)]


def main() -> None:
    """Draw all of them."""
    for picture in PICTURES:
        (DOCS / picture.name).write_text(draw(picture))


if __name__ == "__main__":
    main()
