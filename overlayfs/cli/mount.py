"""``pyoverlay mount``."""

import sys
from pathlib import Path

import click

from overlayfs import mounting
from overlayfs.cli import suggestions
from overlayfs.cli.mountoptions import parse_for_image
from overlayfs.cli.options import DIRECTORY, json_option, root_option
from overlayfs.cli.output import print_json, print_line
from overlayfs.cli.ps import as_dict
from overlayfs.cli.sources import find_image
from overlayfs.image.platform import Platform
from overlayfs.mounting import MountOptions, MountRecord
from overlayfs.store.store import Store, StoredImage


@click.command(
    name="mount",
    epilog="SOURCE is a file or directory: what `docker save`, `podman save`, skopeo or umoci "
    "have written, of any layout and compression. Of several images in it one is chosen by "
    ":NAME[:TAG] or @INDEX. Or SOURCE is an image of the store, by name or id.\n\n"
    "Changes go to a new directory in the store, or to --upper.\n\n"
    "Examples:\n\n\b\n"
    "  pyoverlay mount image.tar /mnt/root\n"
    "  pyoverlay mount --read-only images.tar:busybox:latest /mnt/root\n"
    "  pyoverlay mount --layer 2 --read-only busybox /mnt/root\n"
    "  pyoverlay mount --upper changes image.tar@1 /mnt/root\n"
    "  pyoverlay mount --platform linux/arm64 oci-layout /mnt/root\n"
    "  pyoverlay mount busybox /mnt/root\n",
)
@click.argument("source", shell_complete=suggestions.images)
@click.argument("mountpoint", type=DIRECTORY)
@click.option("-r", "--read-only", is_flag=True, help="Allow no changes.")
@click.option(
    "--layer",
    type=int,
    metavar="N",
    help="Mount the image as it was after its layer N; the base is 1.",
)
@click.option("--upper", type=DIRECTORY, metavar="DIR", help="Keep changes in DIR.")
@click.option(
    "--work",
    type=DIRECTORY,
    metavar="DIR",
    help="An empty directory on the file system of --upper [default: DIR.work beside it].",
)
@click.option(
    "--platform",
    metavar="OS/ARCH",
    help="Which of an image's platforms [default: this machine's].",
)
@click.option(
    "--allow-other/--no-allow-other",
    default=None,
    help="Let other users in [default: for root, yes].",
)
@click.option(
    "-o",
    "options",
    multiple=True,
    metavar="OPTIONS",
    help="More options, with commas between them: nosuid, nodev, redirect_dir=on, metacopy=on, "
    "squash_to_root and others that `pyoverlayfs -h` lists.",
)
@click.option(
    "--busy-poll",
    metavar="auto|off|MICROSECONDS",
    help="How long to poll for the next request before sleeping [default: auto].",
)
@click.option(
    "--event-loop",
    type=click.Choice(["fast", "plain"]),
    help="How to wait for requests; plain is pyfuse3's own way [default: fast].",
)
@click.option("-f", "--foreground", is_flag=True, help="Stay, and log to stderr.")
@json_option
@root_option
def command(
    source: str,
    mountpoint: Path,
    read_only: bool,
    layer: int | None,
    upper: Path | None,
    work: Path | None,
    platform: str | None,
    allow_other: bool | None,
    options: tuple[str, ...],
    busy_poll: str | None,
    event_loop: str | None,
    foreground: bool,
    as_json: bool,
    root: Path | None,
) -> None:
    """Mount the image SOURCE at the directory MOUNTPOINT."""
    if read_only and upper is not None:
        raise click.UsageError("--read-only and --upper exclude each other.")
    if work is not None and upper is None:
        raise click.UsageError("--work goes with --upper.")
    words = list(options)
    if busy_poll is not None:
        words.append("busy_poll=" + busy_poll.replace(",", "\\,"))
    if event_loop is not None:
        words.append(f"event_loop={event_loop}")
    more = parse_for_image(words)
    wanted = None if platform is None else Platform.parse(platform)
    mounting.check_mountpoint(mountpoint)
    store = Store.open(root)
    image = find_image(store, source, wanted)
    chosen = MountOptions(
        read_only=read_only,
        upper=upper,
        work=work,
        layer=layer,
        allow_other=more.allow_other if allow_other is None else allow_other,
        policy=more.policy,
        presentation=more.presentation,
        extra=more.to_kernel,
        waiting=more.waiting,
    )

    def ready(record: MountRecord) -> None:
        if as_json:
            print_json(as_dict(record))
        else:
            print_line(_line(image, record))
        # With --foreground the next output may be hours away.
        sys.stdout.flush()

    mounting.mount(store, image, mountpoint, chosen, foreground=foreground, ready=ready)


def _line(image: StoredImage, record: MountRecord) -> str:
    count = len(image.layers)
    shown = f"{count} layer{'' if count == 1 else 's'}"
    if record.layer is not None:
        shown = f"layer {record.layer} of {count}"
    changes = f"changes go to {record.upper}" if record.upper else "read-only"
    return f"{record.mountpoint}: {record.image} ({image.id.hex[:12]}, {shown}), {changes}"
