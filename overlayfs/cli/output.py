"""Lists for people and for programs, on stdout."""

import json
import os
from collections.abc import Iterable, Sequence
from typing import Any

import click

from overlayfs.printable import printable
from overlayfs.sizes import size

__all__ = ["note", "print_json", "print_line", "print_table", "size"]


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
