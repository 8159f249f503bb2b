"""``pyoverlay export``: the files of an image or of a mount, as a tar."""

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from overlayfs import mounting
from overlayfs.cli import suggestions
from overlayfs.cli.options import root_option
from overlayfs.cli.output import note
from overlayfs.image.platform import Platform
from overlayfs.printable import printable
from overlayfs.store.paths import default_root

if TYPE_CHECKING:
    from collections.abc import Iterator

    from overlayfs.view.image import ImageView


@click.command(
    name="export",
    epilog="The tar has owners, times in nanoseconds, extended attributes, hard links and devices; "
    "the same tree makes the same tar. Of a mount it has what was changed there, too.\n\n"
    "Examples:\n\n\b\n"
    "  pyoverlay export -o rootfs.tar busybox\n"
    "  pyoverlay export image.tar | tar -t\n"
    "  pyoverlay export --compression zstd -o changed.tar.zst /mnt/root\n"
    "  pyoverlay export /mnt/root | pyoverlay import - flat\n",
)
@click.argument("image", metavar="IMAGE|MOUNTPOINT", shell_complete=suggestions.images)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, allow_dash=True),
    metavar="FILE",
    help="Write to FILE [default: stdout].",
)
@click.option(
    "--compression",
    type=click.Choice(["gzip", "zstd", "none"]),
    default="none",
    show_default=True,
    help="Pack the tar so.",
)
@click.option("--level", type=int, metavar="N", help="How hard, 1-9 for gzip and 1-22 for zstd.")
@click.option(
    "--platform", metavar="OS/ARCH", help="Which of a file's platforms [default: this machine's]."
)
@root_option
def command(
    image: str,
    output: Path | None,
    compression: str,
    level: int | None,
    platform: str | None,
    root: Path | None,
) -> None:
    """Write the merged tree of IMAGE, or of what is mounted at MOUNTPOINT, as a tar."""
    # What reads layers and writes tars takes longer to import than a command to say no.
    from overlayfs.archive.compression import Compression
    from overlayfs.archive.writing.packing import Packing
    from overlayfs.archive.writing.sinks import Packed
    from overlayfs.archive.writing.tar import TarWriter
    from overlayfs.cli.destinations import destination, tidy_when_terminated
    from overlayfs.view.export import write_view

    packing = Packing.of(Compression(compression), level)
    wanted = Platform.parse(platform) if platform is not None else None
    tidy_when_terminated()
    with destination(output) as out, _viewed(root, image, wanted) as view:
        packed = Packed(out, packing)
        writer = TarWriter(packed)
        left_out = write_view(view, writer)
        writer.end()
        packed.end()
    for path in left_out:
        note(f"{image}: /{printable(path)} is left out: a socket, which no tar can hold")


@contextmanager
def _viewed(root: Path | None, image: str, platform: Platform | None) -> "Iterator[ImageView]":
    """The files of *image*, which may be a mount point."""
    from overlayfs.cli.sources import viewed
    from overlayfs.view.opening import of_mount

    record = mounting.mounted_at(root or default_root(), Path(image))
    if record is None:
        with viewed(root, image, platform) as view:
            yield view
    else:
        with of_mount(record) as view:
            yield view
