"""``pyoverlay save``."""

from contextlib import ExitStack
from pathlib import Path

import click

from overlayfs.cli import suggestions
from overlayfs.cli.options import root_option
from overlayfs.errors import OverlayError
from overlayfs.image.platform import Platform
from overlayfs.store.store import Store

# Of archive.location, which takes longer to import than a command to say what it can do.
FORMATS = ("docker-archive", "oci-archive", "oci", "dir")
COMPRESSIONS = ("gzip", "zstd", "none")


@click.command(
    name="save",
    epilog="IMAGE is an image of the store, by name or id, or one in a file or directory, which "
    "is converted then and not stored. Without --output the archive goes to stdout.\n\n"
    "Layers and manifest are written as they are, so that digests stay, unless --compression "
    "asks for others.\n\n"
    "Examples:\n\n\b\n"
    "  pyoverlay save -o image.tar busybox\n"
    "  pyoverlay save busybox alpine | ssh host pyoverlay load\n"
    "  pyoverlay save --format oci -o layout busybox:latest\n"
    "  pyoverlay save --format oci-archive --compression zstd -o image.tar 3a0b\n"
    "  pyoverlay save --format dir -o folder docker-archive.tar\n",
)
@click.argument(
    "images", metavar="IMAGE...", nargs=-1, required=True, shell_complete=suggestions.images
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, allow_dash=True),
    metavar="FILE",
    help="Write to FILE, or the directory of that name for oci and dir.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    default="docker-archive",
    show_default=True,
    help="docker-archive is an OCI layout too; oci adds to a layout that is there.",
)
@click.option(
    "--compression", type=click.Choice(COMPRESSIONS), help="Pack layers so [default: as they are]."
)
@click.option("--level", type=int, metavar="N", help="How hard, 1-9 for gzip and 1-22 for zstd.")
@click.option(
    "-a", "--all-names", is_flag=True, help="Save images under all their names, not just these."
)
@click.option(
    "--platform", metavar="OS/ARCH", help="Which of a file's platforms [default: this machine's]."
)
@root_option
def command(
    images: tuple[str, ...],
    output: Path | None,
    form: str,
    compression: str | None,
    level: int | None,
    all_names: bool,
    platform: str | None,
    root: Path | None,
) -> None:
    """Save each IMAGE to an archive or a directory."""
    if level is not None and compression is None:
        raise click.UsageError("--level goes with --compression.")
    is_archive = form.endswith("-archive")
    if not is_archive and (output is None or output == Path("-")):
        raise click.UsageError(f"--format {form} writes a directory: name it with -o.")
    # What reads and writes archives takes longer to import than a command to say no.
    from overlayfs.archive.compression import Compression
    from overlayfs.archive.location import Transport
    from overlayfs.archive.writing.formats import write_archive, write_directory, write_layout
    from overlayfs.archive.writing.images import Options
    from overlayfs.archive.writing.packing import Packing
    from overlayfs.cli.destinations import destination, tidy_when_terminated
    from overlayfs.cli.outgoing import outgoing
    from overlayfs.cli.progress import drawn

    tidy_when_terminated()
    packing = Packing.of(Compression(compression), level) if compression else None
    wanted = Platform.parse(platform) if platform is not None else None
    store = Store.open(root)
    if output is not None and output.resolve() == store.root.resolve():
        raise OverlayError(
            f"{output}: is the store itself", hint="`pyoverlay load` takes an image into it"
        )
    chosen = outgoing(store, images, wanted, all_names=all_names)
    with ExitStack() as stack:
        # First, since it may be a terminal, and finding images may take a while.
        out = stack.enter_context(destination(output)) if is_archive else None
        found = stack.enter_context(chosen)
        shown = stack.enter_context(drawn(", ".join(image.label for image in found)))
        # How much there will be is known only as long as nothing is packed anew.
        sizes = {layer.diff_id: layer.size for image in found for layer in image.source.layers}
        shown.begin(None if packing else sum(sizes.values()))
        options = Options(packing, store.scratch, advance=shown.advance)
        if out is not None:
            write_archive(out, found, Transport(form), options)
        elif output is not None:
            write = write_layout if form == Transport.OCI else write_directory
            write(output, found, options)
