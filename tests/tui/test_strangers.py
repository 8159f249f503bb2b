"""What comes from an image is a stranger's: shown as it is written, and never obeyed."""

import os
from pathlib import Path

import pytest

from tests.support.archives import Made, from_1_10, write_tar
from tests.support.layers import file, folder, symlink, tar
from tests.support.pilot import Person, explore
from tests.tui.test_pager import decoy

NAMES = (
    "[red]x[b]",
    "[@click=app.quit]q",
    "{size} {0}",
    "\x1b[2J\x1b]0;owned\x07",
    "line\nbreak",
    "\u202egnp.exe",
    "not-utf8-\udcff\udcfe",
    "wide-\u6f22\u5b57",
    "-R",
    "n" * 250,
)
COMMAND = "RUN [bold]\x1b[31m {x} \u202e[/bold] [/nonsense] \n two lines"


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    items = [item for name in NAMES for item in (file(f"d/{name}", b"body\n"),)]
    attribute = {"SCHILY.xattr.user.[blink]": "[/]\x1b[0m"}
    layer = tar(
        folder("d"),
        *items,
        file("d/marked", b"\x1b[31mred", pax=attribute),
        symlink("d/link", "[b]\x1b[1m"),
    )
    made = Made(
        (layer, tar(folder("d"), file("d/marked", b"2"))),
        {
            "history": [{"created_by": COMMAND, "author": "[i]me[/i]\x1b", "comment": "\x07[/]"}]
            * 2,
            "config": {"Entrypoint": ["[red]\x1b[31m"]},
            "created": "[u]\x1b[4m",
        },
    )
    return write_tar(tmp_path / "[red]image[b].tar", from_1_10([(made, ["app:1"])]))


def check(person: Person) -> str:
    """What is drawn, of which a terminal obeys nothing."""
    lines = person.screen()
    assert all(line.isprintable() for line in lines), [x for x in lines if not x.isprintable()]
    return "\n".join(lines)


def test_names_and_commands_are_shown_as_they_are_written(hostile: Path, tmp_path: Path) -> None:
    decoy(tmp_path, "less")
    environ = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    environ.pop("PAGER", None)

    async def look(person: Person) -> None:
        text = check(person)
        assert "[red]image[b].tar" in text
        assert "RUN [bold]\\x1b[31m {x} \\u202e[/bold] [/nonsense] two lines" in text
        await person.press("tab", "plus")
        text = check(person)
        for name in ("[red]x[b]", "[@click=app.quit]q", "{size} {0}", "\\x1b[2J\\x1b]0;owned"):
            assert name in text
        for name in ("line\\x0abreak", "\\u202egnp.exe", "not-utf8-\\xff\\xfe", "→ [b]\\x1b[1m"):
            assert name in text
        assert person.app.outline is not None
        for _ in range(len(person.app.outline.rows)):
            await person.press("down")
            check(person)
        for keys in (("i",), ("I",), ("f",), ("e",)):
            await person.press(*keys)
            check(person)
            await person.press("escape")

        # What is asked about one of them, and what is said of it.
        await person.press("slash")
        await person.paste("[red]x[b]")
        assert person.selected == "/d/[red]x[b]"
        assert person.state == "search: [red]x[b]"
        await person.press("enter")
        check(person)
        await person.press("enter")
        assert (tmp_path / "seen").read_bytes() == b"body\n"
        await person.press("e")
        assert "extract /d/[red]x[b] to:" in check(person)
        await person.press("ctrl+u")
        await person.paste(f"{tmp_path}/[green]out")
        await person.press("enter")
        assert f"extracted /d/[red]x[b] to {tmp_path}/[green]out: 1 file" in person.bar
        check(person)

        await person.press("escape", "slash")
        await person.paste("marked")
        await person.press("enter", "l", "l")
        assert "user.[blink]=[/]\\x1b[0m" in check(person)
        await person.press("i")
        assert "user.[blink]=[/]\\x1b[0m" in person.page

    assert explore(hostile, look, size=(140, 40), environ=environ) is None
    assert (tmp_path / "[green]out").read_bytes() == b"body\n"


def test_clicking_on_a_name_that_looks_like_a_link_does_nothing(hostile: Path) -> None:
    async def look(person: Person) -> None:
        await person.press("tab", "plus")
        rows = person.app.outline.rows if person.app.outline else []
        at = next(n for n, row in enumerate(rows) if row.node.name.startswith(b"[@click"))
        tree = person.app.file_tree
        line = tree.draw(at, tree.size.width).plain
        await person.pilot.click("#tree", offset=(line.index("click="), at))
        await person.settle()
        assert person.app.is_running
        assert person.selected == "/d/[@click=app.quit]q"

    assert explore(hostile, look) is None


def test_only_what_is_seen_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory with many files; drawing is counted, since no clock is to be trusted."""
    many = tar(folder("d"), *(file(f"d/{number:05}", b"") for number in range(20_000)))
    image = write_tar(tmp_path / "image.tar", from_1_10([(Made((many,)), ["app:1"])]))

    async def look(person: Person) -> None:
        drawn: list[int] = []
        tree = person.app.file_tree
        draw = tree.draw

        def counted(number: int, width: int) -> object:
            drawn.append(number)
            return draw(number, width)

        monkeypatch.setattr(tree, "draw", counted)
        await person.press("tab", "plus", "end")
        assert person.selected == "/d/19999"
        assert len(person.shown()) == 20_002
        assert len(drawn) < 10 * tree.size.height
        assert len(person.app.query("*")) < 40

    assert explore(image, look) is None
