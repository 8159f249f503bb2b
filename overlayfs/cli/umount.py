"""``pyoverlay umount``."""

from pathlib import Path

import click

from overlayfs import mounting
from overlayfs.cli import suggestions
from overlayfs.cli.options import DIRECTORY, root_option
from overlayfs.cli.output import note
from overlayfs.store.store import Store


@click.command(
    name="umount",
    epilog="Changes are kept, unless --discard is given: `pyoverlay mount --upper` takes them up "
    "again. Plain umount(8) and fusermount3 -u do as well.\n\n"
    "Examples:\n\n\b\n  pyoverlay umount /mnt/root\n  pyoverlay umount --lazy /mnt/a /mnt/b\n",
)
@click.argument(
    "mountpoints",
    metavar="MOUNTPOINT...",
    nargs=-1,
    required=True,
    type=DIRECTORY,
    shell_complete=suggestions.mountpoints,
)
@click.option(
    "-l", "--lazy", is_flag=True, help="Take it away now, clean up when nobody uses it any more."
)
@click.option(
    "--discard", is_flag=True, help="Remove the changes too, unless --upper named a place."
)
@root_option
def command(mountpoints: tuple[Path, ...], lazy: bool, discard: bool, root: Path | None) -> None:
    """Unmount what is mounted at each MOUNTPOINT, also where its daemon has died."""
    store = Store.open(root)
    for mountpoint in mountpoints:
        kept = mounting.unmount(store, mountpoint, lazy=lazy, discard=discard)
        if kept is not None:
            note(f"{mountpoint}: its changes are kept in {kept}")
