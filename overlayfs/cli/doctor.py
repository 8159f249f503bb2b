"""``pyoverlay doctor``: whether this machine has what mounting needs, and what to do if not."""

from collections.abc import Sequence
from pathlib import Path

import click

from overlayfs.cli.options import json_option, root_option
from overlayfs.cli.output import print_json, print_line
from overlayfs.doctor.examination import examination
from overlayfs.doctor.finding import Finding, State
from overlayfs.doctor.person import Person
from overlayfs.store.paths import default_root


@click.command(
    name="doctor",
    epilog="ok: as it should be. warn: something else will not work, or worse than it could. "
    "fail: nothing can be kept or mounted. The exit code is 1 if anything fails. Nothing is "
    "changed, and no store is made.\n\n"
    "Examples:\n\n\b\n  pyoverlay doctor\n"
    "  pyoverlay doctor --json | jq -r '.[] | select(.state != \"ok\").fix'\n",
)
@json_option
@root_option
@click.pass_context
def command(ctx: click.Context, as_json: bool, root: Path | None) -> None:
    """Look for what is in the way of mounts, and tell what to do about it."""
    store = (root or default_root()).absolute()
    findings = list(examination(store, Person.here()))
    if as_json:
        print_json(
            [
                {"name": one.name, "state": str(one.state), "said": one.said, "fix": one.fix}
                for one in findings
            ]
        )
    else:
        _print(findings)
    if any(one.state is State.FAIL for one in findings):
        ctx.exit(1)


def _print(findings: Sequence[Finding]) -> None:
    width = max(len(one.name) for one in findings)
    for one in findings:
        print_line(f"{one.state:4}  {one.name.ljust(width)}  {one.said}")
        if one.fix:
            print_line(f"      {' ' * width}  fix: {one.fix}")
