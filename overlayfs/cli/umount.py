"""``pyoverlay umount``."""

from pathlib import Path

import click

from overlayfs import mounting
from overlayfs.cli.options import DIRECTORY, root_option
from overlayfs.store.store import Store


@click.command(
    name="umount",
    epilog="The upper layer stays where it is; plain umount(8) and fusermount3 -u do as well.\n\n"
    "Examples:\n\n\b\n  pyoverlay umount /mnt/root\n  pyoverlay umount --lazy /mnt/a /mnt/b\n",
)
@click.argument("mountpoints", metavar="MOUNTPOINT...", nargs=-1, required=True, type=DIRECTORY)
@click.option(
    "-l", "--lazy", is_flag=True, help="Take it away now, clean up when nobody uses it any more."
)
@root_option
def command(mountpoints: tuple[Path, ...], lazy: bool, root: Path | None) -> None:
    """Unmount what is mounted at each MOUNTPOINT, also where its daemon has died."""
    store = Store.open(root)
    for mountpoint in mountpoints:
        mounting.unmount(store, mountpoint, lazy=lazy)
