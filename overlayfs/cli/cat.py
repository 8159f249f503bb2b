"""``pyoverlay cat``."""

import shutil
import sys
from pathlib import Path

import click

from overlayfs.cli import suggestions
from overlayfs.cli.inside import HELP, asking, platform_of
from overlayfs.cli.options import platform_option, root_option, verify_option
from overlayfs.cli.sources import image_paths, viewed

_PIECE = 1 << 20


@click.command(
    name="cat",
    epilog=f"{HELP} Symbolic links are followed inside the image.\n\n"
    "Examples:\n\n\b\n"
    "  pyoverlay cat image.tar:/etc/passwd\n"
    "  pyoverlay cat busybox /etc/passwd /etc/group\n",
)
@click.argument(
    "places", metavar="IMAGE:PATH...", nargs=-1, required=True, shell_complete=suggestions.images
)
@verify_option
@platform_option
@root_option
def command(places: tuple[str, ...], verify: bool, platform: str | None, root: Path | None) -> None:
    """Print files of an image."""
    for image, path in image_paths(places):
        with viewed(root, image, platform_of(platform)) as view, asking(view, image, path):
            if verify:
                view.verify()
            with view.open(path) as body:
                shutil.copyfileobj(body, sys.stdout.buffer, _PIECE)
    sys.stdout.buffer.flush()
