"""Sizes, tables and progress as text."""

import pytest

from overlayfs.cli.output import print_table, size
from overlayfs.cli.progress import Lines


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1 kB"),
        (1_982_256, "1.98 MB"),
        (999_600, "1 MB"),
        (648_879_627, "649 MB"),
        (12_345_678_901, "12.3 GB"),
        (10**15, "1000 TB"),
    ],
)
def test_sizes_have_three_digits(count: int, text: str) -> None:
    assert size(count) == text


def test_a_table_is_aligned_and_safe(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("NAME", "ID"), [("a\x1b[31mb", "1"), ("c", "22")])
    assert capsys.readouterr().out.splitlines() == [
        "NAME".ljust(10) + "  ID",
        r"a\x1b[31mb  1",
        "c".ljust(10) + "  22",
    ]


def test_lines_begin_once_and_do_not_flood(capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines("image.tar")
    assert capsys.readouterr().err == ""
    lines.begin(1_000_000)
    for _ in range(1000):
        lines.advance(1000)
    assert capsys.readouterr().err == "pyoverlay: unpacking image.tar (1 MB)\n"
