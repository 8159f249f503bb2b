"""``pyoverlay images``: what the store has."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from overlayfs.cli import suggestions
from overlayfs.cli.facts import NONE, split_name
from overlayfs.cli.filters import Filters
from overlayfs.cli.listing import Columns, print_list
from overlayfs.cli.options import json_option, root_option
from overlayfs.cli.output import print_json, size
from overlayfs.cli.templates.template import Fields
from overlayfs.cli.times import ago, moment, written_out
from overlayfs.store.names import SOURCE_DIGEST
from overlayfs.store.store import Store, StoredImage

HEADS = {
    "Repository": "REPOSITORY",
    "Tag": "TAG",
    "Digest": "DIGEST",
    "ID": "IMAGE ID",
    "CreatedSince": "CREATED",
    "CreatedAt": "CREATED AT",
    "Size": "SIZE",
    "Platform": "PLATFORM",
    "Layers": "LAYERS",
    "Labels": "LABELS",
}
SHOWN = ("Repository", "Tag", "ID", "CreatedSince", "Size")
SHOWN_WITH_DIGESTS = ("Repository", "Tag", "Digest", "ID", "CreatedSince", "Size")

# One image by one of its names; None where it has none.
Row = tuple[StoredImage, str | None]


@click.command(
    name="images",
    epilog="NAME and reference= are patterns, for a name with its tag or without: busybox, "
    "'*:latest', 'localhost/*'. A size is what the files of all layers add up to.\n\n"
    f"Fields for --format: {', '.join(HEADS)}.\n\n"
    "Examples:\n\n\b\n"
    "  pyoverlay images\n"
    "  pyoverlay images 'debian*'\n"
    "  pyoverlay images --filter dangling=true -q\n"
    "  pyoverlay images --format 'table {{.ID}}\\t{{.Repository}}:{{.Tag}}\\t{{.Size}}'\n"
    "  pyoverlay images --json | jq -r '.[].id'\n",
)
@click.argument("name", required=False, shell_complete=suggestions.stored_images)
@click.option("-a", "--all", is_flag=True, help="All images, which is what is shown anyway.")
@click.option("-q", "--quiet", is_flag=True, help="Print ids only, each once.")
@click.option("--no-trunc", "in_full", is_flag=True, help="Print ids in full.")
@click.option("--digests", is_flag=True, help="Show the digests of manifests too.")
@click.option(
    "-f",
    "--filter",
    "words",
    multiple=True,
    metavar="KEY=VALUE",
    help="reference=PATTERN, dangling=true|false, label=KEY[=VALUE], before=IMAGE, since=IMAGE.",
)
@click.option(
    "--format", "form", metavar="FORM", help="json, a template for each line, or table TEMPLATE."
)
@json_option
@root_option
def command(
    name: str | None,
    all: bool,  # noqa: A002  # click names it after the option, which is docker's
    quiet: bool,
    in_full: bool,
    digests: bool,
    words: tuple[str, ...],
    form: str | None,
    as_json: bool,
    root: Path | None,
) -> None:
    """List the images in the store, the newest first."""
    store = Store.open(root)
    filters = Filters.parse(words, store.image)
    if name is not None:
        filters = filters.called(name)
    rows = list(_rows(_newest_first(store.images()), filters))
    if as_json:
        print_json([_json(image) for image in _images(rows)])
    elif quiet:
        for image in _images(rows):
            click.echo(str(image.id) if in_full else image.id.short)
    else:
        now = datetime.now(UTC)
        shown = SHOWN_WITH_DIGESTS if digests else SHOWN
        fields = (_fields(row, in_full=in_full, now=now) for row in rows)
        print_list(Columns(HEADS, shown), fields, form)


def _newest_first(images: Iterable[StoredImage]) -> list[StoredImage]:
    """Those that do not say when they were made come last."""
    oldest = datetime.min.replace(tzinfo=UTC)
    return sorted(images, key=lambda image: moment(image.config.created) or oldest, reverse=True)


def _rows(images: Iterable[StoredImage], filters: Filters) -> Iterator[Row]:
    for image in images:
        names = filters.names(image)
        if names is not None:
            yield from ((image, name) for name in names or (None,))


def _images(rows: Iterable[Row]) -> list[StoredImage]:
    return list({image.id: image for image, _ in rows}.values())


def _fields(row: Row, *, in_full: bool, now: datetime) -> Fields:
    image, name = row
    repository, tag = split_name(name) if name else (NONE, NONE)
    created = moment(image.config.created)
    return Fields(
        ID=str(image.id) if in_full else image.id.short,
        Repository=repository,
        Tag=tag,
        Digest=str(image.manifest.digest),
        CreatedSince=ago(created, now),
        CreatedAt=written_out(created),
        Size=size(_unpacked(image)),
        Platform=str(image.config.platform),
        Layers=str(len(image.layers)),
        Labels=",".join(f"{key}={value}" for key, value in image.config.config.labels.items()),
    )


def _unpacked(image: StoredImage) -> int:
    return sum(layer.size for layer in image.layers)


def _json(image: StoredImage) -> dict[str, Any]:
    parts = (image.config.os, image.config.architecture, image.config.variant)
    return {
        "names": list(image.names),
        "id": str(image.id),
        "manifest": str(image.manifest.digest),
        "source_manifest": image.manifest.annotation(SOURCE_DIGEST),
        "platform": "/".join(part for part in parts if part),
        "created": image.config.created,
        "labels": image.config.config.labels,
        "size": _unpacked(image),
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
