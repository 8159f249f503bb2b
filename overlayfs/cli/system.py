"""``pyoverlay system``: what the store takes; and pruning, as docker spells it."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from overlayfs.cli import prune
from overlayfs.cli.options import json_option, root_option
from overlayfs.cli.output import print_json, print_line, print_table, size
from overlayfs.store.figures import Figures, ImageFigures, Kind
from overlayfs.store.store import Store


@click.group(name="system")
def command() -> None:
    """Show what takes how much of the disk, and remove what nothing uses."""


command.add_command(prune.command)


@command.command(
    name="df",
    epilog="Sizes are those on the disk. Images are made of layers and blobs, so they are not in "
    "the total. RECLAIMABLE is what `prune` removes; of images what `prune --all` does, of kept "
    "changes `prune --kept`.\n\n"
    "Examples:\n\n\b\n  pyoverlay system df\n  pyoverlay system df -v\n",
)
@click.option("-v", "--verbose", is_flag=True, help="Show each image.")
@json_option
@root_option
def df(verbose: bool, as_json: bool, root: Path | None) -> None:
    """Show how much of the disk the store takes, and what for."""
    found = Store.open(root).figures()
    if as_json:
        print_json(_as_dict(found))
        return
    if verbose:
        _print_images(found)
        print_line("")
    _print_kinds(found)


def _kinds(found: Figures) -> dict[str, Kind]:
    return {
        "images": found.images,
        "layers": found.layers,
        "blobs": found.blobs,
        "mounts": found.mounts,
        "kept": found.kept,
        "drafts": found.drafts,
    }


_LABELS = {
    "images": "Images",
    "layers": "Unpacked layers",
    "blobs": "Blobs",
    "mounts": "Mounts",
    "kept": "Kept changes",
    "drafts": "Drafts",
}


def _print_kinds(found: Figures) -> None:
    head = ("KIND", "COUNT", "IN USE", "SIZE", "SHARED", "UNIQUE", "RECLAIMABLE")
    rows = [
        (
            _LABELS[name],
            str(kind.count),
            str(kind.active),
            size(kind.size),
            size(kind.shared),
            size(kind.unique),
            size(kind.reclaimable),
        )
        for name, kind in _kinds(found).items()
    ]
    print_table(head, [*rows, ("Total", "", "", size(found.total), "", "", "")])


def _print_images(found: Figures) -> None:
    print_table(
        ("NAME", "ID", "SIZE", "SHARED", "UNIQUE", "MOUNTS"),
        [
            (
                ", ".join(image.names) or "-",
                image.id.short,
                size(image.size),
                size(image.shared),
                size(image.unique),
                str(image.mounts),
            )
            for image in found.each
        ],
    )


def _as_dict(found: Figures) -> dict[str, Any]:
    return {
        **{name: asdict(kind) for name, kind in _kinds(found).items()},
        "total": found.total,
        "each": [_image_as_dict(image) for image in found.each],
    }


def _image_as_dict(image: ImageFigures) -> dict[str, Any]:
    return {
        "names": list(image.names),
        "id": str(image.id),
        "manifest": str(image.manifest),
        "size": image.size,
        "shared": image.shared,
        "unique": image.unique,
        "mounts": image.mounts,
    }
