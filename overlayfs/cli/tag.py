"""``pyoverlay tag``: more names for an image."""

from pathlib import Path

import click

from overlayfs.cli import suggestions
from overlayfs.cli.options import root_option
from overlayfs.store.store import Store


@click.command(
    name="tag",
    epilog="A name that another image has moves; that image stays, without a name if it had no "
    "other.\n\n"
    "Examples:\n\n\b\n"
    "  pyoverlay tag busybox busybox:mine\n"
    "  pyoverlay tag 3f57d9 localhost/app localhost/app:2\n",
)
@click.argument("image", shell_complete=suggestions.images)
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@root_option
def command(image: str, names: tuple[str, ...], root: Path | None) -> None:
    """Give IMAGE, a name or an id, each NAME besides those that it has."""
    Store.open(root).tag(image, names)
