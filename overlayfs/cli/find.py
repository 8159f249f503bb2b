"""``pyoverlay find``."""

import os
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from overlayfs.cli import suggestions
from overlayfs.cli.inside import HELP, Owners, as_dict, asking, long_lines, platform_of, say, shown
from overlayfs.cli.options import json_option, platform_option, root_option
from overlayfs.cli.output import print_json
from overlayfs.cli.sources import image_paths, viewed
from overlayfs.errors import OverlayError
from overlayfs.printable import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from overlayfs.view.entry import Entry
    from overlayfs.view.image import ImageView
    from overlayfs.view.search import Test


@click.command(
    name="find",
    epilog=f"{HELP}\n\n"
    "A file is told of when it passes all tests; sizes and modes are written as for find(1). "
    "Options may have one dash, as there, or two.\n\n"
    "Examples:\n\n\b\n"
    "  pyoverlay find image.tar --suid\n"
    "  pyoverlay find busybox:/etc -name '*.conf' -type f\n"
    "  pyoverlay find image.tar -size +10M -l\n"
    "  pyoverlay find image.tar -newer /etc/passwd -0 | xargs -0 -n1 echo\n"
    "  pyoverlay find image.tar -newer 2024-01-31 --json\n",
)
@click.argument(
    "places", metavar="IMAGE[:PATH]...", nargs=-1, required=True, shell_complete=suggestions.images
)
@click.option("-name", "--name", "pattern", metavar="GLOB", help="The last name fits GLOB.")
@click.option("-iname", "--iname", "ipattern", metavar="GLOB", help="The same, a like A.")
@click.option("-path", "--path", "path_pattern", metavar="GLOB", help="All of the path fits GLOB.")
@click.option("-type", "--type", "kinds", metavar="f,d,l,c,b,p,s", help="It is of such a kind.")
@click.option("-size", "--size", metavar="[+-]N[ckMGT]", help="It is so large, more or less.")
@click.option(
    "-perm",
    "--perm",
    "-mode",
    "--mode",
    "perm",
    metavar="[-/]MODE",
    help="Its mode is MODE, has all of its bits (-), or any (/).",
)
@click.option("-suid", "--suid", is_flag=True, help="It runs as its owner.")
@click.option("-sgid", "--sgid", is_flag=True, help="It runs as its group.")
@click.option(
    "-newer",
    "--newer",
    metavar="TIME|/PATH",
    help="It was changed after TIME (2024-01-31, 2024-01-31T12:00Z), or after PATH of the image.",
)
@click.option("-user", "--user", metavar="NAME|ID", help="It belongs to that user.")
@click.option("-group", "--group", metavar="NAME|ID", help="It belongs to that group.")
@click.option("-empty", "--empty", is_flag=True, help="A file or directory without contents.")
@click.option("--layer", type=int, metavar="N", help="It comes from layer N; 1 is the base.")
@click.option("-maxdepth", "--maxdepth", type=click.IntRange(0), metavar="N", help="No deeper.")
@click.option("-l", "-ls", "long", is_flag=True, help="Tell what ls -l tells.")
@click.option("-0", "-print0", "nul", is_flag=True, help="End each path with NUL.")
@platform_option
@json_option
@root_option
def command(
    places: tuple[str, ...],
    long: bool,
    nul: bool,
    platform: str | None,
    as_json: bool,
    root: Path | None,
    maxdepth: int | None,
    **asked: object,
) -> None:
    """Find files in an image."""
    found = []
    for image, path in image_paths(places):
        with viewed(root, image, platform_of(platform)) as view, asking(view, image, path):
            owners = Owners(view)
            tests = list(_tests(view, image, owners, asked))
            matching = _matching(view, path, tests, maxdepth)
            if as_json:
                found += [as_dict(at, entry, owners) for at, entry in matching]
            elif long:
                for line in long_lines([(b"/" + at, entry) for at, entry in matching], owners):
                    say(line)
            else:
                for at, _ in matching:
                    if nul:
                        say("/" + os.fsdecode(at), end="\0")
                    else:
                        say("/" + shown(at))
    if as_json:
        print_json(found)


def _matching(
    view: "ImageView", top: bytes, tests: "list[Test]", maxdepth: int | None
) -> "Iterator[tuple[bytes, Entry]]":
    depth = 0
    for number, (path, entry) in enumerate(view.walk(top, follow=top.endswith(b"/"))):
        level = path.count(b"/") + 1 if path else 0
        if not number:
            depth = level
        if maxdepth is not None and level - depth > maxdepth:
            continue
        if all(test(path, entry) for test in tests):
            yield path, entry


def _tests(
    view: "ImageView", image: str, owners: Owners, asked: dict[str, object]
) -> "Iterator[Test]":
    from overlayfs.view import search

    texts = {name: value for name, value in asked.items() if isinstance(value, str)}
    if "kinds" in texts:
        yield search.kinds(texts["kinds"])
    if "pattern" in texts:
        yield search.name(os.fsencode(texts["pattern"]))
    if "ipattern" in texts:
        yield search.name(os.fsencode(texts["ipattern"]), ignore_case=True)
    if "path_pattern" in texts:
        yield search.path(os.fsencode(texts["path_pattern"]))
    if "size" in texts:
        yield search.size(texts["size"])
    if "perm" in texts:
        yield search.mode(texts["perm"])
    if asked["suid"]:
        yield search.mode("-4000")
    if asked["sgid"]:
        yield search.mode("-2000")
    if "newer" in texts:
        yield search.newer(_time(view, image, texts["newer"]))
    if "user" in texts:
        yield search.owner(owners.uids(texts["user"]))
    if "group" in texts:
        yield search.group(owners.gids(texts["group"]))
    if isinstance(asked["layer"], int):
        yield search.layer(asked["layer"])
    if asked["empty"]:
        # Last: it may have to look into a directory.
        yield (
            lambda path, entry: (
                not view.list(path)
                if entry.is_dir
                else str(entry.kind) == "file" and not entry.size
            )
        )


def _time(view: "ImageView", image: str, text: str) -> int:
    """The time *text*, or that of the file of the image which it is the path of."""
    if text.startswith("/"):
        path = os.fsencode(text)
        with asking(view, image, path):
            return view.stat(path).mtime_ns
    try:
        when = datetime.fromisoformat(text)
    except ValueError as exc:
        raise OverlayError(
            f"{printable(text)!r} is no time", hint="say 2024-01-31, 2024-01-31T12:00Z or a /PATH"
        ) from exc
    seconds = when.replace(microsecond=0).timestamp()
    return int(seconds) * 1_000_000_000 + when.microsecond * 1000
