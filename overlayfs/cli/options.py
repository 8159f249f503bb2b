"""Options and arguments that several commands have."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click

Decorated = TypeVar("Decorated", bound=Callable[..., object])

# What commands take as a directory. Nothing is checked here: who uses it says better what is
# wrong with it. Shells complete it.
DIRECTORY = click.Path(path_type=Path)


def root_option(function: Decorated) -> Decorated:
    """``--root``: which store."""
    return click.option(
        "--root",
        type=DIRECTORY,
        metavar="DIR",
        help="The store [default: $PYOVERLAY_ROOT, else /var/lib/pyoverlay for root and "
        "$XDG_DATA_HOME/pyoverlay for others].",
    )(function)


def json_option(function: Decorated) -> Decorated:
    """``--json``: for programs."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(function)


def platform_option(function: Decorated) -> Decorated:
    """``--platform``: which of the images that a file offers."""
    return click.option(
        "--platform",
        metavar="OS/ARCH",
        help="Which of a file's platforms [default: this machine's].",
    )(function)


def verify_option(function: Decorated) -> Decorated:
    """``--verify``: of layers of which only a part is read."""
    return click.option(
        "--verify",
        is_flag=True,
        help="Read all layers before, and check that they are what the image says.",
    )(function)
