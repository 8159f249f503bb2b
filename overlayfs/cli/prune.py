"""``pyoverlay prune``: what nothing uses goes."""

import re
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from overlayfs.cli.options import json_option, root_option
from overlayfs.cli.output import note, print_json, print_line, size
from overlayfs.cli.removed import as_dict, left, lines
from overlayfs.errors import OverlayError
from overlayfs.image.config import ImageConfig
from overlayfs.printable import printable
from overlayfs.store.removing import Planned, Pruning
from overlayfs.store.store import Store

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_AGO = re.compile(r"(?:[0-9]+[smhdw])+")


@click.command(
    name="prune",
    epilog="On a terminal it shows what would go and asks. Elsewhere it only shows, unless "
    "--force is given.\n\n"
    "Filters are until=TIME (an ISO date, or how long ago: 90m, 24h, 7d), by the time at which an "
    "image was made, label=KEY[=VALUE] and label!=KEY[=VALUE]. They choose images; what is no "
    "part of an image always goes.\n\n"
    "Examples:\n\n\b\n"
    "  pyoverlay prune\n"
    "  pyoverlay prune --all --filter until=30d --force\n"
    "  pyoverlay prune --kept --dry-run\n",
)
@click.option("-a", "--all", "every", is_flag=True, help="All images that are not mounted.")
@click.option("--kept", is_flag=True, help="The changes of ended mounts, too.")
@click.option("--filter", "filters", multiple=True, metavar="FILTER", help="Only such images.")
@click.option("-n", "--dry-run", is_flag=True, help="Only show what would go.")
@click.option("-f", "--force", is_flag=True, help="Do not ask.")
@json_option
@root_option
def command(
    every: bool,
    kept: bool,
    filters: tuple[str, ...],
    dry_run: bool,
    force: bool,
    as_json: bool,
    root: Path | None,
) -> None:
    """Remove images without a name, and what no image and no mount uses."""
    store = Store.open(root)
    pruning = Pruning(every, kept, _parsed(filters))
    if dry_run or not force:
        planned = store.planned(pruning)
        if as_json and dry_run:
            print_json(_plan_as_dict(store, planned))
            return
        _show(store, planned, to_stderr=as_json)
        if dry_run or not (planned.images or any(store.sizes(planned.garbage).values())):
            return
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            note("nothing was removed; --force does it without asking")
            return
        if not click.confirm("Remove all that?", err=True):
            return
    removed = store.prune(pruning)
    if as_json:
        print_json(as_dict(removed))
    else:
        for line in lines(removed):
            print_line(line)
        print_line(f"Total reclaimed space: {size(removed.swept.freed)}")
    if removed.kept_back:
        note(left(removed.kept_back))


def _show(store: Store, planned: Planned, *, to_stderr: bool) -> None:
    """What would go, with what it takes of the disk."""

    def say(text: str) -> None:
        click.echo(printable(text), err=to_stderr)

    for image in planned.images:
        say(f"image {', '.join(image.names) or image.id.short}")
    total = 0
    for kind, things in store.sizes(planned.garbage).items():
        for path, used in things.items():
            total += used
            say(f"{_KINDS[kind]} {path}  {size(used)}")
    say(f"Would reclaim {size(total)}")
    if planned.garbage.kept_back:
        say(left(planned.garbage.kept_back))


_KINDS = {"layers": "layer", "blobs": "blob", "mounts": "mount", "drafts": "draft"}


def _plan_as_dict(store: Store, planned: Planned) -> dict[str, object]:
    return {
        "images": [{"id": str(image.id), "names": list(image.names)} for image in planned.images],
        **{
            kind: [{"path": str(path), "size": used} for path, used in things.items()]
            for kind, things in store.sizes(planned.garbage).items()
        },
    }


# -- filters ---------------------------------------------------------------------------


def _parsed(filters: tuple[str, ...]) -> Callable[[ImageConfig], bool]:
    now = datetime.now(UTC)
    rules = [_rule(text, now) for text in filters]
    return lambda config: all(rule(config) for rule in rules)


def _rule(text: str, now: datetime) -> Callable[[ImageConfig], bool]:
    key, equals, value = text.partition("=")
    if equals and key == "until":
        before = _time(value, now)
        return lambda config: _is_older(config, before)
    if equals and key in ("label", "label!"):
        label, has_value, wanted = value.partition("=")

        def labelled(config: ImageConfig) -> bool:
            found = config.config.labels.get(label)
            return found is not None and (not has_value or found == wanted)

        return labelled if key == "label" else lambda config: not labelled(config)
    raise OverlayError(
        f"--filter {printable(text)}: not known", hint="there are until=, label= and label!="
    )


def _is_older(config: ImageConfig, before: datetime) -> bool:
    """An image that does not say when it was made is older than none."""
    try:
        made = datetime.fromisoformat(config.created)
    except ValueError:
        return False
    return (made if made.tzinfo else made.replace(tzinfo=UTC)) < before


def _time(text: str, now: datetime) -> datetime:
    try:
        if _AGO.fullmatch(text):
            parts = re.findall(r"([0-9]+)(.)", text)
            return now - timedelta(seconds=sum(int(n) * _UNITS[unit] for n, unit in parts))
        when = datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise OverlayError(
            f"--filter until={printable(text)}: not a time", hint="write 2026-01-31, or 24h"
        ) from None
    return when if when.tzinfo else when.astimezone()
