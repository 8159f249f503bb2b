"""``pyoverlay extract``."""

import os
from pathlib import Path

import click

from overlayfs.cli import suggestions
from overlayfs.cli.inside import HELP, asking, platform_of
from overlayfs.cli.options import platform_option, root_option, verify_option
from overlayfs.cli.outof import extracted
from overlayfs.cli.sources import image_path, viewed
from overlayfs.errors import OverlayError
from overlayfs.printable import printable


@click.command(
    name="extract",
    epilog=f"{HELP}\n\n"
    "DEST becomes the directory, with its mode, and must be new or empty, unless --merge adds to "
    "it: files are replaced then, and no symbolic link in it is followed.\n\n"
    "For root owners, devices and extended attributes are those of the image, unless --no-owner "
    "is given. Other users get the files as their own, without devices, suid bits and attributes "
    "that are root's to give; a note says how many.\n\n"
    "Examples:\n\n\b\n"
    "  pyoverlay extract image.tar rootfs\n"
    "  pyoverlay extract --no-owner busybox:/etc etc\n",
)
@click.argument(
    "words", metavar="IMAGE[:PATH] DEST", nargs=-1, required=True, shell_complete=suggestions.images
)
@click.option("--merge", is_flag=True, help="Add to what is in DEST.")
@click.option(
    "--owner/--no-owner",
    default=None,
    help="Keep owners, and what goes with them [default: for root, yes].",
)
@verify_option
@platform_option
@root_option
def command(
    words: tuple[str, ...],
    merge: bool,
    owner: bool | None,
    verify: bool,
    platform: str | None,
    root: Path | None,
) -> None:
    """Unpack an image, or a directory of it, into the directory DEST."""
    if not 2 <= len(words) <= 3:
        raise click.UsageError("Say IMAGE[:PATH] and DEST.")
    image, path = image_path(words[0])
    if len(words) == 3:
        if path is not None:
            raise click.UsageError("Say IMAGE[:PATH] and DEST.")
        path = os.fsencode(words[1])
    dest = Path(words[-1])
    path = path or b"/"
    with viewed(root, image, platform_of(platform)) as view, asking(view, image, path):
        if verify:
            view.verify()
        top = view.resolve(path)
        if not view.stat(top).is_dir:
            raise OverlayError(
                f"{image}:/{printable(top)}: not a directory", hint="`pyoverlay cp` copies files"
            )
        from overlayfs.view.extraction import Kept

        _prepare(dest, merge=merge)
        keep = os.geteuid() == 0 if owner is None else owner
        extracted(view, top, dest, b".", Kept(owner=keep), shown=dest)


def _prepare(dest: Path, *, merge: bool) -> None:
    try:
        dest.mkdir(mode=0o700, exist_ok=True)
        if not merge and any(dest.iterdir()):
            raise OverlayError(
                f"{printable(str(dest))}: not empty", hint="choose another one, or say --merge"
            )
    except OSError as exc:
        raise OverlayError(f"{printable(str(dest))}: {exc.strerror}") from exc
