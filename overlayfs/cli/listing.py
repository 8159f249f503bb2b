"""Lists in the form that ``--format`` asks for, as docker's lists take it."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import click

from overlayfs.cli.output import print_table
from overlayfs.cli.templates.template import Fields, Template
from overlayfs.printable import printable


@dataclass(frozen=True, slots=True)
class Columns:
    """What a list can show: *heads* by field, of which *shown* are the table's own."""

    heads: Mapping[str, str]
    shown: Sequence[str]


def print_list(columns: Columns, rows: Iterable[Fields], form: str | None) -> None:
    """*rows* as the table, or as *form* says.

    *form* is ``table``, ``table`` and a template with tabs between its columns, a template
    for each line, or ``json`` for an object on each line.  Raises TemplateError.
    """
    if form in (None, "", "table"):
        heads = [columns.heads[name] for name in columns.shown]
        print_table(heads, ([row[name] for name in columns.shown] for row in rows))
        return
    assert form is not None
    if form == "json":
        for row in rows:
            click.echo(json.dumps(row))
        return
    template = form.replace("\\t", "\t").replace("\\n", "\n")
    if template.startswith("table "):
        parsed = Template.parse(template.removeprefix("table ").strip(" "))
        head = parsed.render(Fields(columns.heads)).split("\t")
        print_table(head, (_cells(parsed.render(row), len(head)) for row in rows))
        return
    parsed = Template.parse(template)
    for row in rows:
        print_filled(parsed.render(row))


def print_filled(text: str) -> None:
    """What a template gave, with a line break behind it; on a terminal made fit for one.

    A pipe gets the bytes as they are.  Line breaks and tabs, which a template may well have
    written, stay in both.
    """
    if sys.stdout.isatty():
        text = "".join(char if char in "\n\t" else printable(char) for char in text)
    click.echo(text.encode(errors="surrogateescape"))


def _cells(line: str, count: int) -> list[str]:
    """*count* cells; a value of a stranger may have brought tabs of its own."""
    cells = line.split("\t", count - 1)
    return cells + [""] * (count - len(cells))
