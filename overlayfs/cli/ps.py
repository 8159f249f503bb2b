"""``pyoverlay ps``: what is mounted."""

from pathlib import Path
from typing import Any

import click

from overlayfs import mounting
from overlayfs.cli.options import json_option, root_option
from overlayfs.cli.output import print_json, print_table
from overlayfs.mounting import MountRecord
from overlayfs.store.store import Store


@click.command(
    name="ps",
    epilog="A mount whose daemon has died is shown as dead; `pyoverlay umount` removes it.\n\n"
    "Examples:\n\n\b\n  pyoverlay ps\n  pyoverlay ps --json | jq -r '.[].log'\n",
)
@click.option("-a", "--all", "kept", is_flag=True, help="Also unmounted ones with changes kept.")
@json_option
@root_option
def command(kept: bool, as_json: bool, root: Path | None) -> None:
    """List the mounts."""
    records = mounting.mounts(Store.open(root), kept=kept)
    if as_json:
        print_json([as_dict(record) for record in records])
        return
    print_table(
        ("IMAGE", "MOUNT POINT", "PID", "STATE", "SINCE", "UPPER", "LOG"),
        (
            (
                record.image if record.layer is None else f"{record.image}, layer {record.layer}",
                str(record.mountpoint),
                str(record.pid),
                record.state,
                record.since.astimezone().strftime("%Y-%m-%d %H:%M:%S"),
                str(record.upper) if record.upper else "read-only",
                str(record.log),
            )
            for record in records
        ),
    )


def as_dict(record: MountRecord) -> dict[str, Any]:
    """A mount as ``--json`` shows it."""
    return {
        "id": record.id,
        "image": record.image,
        "image_id": str(record.image_id),
        "layer": record.layer,
        "mountpoint": str(record.mountpoint),
        "pid": record.pid,
        "state": record.state,
        "since": record.since.isoformat(),
        "read_only": record.read_only,
        "upper": str(record.upper) if record.upper else None,
        "log": str(record.log),
    }
