"""``pyoverlay diff``: what was changed in a mount, or differs between two images."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from overlayfs import mounting
from overlayfs.cli import suggestions
from overlayfs.cli.options import json_option, platform_option, root_option
from overlayfs.cli.output import path_text, print_json, print_line
from overlayfs.store.store import Store

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

LETTERS = {"added": "A", "modified": "C", "deleted": "D"}


def _suggested(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> "list[CompletionItem]":
    found = (suggestions.images, suggestions.mountpoints)
    return [item for each in found for item in each(ctx, param, incomplete)]


@click.command(
    name="diff",
    epilog="A: added, C: changed, D: deleted; between images behind it what differs, as it is "
    "in the first and in the second.\n\n"
    "Examples:\n\n\b\n  pyoverlay diff /mnt/root\n"
    "  pyoverlay diff --json /mnt/root | jq -r '.[] | select(.kind == \"added\").path'\n"
    "  pyoverlay diff old.tar new.tar\n"
    "  pyoverlay diff --stat debian:12.1 debian:12.2 /usr\n",
)
@click.argument(
    "words",
    nargs=-1,
    required=True,
    metavar="MOUNTPOINT | IMAGE IMAGE [PATH]",
    shell_complete=_suggested,
)
@click.option("--stat", is_flag=True, help="Between images: count by directory.")
@click.option("--times", is_flag=True, help="Between images: compare times as well.")
@click.option("--exit-code", is_flag=True, help="Exit with 1 when there is a difference.")
@platform_option
@json_option
@root_option
@click.pass_context
def command(
    ctx: click.Context,
    words: tuple[str, ...],
    stat: bool,
    times: bool,
    exit_code: bool,
    platform: str | None,
    as_json: bool,
    root: Path | None,
) -> None:
    """List what was added, changed and deleted.

    At MOUNTPOINT since it was mounted, or in the second IMAGE against the first, at PATH and
    beneath.
    """
    if len(words) > 3:
        raise click.UsageError("one mount point, or two images and a path, please.")
    if len(words) == 1 and (stat or times or platform):
        raise click.UsageError("--stat, --times and --platform are for two images.")
    if len(words) == 1:
        some = _print_changes(root, Path(words[0]), as_json)
    else:
        # What reads layers, which a mount's changes can do without.
        from overlayfs.cli.differences import told

        some = told(words, root, platform, times=times, stat=stat, as_json=as_json)
    if some and exit_code:
        ctx.exit(1)


def _print_changes(root: Path | None, mountpoint: Path, as_json: bool) -> bool:
    """Print what was changed at *mountpoint*; whether anything was."""
    some = False
    changes = mounting.changes(Store.open(root), mountpoint)
    if as_json:
        found = [{"kind": str(change.kind), "path": path_text(change.path)} for change in changes]
        print_json(found)
        return bool(found)
    for change in changes:
        some = True
        print_line(f"{LETTERS[change.kind]} {path_text(change.path)}")
    return some
