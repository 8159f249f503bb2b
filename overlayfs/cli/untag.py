"""``pyoverlay untag``: names away, images stay."""

from pathlib import Path

import click

from overlayfs.cli import suggestions
from overlayfs.cli.options import root_option
from overlayfs.cli.output import print_line
from overlayfs.store.store import Store


@click.command(
    name="untag",
    epilog="Examples:\n\n\b\n  pyoverlay untag busybox:mine\n",
)
@click.argument(
    "names", nargs=-1, required=True, metavar="NAME...", shell_complete=suggestions.images
)
@root_option
def command(names: tuple[str, ...], root: Path | None) -> None:
    """Take each NAME from its image, which stays, also when that was its last name."""
    for name in Store.open(root).untag(names):
        print_line(f"Untagged: {name}")
