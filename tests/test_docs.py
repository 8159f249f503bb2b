"""What the documentation names is there."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from overlayfs.cli import mountprogram
from overlayfs.cli.mountoptions import parse
from overlayfs.errors import OverlayError

ROOT = Path(__file__).parent.parent
SEMANTICS = ROOT / "docs/semantics.md"
DOCUMENTS = [*sorted(ROOT.glob("docs/*.md")), ROOT / "HACKING.md", ROOT / "README.md"]
EXPLAINED = ROOT / "scripts/lib/conformance-explained.txt"

TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)(?:\[[^`]*\])?`")
# A path of the repository, perhaps followed by arguments.
PATH = re.compile(r"`((?:tests|scripts|docs|overlayfs)/[\w./*-]+)[ `]")


@cache
def functions(path: Path) -> frozenset[str]:
    """The tests in *path*."""
    return frozenset(
        node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)
    )


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_test_that_is_named_exists(document: Path) -> None:
    text = document.read_text()
    named = TEST.findall(text)
    assert len(named) == text.count(".py::"), "not in the form that is looked for"
    missing = [
        f"{path}::{name}"
        for path, name in named
        if not (ROOT / path).is_file() or name not in functions(ROOT / path)
    ]
    assert missing == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_path_that_is_named_exists(document: Path) -> None:
    named = PATH.findall(document.read_text())
    assert [path for path in named if not list(ROOT.glob(path.rstrip("/")))] == []


def rows() -> Iterator[list[str]]:
    """The cells of each rule."""
    columns = 0
    for line in SEMANTICS.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if line.startswith("| # |"):
            columns = len(cells)
        elif not line.startswith("|"):
            columns = 0
        elif columns and not line.startswith("|---"):
            assert len(cells) == columns, line
            yield cells


def test_every_rule_is_shown_by_a_test_or_says_why_not() -> None:
    numbers = []
    for number, *what, shown in rows():
        assert all(what), number
        assert TEST.search(shown) or re.fullmatch(r"documented: .{10,}", shown), number
        numbers.append(number)
    assert len(numbers) > 100
    assert len(set(numbers)) == len(numbers)


def test_every_explained_test_of_a_suite_is_on_the_page() -> None:
    text = SEMANTICS.read_text()
    lines = EXPLAINED.read_text().splitlines()
    tests = [line.split()[1] for line in lines if line and not line.startswith("#")]
    assert [test for test in tests if f"`{test.rpartition('/')[2]}`" not in text] == []


def options(line: str) -> Iterator[str]:
    """The options that *line* of the help lists before it says what they do."""
    for option in line.split(", "):
        yield option.split()[0]
        if " " in option:
            return


def test_every_option_in_the_help_is_known(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["pyoverlayfs", "-h"])
    mountprogram.main()
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    listed = [line.removeprefix("-o ") for line in lines if line.startswith("-o ")]
    unknown = []
    for option in (found := [option for line in listed for option in options(line)]):
        try:
            parse([f"lowerdir=/l,upperdir=/u,workdir=/w,{option}"])
        except OverlayError as exc:
            # DIR, SECONDS and the like stand for a value.
            if "unknown option" in exc.message:
                unknown.append(option)
    assert len(found) > 30
    assert unknown == []
