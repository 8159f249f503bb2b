"""``pyoverlay cp``."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from overlayfs.cli import suggestions
from overlayfs.cli.inside import HELP, asking, platform_of
from overlayfs.cli.options import platform_option, root_option, verify_option
from overlayfs.cli.outof import extracted
from overlayfs.cli.output import note
from overlayfs.cli.sources import image_path, viewed
from overlayfs.errors import OverlayError
from overlayfs.printable import printable

if TYPE_CHECKING:
    from overlayfs.view.image import ImageView


@click.command(
    name="cp",
    epilog=f"{HELP}\n\n"
    "If DEST is a directory, the copy lies in it, else it is called DEST. With - for DEST a tar "
    "goes to stdout. Mode and time are kept, with --archive owners, devices and all extended "
    "attributes as well. Symbolic links to it are followed unless with -r or -P.\n\n"
    "Examples:\n\n\b\n"
    "  pyoverlay cp image.tar:/etc/passwd .\n"
    "  pyoverlay cp -r busybox:/etc etc-of-busybox\n"
    "  pyoverlay cp -r busybox:/etc - | tar -tv\n",
)
@click.argument(
    "words", metavar="IMAGE:PATH DEST", nargs=-1, required=True, shell_complete=suggestions.images
)
@click.option("-r", "-R", "--recursive", is_flag=True, help="Copy directories, with all in them.")
@click.option("-P", "--no-dereference", is_flag=True, help="Copy a symbolic link as such.")
@click.option("-a", "--archive", is_flag=True, help="Keep everything; means -r. For root.")
@verify_option
@platform_option
@root_option
def command(
    words: tuple[str, ...],
    recursive: bool,
    no_dereference: bool,
    archive: bool,
    verify: bool,
    platform: str | None,
    root: Path | None,
) -> None:
    """Copy a file or directory of an image to this machine."""
    image, path, dest = _arguments(words)
    recursive = recursive or archive
    with viewed(root, image, platform_of(platform)) as view, asking(view, image, path):
        if verify:
            view.verify()
        top = view.resolve(path, follow=not (recursive or no_dereference))
        entry = view.stat(top, follow=False)
        if entry.is_dir and not recursive:
            raise OverlayError(
                f"{image}:/{printable(top)}: is a directory", hint="-r copies directories"
            )
        # What a path like /etc/.. is called, its own last name says.
        name = top.rpartition(b"/")[2]
        if dest == "-":
            _to_stdout(view, top, name)
            return
        from overlayfs.view.extraction import Kept

        folder, called = _place(Path(dest), name, is_dir=entry.is_dir)
        extracted(view, top, folder, called, Kept(owner=archive), shown=Path(dest))


def _arguments(words: tuple[str, ...]) -> tuple[str, bytes, str]:
    *place, dest = words
    if len(place) == 1:
        image, path = image_path(place[0])
        if path is not None:
            return image, path, dest
    if len(place) == 2 and image_path(place[0])[1] is None:
        return place[0], os.fsencode(place[1]), dest
    raise click.UsageError("Say IMAGE:PATH and DEST.")


def _place(dest: Path, name: bytes, *, is_dir: bool) -> tuple[Path, bytes]:
    """The directory in which the copy is made, and its name there."""
    if dest.is_dir():
        return dest, name or b"."
    if not is_dir and str(dest).endswith("/"):
        raise OverlayError(f"{printable(str(dest))}: no such directory")
    return dest.parent, os.fsencode(dest.name)


def _to_stdout(view: "ImageView", top: bytes, name: bytes) -> None:
    if sys.stdout.isatty():
        raise OverlayError("a tar is nothing for a terminal", hint="send it to a file or a pipe")
    from overlayfs.archive.writing.tar import TarWriter
    from overlayfs.view.export import write_view

    writer = TarWriter(sys.stdout.buffer)
    left_out = write_view(view, writer, top, name=name)
    writer.end()
    sys.stdout.buffer.flush()
    if left_out:
        note(f"left out: {len(left_out)} sockets, which no tar can hold")
