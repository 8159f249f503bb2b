"""``pyoverlay tree``."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from overlayfs.cli import suggestions
from overlayfs.cli.inside import HELP, asking, human_size, platform_of, say, shown
from overlayfs.cli.options import json_option, platform_option, root_option
from overlayfs.cli.output import print_json
from overlayfs.cli.sources import image_paths, viewed
from overlayfs.union.attrs import Kind

if TYPE_CHECKING:
    from overlayfs.view.usage import Branch

# Programs that read JSON, Python's own among them, go no deeper than some hundred levels.
_DEEPEST_JSON = 100


@click.command(
    name="tree",
    epilog=f"{HELP} Of a file with several names the first one has the size.\n\n"
    "Examples:\n\n\b\n"
    "  pyoverlay tree -L 2 image.tar\n"
    "  pyoverlay tree --du -L 1 busybox:/usr\n"
    "  pyoverlay tree --du --json image.tar | jq .size\n",
)
@click.argument(
    "places", metavar="IMAGE[:PATH]...", nargs=-1, required=True, shell_complete=suggestions.images
)
@click.option("--du", is_flag=True, help="With sizes, directories with all in them; largest first.")
@click.option("-L", "--level", type=click.IntRange(1), metavar="N", help="No deeper than N.")
@click.option("-d", "--directories", is_flag=True, help="Directories only.")
@platform_option
@json_option
@root_option
def command(
    places: tuple[str, ...],
    du: bool,
    level: int | None,
    directories: bool,
    platform: str | None,
    as_json: bool,
    root: Path | None,
) -> None:
    """Draw the tree of an image, or of a directory in it."""
    from overlayfs.view.usage import branches, largest_first

    found = []
    for image, path in image_paths(places):
        with viewed(root, image, platform_of(platform)) as view, asking(view, image, path):
            top = branches(view, path)
            if du:
                largest_first(top)
            deepest = min(level or 1 << 30, _DEEPEST_JSON if as_json else 1 << 30)
            if as_json:
                found.append(_json(top, deepest, directories=directories))
                continue
            say(f"{_size(top) if du else ''}/{shown(view.resolve(path))}")
            for line in _lines(top, deepest, du=du, directories=directories):
                say(line)
    if as_json:
        print_json(found)


def _children(branch: "Branch", *, directories: bool) -> "list[Branch]":
    return [one for one in branch.children if one.entry.is_dir or not directories]


def _lines(top: "Branch", level: int, *, du: bool, directories: bool) -> Iterator[str]:
    # Directories may be deeper than Python's stack.
    left = [(child, "", level) for child in reversed(_children(top, directories=directories))]
    last = {id(left[0][0])} if left else set()
    while left:
        branch, indent, deeper = left.pop()
        ends = id(branch) in last
        arrow = f" -> {shown(branch.entry.target)}" if branch.entry.kind is Kind.SYMLINK else ""
        slash = "/" if branch.entry.is_dir else ""
        size = _size(branch) if du else ""
        yield f"{size}{indent}{'└── ' if ends else '├── '}{shown(branch.name)}{slash}{arrow}"
        children = _children(branch, directories=directories) if deeper > 1 else []
        below = indent + ("    " if ends else "│   ")
        if children:
            last.add(id(children[-1]))
        left += [(child, below, deeper - 1) for child in reversed(children)]


def _size(branch: "Branch") -> str:
    return f"{human_size(branch.size):>6}  "


def _json(top: "Branch", level: int, *, directories: bool) -> dict[str, Any]:
    made: dict[int, dict[str, Any]] = {}
    left = [(top, level)]
    first = _node(top)
    made[id(top)] = first
    while left:
        branch, deeper = left.pop()
        if not branch.entry.is_dir or not deeper:
            continue
        children = _children(branch, directories=directories)
        for child in children:
            made[id(child)] = _node(child)
        made[id(branch)]["children"] = [made[id(child)] for child in children]
        left += [(child, deeper - 1) for child in children]
    return first


def _node(branch: "Branch") -> dict[str, Any]:
    return {
        "name": os.fsdecode(branch.name),
        "kind": str(branch.entry.kind),
        "size": branch.size,
        "layer": branch.entry.layer,
    }
