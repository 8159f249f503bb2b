"""``pyoverlay explore``: an image in the terminal, with its layers and its files."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import click

from overlayfs import mounting
from overlayfs.cli import suggestions
from overlayfs.cli.options import platform_option, root_option
from overlayfs.cli.sources import opened, scratch
from overlayfs.errors import ImageNotFound, OverlayError
from overlayfs.image.config import History, ImageConfig
from overlayfs.image.history import Step, paired
from overlayfs.image.platform import Platform
from overlayfs.printable import printable
from overlayfs.store.paths import default_root
from overlayfs.store.store import Store, StoredImage

if TYPE_CHECKING:
    from overlayfs.image.source import ImageSource
    from overlayfs.store.mounts import Record
    from overlayfs.tui.subject import Layer, Subject


@click.command(
    name="explore",
    epilog="IMAGE is an image of the store, a file or directory as for `pyoverlay mount`, which "
    "is not taken into the store, or the mount point of one: its changes are the last layer "
    "then.\n\nThe key ? lists the keys.\n\n"
    "Examples:\n\n\b\n"
    "  pyoverlay explore image.tar\n"
    "  pyoverlay explore debian:12\n"
    "  pyoverlay explore /mnt/root\n",
)
@click.argument("image", shell_complete=suggestions.images_and_mountpoints)
@platform_option
@root_option
@click.pass_context
def command(ctx: click.Context, image: str, platform: str | None, root: Path | None) -> None:
    """Explore the layers and files of IMAGE in the terminal."""
    check_library()
    check_terminal(os.environ)
    wanted = None if platform is None else Platform.parse(platform)
    with subject(root, image, wanted) as found:
        from overlayfs.tui.explorer import Explorer

        # Textual takes NO_COLOR out of the environment, and the pager is to have it.
        explorer = Explorer(found, dict(os.environ))
        failure = explorer.run()
        if failure is not None:
            raise failure
        if explorer.return_code:
            # A bug; Textual has printed what it knows.
            ctx.exit(4)


def check_library() -> None:
    """Raises OverlayError when what draws is not installed."""
    if find_spec("textual") is None:
        raise OverlayError(
            "explore needs the library textual, which is not installed",
            hint="pip install 'pyoverlayfs[tui]'",
        )


def check_terminal(environ: Mapping[str, str]) -> None:
    """Raises OverlayError unless there is a terminal to draw on and to be told by."""
    hint = "`pyoverlay layers`, `tree` and `ls` print what there is to see"
    if not all(os.isatty(fd) for fd in (0, 1, 2)):
        raise OverlayError("explore needs a terminal for input, output and errors", hint=hint)
    term = environ.get("TERM", "")
    if term in ("", "dumb", "unknown"):
        raise OverlayError(
            f"explore cannot draw on a terminal of the type {printable(term) or 'unknown'}",
            hint=hint,
        )


@contextmanager
def subject(root: Path | None, text: str, platform: Platform | None) -> "Iterator[Subject]":
    """What the argument *text* means: a mount, or an image as ``cli.sources.opened`` has it."""
    record = mounting.mounted_at(root or default_root(), Path(text)) if os.sep in text else None
    if record is not None:
        yield _mounted(Store.open(root), record)
        return
    with opened(root, text, platform) as found:
        if isinstance(found, StoredImage):
            yield _stored(found, text)
        else:
            yield _archived(found, text)


def _stored(image: StoredImage, title: str) -> "Subject":
    from overlayfs.tui.subject import Subject
    from overlayfs.view.opening import of_stored

    view = partial(of_stored, image)
    steps = paired(image.config.history, _layers_of(image))
    return Subject(title, steps, view, image.config)


def _archived(source: "ImageSource", title: str) -> "Subject":
    from overlayfs.tui.subject import Layer, Subject
    from overlayfs.view.opening import of_source

    config = ImageConfig.parse(source.config, f"{title}: image configuration")
    layers = [
        Layer(layer.diff_id, layer.size, layer.descriptor.media_type if layer.descriptor else "")
        for layer in source.layers
    ]
    view = partial(of_source, source, what=printable(title), scratch=scratch())
    return Subject(title, paired(config.history, layers), view, config)


def _mounted(store: Store, record: "Record") -> "Subject":
    """A mount; its image may have lost its name meanwhile, and with it what is said of layers."""
    from overlayfs.tui.subject import Layer, Subject
    from overlayfs.view.opening import of_mount

    try:
        image = store.image(record.image_id)
    except ImageNotFound:
        config = None
        steps: Sequence[Step[Layer]] = paired((), [Layer(None) for _ in record.layers])
    else:
        config = image.config
        steps = _up_to(paired(config.history, _layers_of(image)), len(record.layers))
    if record.upper:
        number = len(record.layers) + 1
        said = History(created_by=f"changes at {record.mountpoint}")
        steps = [*steps, Step(said, Layer(None), number)]
    title = f"{record.image} at {record.mountpoint}"
    return Subject(title, tuple(steps), partial(of_mount, record), config)


def _up_to(steps: "Sequence[Step[Layer]]", number: int) -> "Sequence[Step[Layer]]":
    """The steps of an image as it was after the layer *number*, which is all that is mounted."""
    last = max((place for place, step in enumerate(steps) if step.number == number), default=-1)
    complete = all(step.number is None or step.number <= number for step in steps)
    return steps if complete else steps[: last + 1]


def _layers_of(image: StoredImage) -> "list[Layer]":
    from overlayfs.tui.subject import Layer

    return [Layer(layer.diff_id, layer.blob.size, layer.blob.media_type) for layer in image.layers]
