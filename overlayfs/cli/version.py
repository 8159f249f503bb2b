"""``pyoverlay version``."""

import click

from overlayfs.version import VERSION


@click.command(name="version")
def command() -> None:
    """Print the version."""
    click.echo(f"pyoverlay {VERSION}")
