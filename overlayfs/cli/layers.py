"""``pyoverlay layers``: what each layer of an image does, and what is wasted."""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import click

from overlayfs.cli import suggestions
from overlayfs.cli.inside import platform_of
from overlayfs.cli.layerfacts import LayerFacts, diff_id, facts_of, made_by
from overlayfs.cli.options import json_option, platform_option, root_option
from overlayfs.cli.output import path_text, print_json, print_line, print_table, size
from overlayfs.cli.sources import opened, view_of
from overlayfs.errors import OverlayError
from overlayfs.view.waste import Account, Change, Did, LayerSum, Wasted, account

_LETTERS = {Did.ADDED: "A", Did.CHANGED: "C", Did.REMOVED: "D"}


def _bytes(ctx: click.Context, param: click.Parameter, text: str | None) -> float | None:
    """A number of bytes, with or without a unit."""
    if text is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?(?:([kKMGT]?)(i?)B)?", text)
    if found is None:
        raise click.BadParameter("write it as 5000, 20MB or 1.5GiB.")
    number, prefix, binary = found.groups()
    power = " KMGT".index((prefix or " ").upper())
    return float(number) * float((1024 if binary else 1000) ** power)


def _share(ctx: click.Context, param: click.Parameter, text: str | None) -> float | None:
    """A number from 0 to 1, or percent."""
    if text is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)( ?%)?", text)
    share = float(found[1]) / (100 if found[2] else 1) if found else 2.0
    if share > 1:
        raise click.BadParameter("write it as 0.95 or 95%.")
    return share


@click.command(
    name="layers",
    epilog="Bytes are those of the bodies of files, those of hard links once. What a layer has "
    "and no path of the image shows, as a layer above has replaced or removed it, is wasted; "
    "the efficiency is the share that shows. A: added, C: changed, D: removed.\n\n"
    "Examples:\n\n\b\n"
    "  pyoverlay layers image.tar\n"
    "  pyoverlay layers image.tar 3\n"
    "  pyoverlay layers --files debian | less\n"
    "  pyoverlay layers --min-efficiency 95% --max-waste 20MB image.tar\n",
)
@click.argument("image", shell_complete=suggestions.images)
@click.argument("number", type=int, required=False, metavar="[LAYER]")
@click.option("--files", is_flag=True, help="List the paths that each layer changes.")
@click.option(
    "--top", type=click.IntRange(min=0), default=10, help="So many wasted paths [default: 10]."
)
@click.option("--max-waste", callback=_bytes, metavar="SIZE", help="Fail if more bytes are wasted.")
@click.option(
    "--min-efficiency", callback=_share, metavar="SHARE", help="Fail if a smaller share shows."
)
@click.option("--no-trunc", is_flag=True, help="Shorten no digest and no history line.")
@platform_option
@json_option
@root_option
def command(
    image: str,
    number: int | None,
    files: bool,
    top: int,
    max_waste: float | None,
    min_efficiency: float | None,
    no_trunc: bool,
    platform: str | None,
    as_json: bool,
    root: Path | None,
) -> None:
    """Tell what each layer of IMAGE adds, changes and removes, and which bytes are wasted.

    With LAYER, a number from 1 for the base, list the paths that this layer changes.
    """
    with opened(root, image, platform_of(platform)) as found:
        view, config = view_of(found, image)
        layers = facts_of(config, found)
        if number is not None and not 1 <= number <= len(layers):
            raise OverlayError(f"{image}: no layer {number}, as it has {len(layers)}")
        with view:
            sums = account(view.parts[: len(layers)])
    chosen = [
        (facts, made)
        for facts, made in zip(layers, sums.layers, strict=True)
        if number in (None, facts.number)
    ]
    listed = files or number is not None
    if as_json:
        print_json(_json(sums, chosen, top, files=listed))
    else:
        _print_layers(chosen, listed, no_trunc)
        if number is None:
            _print_sums(sums, top)
    _check(image, sums, max_waste, min_efficiency)


def _print_layers(
    layers: Sequence[tuple[LayerFacts, LayerSum]], files: bool, no_trunc: bool
) -> None:
    if not files:
        _print_table(layers, no_trunc)
        return
    for at, (facts, made) in enumerate(layers):
        if at:
            click.echo()
        _print_table([(facts, made)], no_trunc)
        for change in made.changes:
            told = f"  {size(change.size)}" if change.size else ""
            print_line(f"{_LETTERS[change.did]} {path_text(change.path)}{told}")


def _print_table(layers: Iterable[tuple[LayerFacts, LayerSum]], no_trunc: bool) -> None:
    print_table(
        ("LAYER", "DIFF ID", "SIZE", "WASTED", "ADDED", "CHANGED", "REMOVED", "CREATED BY"),
        (
            (
                str(facts.number),
                diff_id(facts, no_trunc=no_trunc),
                size(made.size),
                size(made.wasted),
                *(str(made.count(did)) for did in Did),
                made_by(facts, no_trunc=no_trunc),
            )
            for facts, made in layers
        ),
    )


def _print_sums(sums: Account, top: int) -> None:
    click.echo()
    print_line(
        f"{size(sums.total)} in all, {size(sums.waste)} wasted: "
        f"efficiency {_percent(sums.efficiency)}"
    )
    most = _by_path(sums.wasted)[:top]
    if most:
        click.echo()
        print_table(("WASTED", "PATH", "LAYERS"), (_wasted_row(*each) for each in most))


def _by_path(wasted: Iterable[Wasted]) -> list[tuple[bytes, list[Wasted]]]:
    """The wasted bodies of each path, the path with most bytes first."""
    found: defaultdict[bytes, list[Wasted]] = defaultdict(list)
    for one in wasted:
        found[one.path].append(one)
    return sorted(found.items(), key=lambda item: (-_sum(item[1]), item[0]))


def _sum(bodies: Iterable[Wasted]) -> int:
    return sum(body.size for body in bodies)


def _wasted_row(path: bytes, bodies: list[Wasted]) -> tuple[str, str, str]:
    told = (
        f"{body.layer}, {body.did} in {body.lost}"
        for body in sorted(bodies, key=lambda body: body.layer)
    )
    return size(_sum(bodies)), path_text(path), "; ".join(told)


def _check(
    image: str, sums: Account, max_waste: float | None, min_efficiency: float | None
) -> None:
    if max_waste is not None and sums.waste > max_waste:
        raise OverlayError(f"{image}: {sums.waste} bytes are wasted, more than {max_waste:.0f}")
    if min_efficiency is not None and sums.efficiency < min_efficiency:
        raise OverlayError(
            f"{image}: the efficiency is {_percent(sums.efficiency)}, "
            f"less than {_percent(min_efficiency)}"
        )


def _percent(share: float) -> str:
    """Never 100 % when something is wasted."""
    return f"{int(share * 10_000) / 100:g} %"


def _json(
    sums: Account,
    layers: Iterable[tuple[LayerFacts, LayerSum]],
    top: int,
    *,
    files: bool,
) -> dict[str, Any]:
    return {
        "size": sums.total,
        "wasted": sums.waste,
        "efficiency": sums.efficiency,
        "layers": [_layer_json(facts, made, files=files) for facts, made in layers],
        "wasted_paths": [
            {
                "path": path_text(path),
                "size": _sum(bodies),
                "bodies": [
                    {
                        "layer": body.layer,
                        "size": body.size,
                        "lost_in": body.lost,
                        "by": str(body.did),
                    }
                    for body in sorted(bodies, key=lambda body: body.layer)
                ],
            }
            for path, bodies in _by_path(sums.wasted)[:top]
        ],
    }


def _layer_json(facts: LayerFacts, made: LayerSum, *, files: bool) -> dict[str, Any]:
    found: dict[str, Any] = {
        "layer": facts.number,
        "digest": str(facts.blob.digest) if facts.blob else None,
        "blob_size": facts.blob.size if facts.blob else None,
        "diff_id": str(facts.diff_id),
        "created": facts.created,
        "created_by": facts.created_by,
        "size": made.size,
        "wasted": made.wasted,
        **{str(did): made.count(did) for did in Did},
    }
    if files:
        found["files"] = [_change_json(change) for change in made.changes]
    return found


def _change_json(change: Change) -> dict[str, Any]:
    return {"kind": str(change.did), "path": path_text(change.path), "size": change.size}
