"""``pyoverlay import``: a root file system becomes an image."""

import os
import sys
from datetime import UTC, datetime
from pathlib import Path

import click

from overlayfs.cli.options import root_option
from overlayfs.cli.output import note
from overlayfs.errors import OverlayError
from overlayfs.image.config import History
from overlayfs.image.platform import Platform
from overlayfs.image.reference import Reference
from overlayfs.printable import printable
from overlayfs.store.store import Store, StoredImage

# What tells a saved image from a root file system.
_OF_IMAGES = ("manifest.json", "oci-layout", "repositories")


@click.command(
    name="import",
    epilog="FILE is a tar, plain or in gzip, zstd or xz, or - for stdin; or a directory. The time "
    "of the image is now, or $SOURCE_DATE_EPOCH.\n\n"
    "--change takes CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, ONBUILD, SHELL, STOPSIGNAL, USER, VOLUME "
    "and WORKDIR, as a Dockerfile has them.\n\n"
    "Examples:\n\n\b\n"
    "  pyoverlay import rootfs.tar.zst debian:mine\n"
    "  pyoverlay import --change 'CMD [\"/bin/sh\"]' --change 'ENV LANG=C' rootfs.tar debian\n"
    "  pyoverlay export /mnt/root | pyoverlay import - changed\n"
    "  pyoverlay import ./debootstrapped debian:fresh\n",
)
@click.argument("source", metavar="FILE", type=click.Path())
@click.argument("name", required=False)
@click.option(
    "-c", "--change", "changes", multiple=True, metavar="INSTRUCTION", help="Set what it runs."
)
@click.option("-m", "--message", default="", metavar="TEXT", help="A comment for its history.")
@click.option(
    "--platform", metavar="OS/ARCH", help="What it is for [default: this machine's platform]."
)
@root_option
def command(
    source: str,
    name: str | None,
    changes: tuple[str, ...],
    message: str,
    platform: str | None,
    root: Path | None,
) -> None:
    """Make an image of the root file system in FILE, called NAME, and print its id."""
    # What reads and writes tars takes longer to import than a command to say no.
    from overlayfs.archive.rootfs import RootImage, root_tar
    from overlayfs.cli import progress
    from overlayfs.cli.destinations import tidy_when_terminated
    from overlayfs.image import changes as instructions
    from overlayfs.image import edits

    names = _names(name)
    epoch = _epoch()
    when = datetime.now(UTC) if epoch is None else datetime.fromtimestamp(epoch, UTC)
    created = when.isoformat().replace("+00:00", "Z")
    wanted = Platform.parse(platform) if platform is not None else Platform.host()
    document = edits.new(wanted, created)
    for change in changes:
        document = instructions.changed(document, change)
    if source != "-" and "://" in source and not Path(source).exists():
        raise OverlayError(
            f"{source}: nothing is fetched from a network",
            hint="fetch it first: curl -L URL | pyoverlay import -",
        )
    tidy_when_terminated()
    store = Store.open(root)
    where = _stdin() if source == "-" else Path(source)
    with root_tar(where, store.scratch, latest=epoch) as (layer, left_out):
        for path in left_out:
            note(f"{source}: {printable(path)} is left out")
        step = History(created, comment=message or f"Imported from {_base(source)}")
        document = edits.with_layer(document, layer.diff_id, step)
        image = RootImage(layer, edits.to_json(document), names)
        with progress.shown("stdin" if source == "-" else source) as shown:
            stored = store.add(image, progress=shown)
    if _is_of_images(stored):
        note(
            f"{source}: this is an archive of images, and not a root file system: "
            "`pyoverlay load` takes what is in it"
        )
    click.echo(stored.id)


def _names(name: str | None) -> tuple[str, ...]:
    if name is None:
        return ()
    reference = Reference.parse(name)
    if reference.digest is not None:
        raise OverlayError(
            f"{printable(name)}: a digest is no name to give", hint="leave out what is behind the @"
        )
    return (reference.familiar,)


def _epoch() -> int | None:
    """The time that is to count for now (reproducible-builds.org, SOURCE_DATE_EPOCH)."""
    text = os.environ.get("SOURCE_DATE_EPOCH")
    if not text:
        return None
    try:
        epoch = int(text)
        datetime.fromtimestamp(epoch, UTC)
    except (ValueError, OverflowError, OSError) as exc:
        raise OverlayError(
            f"SOURCE_DATE_EPOCH={printable(text)}: not a time in seconds since 1970"
        ) from exc
    return epoch


def _stdin() -> int:
    if sys.stdin is None or sys.stdin.isatty():
        raise OverlayError(
            "nothing to import comes from a terminal", hint="name a file, or pipe one in"
        )
    return sys.stdin.fileno()


def _base(source: str) -> str:
    """What *source* is called, without where it lies: the history goes with the image."""
    return source if source == "-" else Path(source).resolve().name


def _is_of_images(image: StoredImage) -> bool:
    return any((layer.path / name).is_file() for layer in image.layers for name in _OF_IMAGES)
