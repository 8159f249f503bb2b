"""``pyoverlay images``: what the store has."""

from pathlib import Path
from typing import Any

import click

from overlayfs.cli.options import json_option, root_option
from overlayfs.cli.output import print_json, print_table, size
from overlayfs.store.store import Store, StoredImage


@click.command(
    name="images",
    epilog="Examples:\n\n\b\n  pyoverlay images\n  pyoverlay images --json | jq -r '.[].id'\n",
)
@json_option
@root_option
def command(as_json: bool, root: Path | None) -> None:
    """List the images in the store."""
    images = Store.open(root).images()
    if as_json:
        print_json([_json(image) for image in images])
        return
    print_table(
        ("NAME", "ID", "PLATFORM", "CREATED", "LAYERS", "UNPACKED"),
        (
            (
                ", ".join(image.names) or "-",
                image.id.hex[:12],
                _platform(image),
                (image.config.created or "-")[:10],
                str(len(image.layers)),
                size(sum(layer.size for layer in image.layers)),
            )
            for image in images
        ),
    )


def _platform(image: StoredImage) -> str:
    parts = (image.config.os, image.config.architecture, image.config.variant)
    return "/".join(part for part in parts if part)


def _json(image: StoredImage) -> dict[str, Any]:
    return {
        "names": list(image.names),
        "id": str(image.id),
        "manifest": str(image.manifest.digest),
        "platform": _platform(image),
        "created": image.config.created,
        "layers": [
            {
                "diff_id": str(layer.diff_id),
                "blob": str(layer.blob.digest),
                "path": str(layer.path),
                "size": layer.size,
                "entries": layer.entries,
            }
            for layer in image.layers
        ],
    }
