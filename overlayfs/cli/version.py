"""``pyoverlay version``, and the version itself; pyproject.toml reads it here."""

import click

VERSION = "0.1.0"


@click.command(name="version")
def command() -> None:
    """Print the version."""
    click.echo(f"pyoverlay {VERSION}")
