"""``pyoverlay rmi``: images out of the store."""

from pathlib import Path

import click

from overlayfs.cli import suggestions
from overlayfs.cli.options import json_option, root_option
from overlayfs.cli.output import note, print_json, print_line
from overlayfs.cli.removed import as_dict, left, lines
from overlayfs.errors import OverlayError
from overlayfs.store.store import Store


@click.command(
    name="rmi",
    epilog="A name that is not an image's only one is taken away, and the image stays. What "
    "other images and mounts need stays as well: with --force the layers of a mount do until it "
    "is unmounted and the store is pruned.\n\n"
    "Examples:\n\n\b\n  pyoverlay rmi busybox\n  pyoverlay rmi --force 3f57d9\n",
)
@click.argument(
    "images", nargs=-1, required=True, metavar="IMAGE...", shell_complete=suggestions.images
)
@click.option("-f", "--force", is_flag=True, help="Also if it has several names, or is mounted.")
@json_option
@root_option
def command(images: tuple[str, ...], force: bool, as_json: bool, root: Path | None) -> None:
    """Remove each IMAGE, a name or an id."""
    store = Store.open(root)
    failed: list[OverlayError] = []
    gone = []
    for image in images:
        try:
            removed = store.remove(image, force=force)
        except OverlayError as exc:
            failed.append(exc)  # told at the end, once the others are gone
            continue
        gone.append(as_dict(removed))
        for line in lines(removed) if not as_json else ():
            print_line(line)
        if removed.kept_back:
            note(left(removed.kept_back))
    if as_json:
        print_json(gone)
    if len(failed) == 1:
        raise failed[0]
    if failed:
        raise OverlayError("\n".join(error.message for error in failed), hint=failed[0].hint)
