"""Lists for people and for programs, on stdout."""

import json
import os
from collections.abc import Iterable, Sequence
from typing import Any

import click

from overlayfs.printable import printable


def print_json(value: Any) -> None:
    """*value* as JSON, in ASCII; a byte of a name that is not UTF-8 is a lone ``\\udcXX``."""
    click.echo(json.dumps(value, indent=2))


def print_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Columns as wide as what stands in them; every cell is made fit for a terminal."""
    lines = [tuple(head), *(tuple(printable(cell) for cell in row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        click.echo("  ".join(cells).rstrip())


def print_line(text: str) -> None:
    """One line made fit for a terminal."""
    click.echo(printable(text))


def path_text(path: bytes) -> str:
    """*path*, relative to the root of an image, for ``print_line`` and ``print_json``."""
    return "/" + os.fsdecode(path)


def note(text: str) -> None:
    """One line on stderr: what a person may want to know and a script does not."""
    click.echo(f"pyoverlay: {printable(text)}", err=True)


def size(count: float) -> str:
    """*count* bytes in three digits: ``1.98 MB``."""
    units = ["B", "kB", "MB", "GB", "TB"]
    while count >= 999.5 and len(units) > 1:
        count /= 1000
        del units[0]
    return (
        f"{count:.0f} {units[0]}" if count >= 100 or units[0] == "B" else f"{count:.3g} {units[0]}"
    )
