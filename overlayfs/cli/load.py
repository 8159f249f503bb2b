"""``pyoverlay load``: all images of an archive into the store."""

import os
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import click

from overlayfs.cli.options import json_option, root_option
from overlayfs.cli.output import print_json, print_line
from overlayfs.errors import InvalidImage
from overlayfs.image.platform import Platform
from overlayfs.store.store import Store, StoredImage

_STDIN = "-"


@click.command(
    name="load",
    epilog="FILE is what `pyoverlay mount` takes: an archive or directory of any layout and "
    "compression, `-` or nothing for standard input. Of several images in it all are taken, "
    "under their names, unless :NAME[:TAG] or @INDEX chooses one.\n\n"
    "Examples:\n\n\b\n"
    "  pyoverlay load images.tar\n"
    "  pyoverlay load images.tar:busybox:latest\n"
    "  docker save busybox alpine | pyoverlay load\n",
)
@click.argument("file", required=False, type=click.Path(allow_dash=True), metavar="[FILE]")
@click.option("-i", "--input", "input_", metavar="FILE", help="The same as FILE, as docker has it.")
@click.option(
    "--platform", metavar="OS/ARCH", help="Which of an image's platforms [default: this machine's]."
)
@click.option("-q", "--quiet", is_flag=True, help="Show no progress.")
@json_option
@root_option
def command(
    file: str | None,
    input_: str | None,
    platform: str | None,
    quiet: bool,
    as_json: bool,
    root: Path | None,
) -> None:
    """Put all images of FILE into the store."""
    if file is not None and input_ is not None:
        raise click.UsageError("FILE is named twice, with -i and without.")
    source = file or input_ or _STDIN
    if source == _STDIN and os.isatty(0):
        raise click.UsageError("Name a FILE: standard input is a terminal.")
    wanted = None if platform is None else Platform.parse(platform)
    loaded = []
    for image, names in _loaded(Store.open(root), source, wanted, quiet=quiet):
        loaded.append({"id": str(image.id), "names": list(names)})
        if as_json:
            continue
        for name in names:
            print_line(f"Loaded image: {name}")
        if not names:
            print_line(f"Loaded image ID: {image.id}")
        sys.stdout.flush()
    if as_json:
        print_json(loaded)


def _loaded(
    store: Store, source: str, platform: Platform | None, *, quiet: bool
) -> Iterator[tuple[StoredImage, tuple[str, ...]]]:
    """Each image once it is in the store, with the names that the archive gives it."""
    from overlayfs.archive.detect import opened_images
    from overlayfs.cli import progress

    what = "standard input" if source == _STDIN else source
    spec = 0 if source == _STDIN else source
    with opened_images(spec, platform=platform, scratch=store.scratch) as images:
        for image in images:
            called = ", ".join(image.names) or what
            with nullcontext() if quiet else progress.shown(called) as shown:
                try:
                    stored = store.add(image, progress=shown)
                except InvalidImage as exc:
                    # The store knows layers, but not the file that they come from.
                    raise InvalidImage(f"{what}: {exc.message}", hint=exc.hint) from exc
            yield stored, image.names
