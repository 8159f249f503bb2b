"""``pyoverlay inspect``: everything about images."""

from pathlib import Path

import click

from overlayfs.cli import suggestions
from overlayfs.cli.facts import ImageFacts, image_facts
from overlayfs.cli.inspection import inspected, summary
from overlayfs.cli.listing import print_filled
from overlayfs.cli.options import json_option, platform_option, root_option
from overlayfs.cli.output import print_json, print_line
from overlayfs.cli.templates.template import Template
from overlayfs.errors import OverlayError
from overlayfs.image.platform import Platform


@click.command(
    name="inspect",
    epilog="IMAGE is an image of the store, a file or directory as for `pyoverlay mount` (nothing "
    "is taken into the store), or a directory where one is mounted.\n\n"
    "What is printed is JSON, an array of one object for each IMAGE, under the names that "
    "`docker inspect` has; docs/inspect.md lists them.\n\n"
    "Examples:\n\n\b\n"
    "  pyoverlay inspect busybox\n"
    "  pyoverlay inspect --summary image.tar\n"
    "  pyoverlay inspect --format '{{json .Config}}' image.tar /mnt/root\n"
    "  pyoverlay inspect --format '{{range .Layers}}{{println .DiffID .Size}}{{end}}' busybox\n"
    "  pyoverlay inspect --raw busybox | sha256sum\n",
)
@click.argument(
    "images",
    metavar="IMAGE...",
    nargs=-1,
    required=True,
    shell_complete=suggestions.images_and_mountpoints,
)
@click.option("-f", "--format", "form", metavar="FORM", help="json, or a template.")
@click.option("-s", "--summary", "short", is_flag=True, help="Print lines for people.")
@click.option("--raw", is_flag=True, help="Print the exact bytes of the manifest.")
@click.option("--config", is_flag=True, help="Print the exact bytes of the configuration.")
@platform_option
@json_option
@root_option
def command(
    images: tuple[str, ...],
    form: str | None,
    short: bool,
    raw: bool,
    config: bool,
    platform: str | None,
    as_json: bool,
    root: Path | None,
) -> None:
    """Show all that is known of each IMAGE."""
    if sum([form is not None, short, raw, config, as_json]) > 1:
        raise click.UsageError(
            "--format, --summary, --raw, --config and --json exclude each other."
        )
    if (raw or config) and len(images) > 1:
        raise click.UsageError("--raw and --config take one IMAGE.")
    template = None if form in (None, "", "json") else Template.parse(str(form))
    wanted = None if platform is None else Platform.parse(platform)
    found = [image_facts(root, image, wanted) for image in images]
    if raw:
        click.echo(_manifest(found[0], images[0]), nl=False)
    elif config:
        click.echo(found[0].config.raw, nl=False)
    elif short:
        for number, image in enumerate(found):
            if number:
                click.echo()
            _print_summary(image)
    elif template is None:
        print_json([inspected(image) for image in found])
    else:
        for image in found:
            print_filled(template.render(inspected(image)))


def _manifest(image: ImageFacts, name: str) -> bytes:
    if image.raw_manifest is None:
        raise OverlayError(
            f"{name}: has no manifest: what `docker save` writes has none",
            hint="--config prints the configuration, whose digest is the image's id",
        )
    return image.raw_manifest


def _print_summary(image: ImageFacts) -> None:
    lines = [(title, text) for title, text in summary(image) if text]
    width = max(len(title) for title, _ in lines)
    for title, text in lines:
        print_line(f"{title.ljust(width)}  {text}")
