"""``pyoverlay which-layer``: where a file of an image is from."""

import stat
from pathlib import Path
from typing import Any

import click

from overlayfs.cli import suggestions
from overlayfs.cli.inside import platform_of
from overlayfs.cli.layerfacts import LayerFacts, diff_id, facts_of, made_by
from overlayfs.cli.options import json_option, platform_option, root_option
from overlayfs.cli.output import note, path_text, print_json, print_table, size
from overlayfs.cli.sources import described, image_paths
from overlayfs.errors import OverlayError
from overlayfs.printable import printable
from overlayfs.view.provenance import (
    Action,
    Cause,
    Event,
    Hiding,
    as_layers_have_it,
    history,
)


@click.command(
    name="which-layer",
    epilog="The layers are told from the base up, the one that shows with a star. Symbolic links "
    "on the way to PATH are followed, PATH itself is not. The exit code is 1 when no layer has "
    "ever had it.\n\n"
    "Examples:\n\n\b\n"
    "  pyoverlay which-layer image.tar /etc/passwd\n"
    "  pyoverlay which-layer debian:/usr/bin/perl\n"
    "  pyoverlay which-layer --json image.tar /etc/passwd | jq .shown\n",
)
@click.argument(
    "words", nargs=-1, required=True, metavar="IMAGE PATH", shell_complete=suggestions.images
)
@click.option("--no-trunc", is_flag=True, help="Shorten no digest and no history line.")
@platform_option
@json_option
@root_option
def command(
    words: tuple[str, ...],
    no_trunc: bool,
    platform: str | None,
    as_json: bool,
    root: Path | None,
) -> None:
    """Tell which layers of IMAGE have, replaced or removed the file PATH."""
    (image, asked), *others = image_paths(words)
    if others:
        raise click.UsageError("one image and one path, please.")
    with described(root, image, platform_of(platform)) as (view, config):
        path = as_layers_have_it(view, asked)
        events = history(view, path)
        if not events:
            raise OverlayError(f"{image}: no layer has ever had {_shown(path)}")
        layers = {layer.number: layer for layer in facts_of(config)}
    if as_json:
        print_json(_json(path, events, layers))
        return
    if path != b"/".join(name for name in asked.split(b"/") if name):
        note(f"{_shown(asked)} is {_shown(path)}")
    print_table(
        ("", "LAYER", "DIFF ID", "WHAT", "MODE", "SIZE", "CREATED BY"),
        (
            _row(path, event, layers[event.number], event is _showing(events), no_trunc)
            for event in events
        ),
    )


def _showing(events: tuple[Event, ...]) -> Event | None:
    last = events[-1]
    return None if last.action is Action.REMOVED else last


def _row(
    path: bytes, event: Event, layer: LayerFacts, shows: bool, no_trunc: bool
) -> tuple[str, ...]:
    entry = event.entry
    return (
        "*" if shows else "",
        str(event.number),
        diff_id(layer, no_trunc=no_trunc),
        _what(path, event),
        stat.filemode(entry.mode) if entry else "-",
        size(entry.size) if entry and not entry.is_dir else "-",
        made_by(layer, no_trunc=no_trunc),
    )


def _what(path: bytes, event: Event) -> str:
    details = []
    if event.action is Action.CHANGED:
        details.append(", ".join(event.fields))
    if event.implied:
        details.append("implied")
    if event.hidden is not None:
        details.append(_why(path, event.hidden))
    return f"{event.action} ({'; '.join(details)})" if details else str(event.action)


def _why(path: bytes, hidden: Hiding) -> str:
    match hidden.cause:
        case Cause.WHITEOUT:
            return "whiteout" if hidden.path == path else f"whiteout of {_shown(hidden.path)}"
        case Cause.OPAQUE:
            return "opaque" if hidden.path == path else f"opaque {_shown(hidden.path)}"
        case Cause.FILE:
            return f"{_shown(hidden.path)} is no directory"


def _json(path: bytes, events: tuple[Event, ...], layers: dict[int, LayerFacts]) -> dict[str, Any]:
    showing = _showing(events)
    return {
        "path": path_text(path),
        "shown": showing.number if showing else None,
        "layers": [
            {
                "layer": event.number,
                "diff_id": str(layers[event.number].diff_id),
                "created": layers[event.number].created,
                "created_by": layers[event.number].created_by,
                "action": str(event.action),
                "changed": list(event.fields),
                "hidden_by": str(event.hidden.cause) if event.hidden else None,
                "hidden_at": path_text(event.hidden.path) if event.hidden else None,
                "implied": event.implied,
                "kind": str(event.entry.kind) if event.entry else None,
                "mode": f"{event.entry.mode & 0o7777:04o}" if event.entry else None,
                "uid": event.entry.uid if event.entry else None,
                "gid": event.entry.gid if event.entry else None,
                "size": event.entry.size if event.entry else None,
            }
            for event in events
        ],
    }


def _shown(path: bytes) -> str:
    return printable(b"/" + path.lstrip(b"/"))
