"""``pyoverlay history``: how an image came to be."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from overlayfs.cli import suggestions
from overlayfs.cli.facts import ImageFacts, LayerFacts, image_facts
from overlayfs.cli.inspection import packing
from overlayfs.cli.listing import Columns, print_list
from overlayfs.cli.options import json_option, platform_option, root_option
from overlayfs.cli.output import print_json, size
from overlayfs.cli.templates.template import Fields
from overlayfs.cli.times import ago, moment, written_out
from overlayfs.image.history import Step
from overlayfs.image.platform import Platform

HEADS = {
    "Layer": "LAYER",
    "DiffID": "DIFF ID",
    "CreatedSince": "CREATED",
    "CreatedBy": "CREATED BY",
    "Size": "SIZE",
    "Comment": "COMMENT",
    "ID": "IMAGE",
    "CreatedAt": "CREATED AT",
    "Author": "AUTHOR",
    "Digest": "DIGEST",
    "MetadataOnly": "METADATA ONLY",
}
SHOWN = ("Layer", "DiffID", "CreatedSince", "CreatedBy", "Size", "Comment")
SHOWN_EXACTLY = ("Layer", "DiffID", "CreatedAt", "CreatedBy", "Size", "Comment")

# What stands in the place of a layer, or of a size, where there is none.
ABSENT = "-"
METADATA = "metadata"
# As docker has it.
MISSING = "<missing>"
_WIDTH = 45


class _Human(click.Command):
    """``--human``, a flag in docker and podman, may have ``=false`` behind it there."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        words = ["--human=true" if word in ("--human", "-H") else word for word in args]
        return super().parse_args(ctx, words)


@click.command(
    name="history",
    cls=_Human,
    epilog="An entry that changed no file has `metadata` for a size. A size is what the files of "
    "the layer add up to; where an image in a file does not say that, it is the length of the "
    "blob, and how it is packed stands behind it.\n\n"
    f"Fields for --format: {', '.join(HEADS)}.\n\n"
    "Examples:\n\n\b\n"
    "  pyoverlay history busybox\n"
    "  pyoverlay history --no-trunc image.tar\n"
    "  pyoverlay history --human=false --format '{{.Size}} {{.CreatedBy}}' busybox\n"
    "  pyoverlay history --json busybox | jq '.[] | select(.metadata_only | not)'\n",
)
@click.argument("image", shell_complete=suggestions.images_and_mountpoints)
@click.option("-q", "--quiet", is_flag=True, help="Print the diff ids of the layers only.")
@click.option("--no-trunc", "in_full", is_flag=True, help="Shorten nothing.")
@click.option(
    "-H",
    "--human",
    type=bool,
    default=True,
    metavar="true|false",
    help="Sizes and times for people, or exact ones [default: true].",
)
@click.option(
    "--format", "form", metavar="FORM", help="json, a template for each line, or table TEMPLATE."
)
@platform_option
@json_option
@root_option
def command(
    image: str,
    quiet: bool,
    in_full: bool,
    human: bool,
    form: str | None,
    platform: str | None,
    as_json: bool,
    root: Path | None,
) -> None:
    """Show each step of IMAGE with the layer that it made, the newest first."""
    facts = image_facts(root, image, None if platform is None else Platform.parse(platform))
    steps = facts.steps[::-1]
    if as_json:
        print_json([_json(step) for step in steps])
    elif quiet:
        for step in steps:
            if step.layer is not None:
                click.echo(_id(step.layer, in_full=in_full))
    else:
        columns = Columns(HEADS, SHOWN if human else SHOWN_EXACTLY)
        print_list(columns, _rows(facts, steps, in_full=in_full, human=human), form)


def _rows(
    facts: ImageFacts, steps: Sequence[Step[LayerFacts]], *, in_full: bool, human: bool
) -> list[Fields]:
    now = datetime.now(UTC)
    return [
        Fields(
            _fields(step, now, in_full=in_full, human=human),
            ID=MISSING if number else _image_id(facts, in_full=in_full),
        )
        for number, step in enumerate(steps)
    ]


def _fields(step: Step[LayerFacts], now: datetime, *, in_full: bool, human: bool) -> Fields:
    entry, layer = step.entry, step.layer
    created = moment(entry.created) if entry else None
    # A tab is the end of a column to `--format table`.
    command = step.created_by.replace("\t", " ")
    return Fields(
        Layer=ABSENT if step.number is None else str(step.number),
        DiffID=_id(layer, in_full=in_full) if layer else ABSENT,
        CreatedSince=ago(created, now),
        CreatedAt=written_out(created) if human else entry.created if entry else "",
        CreatedBy=command if in_full or len(command) <= _WIDTH else command[: _WIDTH - 1] + "…",
        Size=_size(step, human=human),
        Comment=entry.comment if entry else "",
        Author=entry.author if entry else "",
        Digest=str(layer.digest) if layer and layer.digest else ABSENT,
        MetadataOnly=step.metadata_only,
    )


def _size(step: Step[LayerFacts], *, human: bool) -> str:
    if step.layer is None:
        return METADATA if step.metadata_only else ABSENT
    layer = step.layer
    count = layer.size if layer.unpacked is None else layer.unpacked
    if not human:
        return str(count)
    return size(count) + (f" ({packing(layer.media_type)})" if layer.unpacked is None else "")


def _id(layer: LayerFacts, *, in_full: bool) -> str:
    return str(layer.diff_id) if in_full else layer.diff_id.short


def _image_id(facts: ImageFacts, *, in_full: bool) -> str:
    return str(facts.id) if in_full else facts.id.short


def _json(step: Step[LayerFacts]) -> dict[str, Any]:
    entry, layer = step.entry, step.layer
    return {
        "layer": step.number,
        "metadata_only": step.metadata_only,
        "created": entry.created if entry else "",
        "created_by": step.created_by,
        "author": entry.author if entry else "",
        "comment": entry.comment if entry else "",
        "diff_id": str(layer.diff_id) if layer else None,
        "blob": str(layer.digest) if layer and layer.digest else None,
        "media_type": layer.media_type if layer else None,
        "blob_size": layer.size if layer else None,
        "size": layer.unpacked if layer else None,
    }
