"""``pyoverlay ls``."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from overlayfs.cli import suggestions
from overlayfs.cli.inside import HELP, Owners, as_dict, asking, long_lines, platform_of, say, shown
from overlayfs.cli.options import json_option, platform_option, root_option
from overlayfs.cli.output import print_json
from overlayfs.cli.sources import image_paths, viewed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from overlayfs.view.entry import Entry
    from overlayfs.view.image import ImageView


@click.command(
    name="ls",
    # -h is ls(1)'s.
    context_settings={"help_option_names": ["--help"]},
    epilog=f"{HELP} Names that begin with a dot are listed as well.\n\n"
    "Examples:\n\n\b\n"
    "  pyoverlay ls -l image.tar:/etc\n"
    "  pyoverlay ls -lhR busybox /usr /etc\n"
    "  pyoverlay ls -ld images.tar:busybox:latest:/bin\n"
    "  pyoverlay ls --json busybox:/etc | jq -r '.[].path'\n",
)
@click.argument(
    "places", metavar="IMAGE[:PATH]...", nargs=-1, required=True, shell_complete=suggestions.images
)
@click.option(
    "-l", "long", is_flag=True, help="Tell mode, links, owners, size, time and target too."
)
@click.option("-R", "--recursive", is_flag=True, help="List directories beneath as well.")
@click.option("-d", "--directory", is_flag=True, help="List directories, not what is in them.")
@click.option("-h", "--human-readable", "human", is_flag=True, help="With -l: sizes like 1.2K.")
@click.option("-n", "--numeric", is_flag=True, help="With -l: owners by number.")
@click.option("-a", "--all", "_all", is_flag=True, expose_value=False, hidden=True)
@platform_option
@json_option
@root_option
def command(
    places: tuple[str, ...],
    long: bool,
    recursive: bool,
    directory: bool,
    human: bool,
    numeric: bool,
    platform: str | None,
    as_json: bool,
    root: Path | None,
) -> None:
    """List files, and what is in directories, of an image."""
    pairs = image_paths(places)
    found: list[dict[str, Any]] = []
    first = True
    for image, path in pairs:
        with viewed(root, image, platform_of(platform)) as view, asking(view, image, path):
            owners = Owners(view, numeric=numeric) if long or as_json else None
            # As with ls(1), a link is told of by itself where details are asked for.
            for title, rows in _lists(
                view, path, recursive=recursive, itself=directory, follow=not (long or directory)
            ):
                if as_json:
                    assert owners is not None
                    above = title + b"/" if title else b""
                    found += [as_dict(above + name, entry, owners) for name, entry in rows]
                    continue
                if (recursive or len(pairs) > 1) and not directory and title is not None:
                    say(f"{'' if first else chr(10)}/{shown(title)}:")
                first = False
                if owners is not None:
                    for line in long_lines(rows, owners, human=human):
                        say(line)
                else:
                    for name, _ in rows:
                        say(shown(name))
    if as_json:
        print_json(found)


def _lists(
    view: "ImageView", path: bytes, *, recursive: bool, itself: bool, follow: bool
) -> "Iterator[tuple[bytes | None, list[tuple[bytes, Entry]]]]":
    """What to list: directories with what is in them, or (None) the one file that is asked for."""
    entry = view.stat(path, follow=follow)
    if itself or not entry.is_dir:
        yield None, [(path.strip(b"/") or b".", entry)]
        return
    left = [view.resolve(path)]
    while left:
        at = left.pop()
        rows = list(view.list(at).items())
        yield at, rows
        if recursive:
            above = at + b"/" if at else b""
            left += [above + name for name, entry in reversed(rows) if entry.is_dir]
