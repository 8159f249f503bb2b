"""``pyoverlay image``: what docker has a second spelling for."""

import click

from overlayfs.cli.main import COMMANDS, Commands

_MODULES = {"ls": "images", "rm": "rmi", "import": "import_"}
_LINES = {
    name: COMMANDS[{"ls": "images", "rm": "rmi"}.get(name, name)]
    for name in (
        *("history", "import", "inspect", "load", "ls", "mount", "prune", "rm", "save", "tag"),
        *("untag", "verify"),
    )
}


@click.group(
    name="image",
    cls=Commands,
    sections={"Commands": _LINES},
    modules=_MODULES,
    spellings={"list": "ls", "remove": "rm"},
    epilog="Each is the command that has the same name without `image`, or `images` and `rmi` "
    "for ls and rm.\n\n"
    "Examples:\n\n\b\n  pyoverlay image ls\n  pyoverlay image rm busybox\n",
)
def command() -> None:
    """Commands for images, as docker spells them."""
