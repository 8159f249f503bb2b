"""``pyoverlay verify``: what is damaged, and repairing it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from overlayfs.cli import suggestions
from overlayfs.cli.options import json_option, root_option
from overlayfs.cli.output import note, print_json, print_line
from overlayfs.image.digest import Digest
from overlayfs.store.checking import Damage
from overlayfs.store.store import Store

# A manifest leads to a configuration, both to blobs, and these to unpacked layers.
_ROUNDS = 4


@click.command(
    name="verify",
    epilog="The exit code is 1 when there is damage that was not repaired.\n\n"
    "Examples:\n\n\b\n"
    "  pyoverlay verify\n"
    "  pyoverlay verify --deep busybox\n"
    "  pyoverlay verify --repair --from busybox.tar\n",
)
@click.argument("images", nargs=-1, metavar="[IMAGE...]", shell_complete=suggestions.images)
@click.option("--deep", is_flag=True, help="Unpack all layers again, and compare.")
@click.option("--repair", is_flag=True, help="Unpack damaged layers again from their blobs.")
@click.option(
    "--from",
    "files",
    multiple=True,
    metavar="FILE",
    help="With --repair, take blobs from the images of this archive or directory.",
)
@json_option
@root_option
@click.pass_context
def command(
    ctx: click.Context,
    images: tuple[str, ...],
    deep: bool,
    repair: bool,
    files: tuple[str, ...],
    as_json: bool,
    root: Path | None,
) -> None:
    """Look for damage in each IMAGE, or in all: hash the blobs, look at the unpacked layers."""
    if files and not repair:
        raise click.UsageError("--from goes with --repair.")
    store = Store.open(root)
    damage = store.verify(images, deep=deep)
    done: list[str] = []
    for _ in range(_ROUNDS):
        if not (repair and damage):
            break
        mended = [line for line in _mend(store, damage, files) if line not in done]
        if not mended:
            break
        done += mended
        damage = store.verify(images, deep=deep)
    if as_json:
        print_json({"damage": [_as_dict(one) for one in damage], "repaired": done})
    else:
        for line in done:
            print_line(line)
        for one in damage:
            print_line(f"{one.image}: {one.says}")
        if not damage:
            note("no damage")
    ctx.exit(1 if damage else 0)


def _mend(store: Store, damage: Sequence[Damage], files: Sequence[str]) -> list[str]:
    """One round: blobs from *files*, then what can be unpacked again."""
    from overlayfs.archive.detect import opened_images

    done = []
    if any(isinstance(one.thing, Digest) for one in damage):
        for file in files:
            with opened_images(file, scratch=store.scratch) as found:
                for image in found:
                    done += store.repair(damage, image)
    if not done:
        done = store.repair(damage)
    return done


def _as_dict(damage: Damage) -> dict[str, Any]:
    is_blob = isinstance(damage.thing, Digest)
    return {
        "kind": "blob" if is_blob else "layer",
        "thing": str(damage.thing),
        "why": damage.why,
        "image": damage.image,
        "manifest": str(damage.entry),
    }
