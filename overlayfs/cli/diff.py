"""``pyoverlay diff``: what was changed in a mount."""

import os
from pathlib import Path

import click

from overlayfs import mounting
from overlayfs.cli import suggestions
from overlayfs.cli.options import DIRECTORY, json_option, root_option
from overlayfs.cli.output import print_json, print_line
from overlayfs.store.store import Store

LETTERS = {"added": "A", "modified": "C", "deleted": "D"}


@click.command(
    name="diff",
    epilog="A: added, C: changed, D: deleted.\n\n"
    "Examples:\n\n\b\n  pyoverlay diff /mnt/root\n"
    "  pyoverlay diff --json /mnt/root | jq -r '.[] | select(.kind == \"added\").path'\n",
)
@click.argument("mountpoint", type=DIRECTORY, shell_complete=suggestions.mountpoints)
@json_option
@root_option
def command(mountpoint: Path, as_json: bool, root: Path | None) -> None:
    """List what was added, changed and deleted at MOUNTPOINT since it was mounted."""
    changes = mounting.changes(Store.open(root), mountpoint)
    if as_json:
        print_json(
            [
                {"kind": str(change.kind), "path": "/" + os.fsdecode(change.path)}
                for change in changes
            ]
        )
        return
    for change in changes:
        print_line(f"{LETTERS[change.kind]} /{os.fsdecode(change.path)}")
