"""``pyoverlay stat``."""

import base64
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from overlayfs.cli import suggestions
from overlayfs.cli.inside import (
    HELP,
    Owners,
    as_dict,
    asking,
    platform_of,
)
from overlayfs.cli.options import json_option, platform_option, root_option
from overlayfs.cli.output import print_json, print_line
from overlayfs.cli.sources import described, image_paths
from overlayfs.image.history import by_layer
from overlayfs.printable import printable

if TYPE_CHECKING:
    from overlayfs.image.config import ImageConfig
    from overlayfs.view.image import ImageView


@click.command(
    name="stat",
    epilog=f"{HELP}\n\n"
    "Examples:\n\n\b\n"
    "  pyoverlay stat image.tar:/etc/passwd\n"
    "  pyoverlay stat -L busybox:/bin/sh\n"
    "  pyoverlay stat --json busybox:/bin/sh | jq -r '.[].diff_id'\n",
)
@click.argument(
    "places", metavar="IMAGE:PATH...", nargs=-1, required=True, shell_complete=suggestions.images
)
@click.option("-L", "--dereference", is_flag=True, help="Follow a symbolic link.")
@platform_option
@json_option
@root_option
def command(
    places: tuple[str, ...],
    dereference: bool,
    platform: str | None,
    as_json: bool,
    root: Path | None,
) -> None:
    """Tell all that an image says of a file, and which layer brought it."""
    found = []
    for image, path in image_paths(places):
        with (
            described(root, image, platform_of(platform)) as (view, config),
            asking(view, image, path),
        ):
            facts = _facts(view, config, path, follow=dereference)
        found.append(facts)
        if not as_json:
            _tell(facts)
    if as_json:
        print_json(found)


def _facts(
    view: "ImageView", config: "ImageConfig", path: bytes, *, follow: bool
) -> dict[str, Any]:
    real = view.resolve(path, follow=follow)
    entry = view.stat(real, follow=False)
    owners = Owners(view)
    steps = by_layer(config.history, config.diff_ids)
    number = entry.layer - 1
    attributes = view.xattrs(real, follow=False)
    return as_dict(real, entry, owners) | {
        "diff_id": str(config.diff_ids[number]) if config.diff_ids else None,
        "created_by": steps[number].created_by if config.diff_ids else "",
        "xattrs": {
            os.fsdecode(name): base64.b64encode(value).decode()
            for name, value in sorted(attributes.items())
        },
    }


def _tell(facts: dict[str, Any]) -> None:
    mode = int(facts["mode"], 8)
    lines = {
        "Path": facts["path"] + (f" -> {facts['target']}" if "target" in facts else ""),
        "Kind": facts["kind"],
        "Size": ", ".join(map(str, facts.get("device", [facts["size"]]))),
        "Mode": f"{facts['mode']} {stat.filemode(mode)[1:]}",
        "Owner": f"{facts['user']} ({facts['uid']}), group {facts['group']} ({facts['gid']})",
        "Links": str(facts["links"]),
        "Changed": facts["mtime"],
        "Layer": f"{facts['layer']} {facts['diff_id'] or ''}".rstrip(),
    }
    if facts["created_by"]:
        lines["Made by"] = facts["created_by"]
    for name, text in lines.items():
        print_line(f"{name + ':':<9}{text}")
    for name, value in facts["xattrs"].items():
        print_line(f"{'Xattr:':<9}{name}={_value(base64.b64decode(value))}")


def _value(data: bytes) -> str:
    """Text if it is such, hexadecimal if not, as getfattr(1) has it."""
    text = printable(data)
    plain = data.decode("utf-8", "replace")
    return f'"{text}"' if text == plain else f"0x{data.hex()}"
