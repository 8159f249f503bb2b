"""What a shell offers when Tab is pressed: images, mount points, and files beside them.

Imported by all commands, so what only a completion needs is not imported before one.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from overlayfs.errors import OverlayError
from overlayfs.store.paths import default_root
from overlayfs.store.store import Store

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


def images(ctx: click.Context, param: click.Parameter, incomplete: str) -> "list[CompletionItem]":
    """Names in the store that begin so, else files."""
    from click.shell_completion import CompletionItem

    # First, since bash forgets at this word what was offered before it.
    return [CompletionItem(incomplete, type="file"), *stored_images(ctx, param, incomplete)]


def stored_images(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> "list[CompletionItem]":
    """Names in the store that begin so."""
    from click.shell_completion import CompletionItem

    names = [name for store in _store(ctx) for image in store.images() for name in image.names]
    return [CompletionItem(name) for name in sorted(names) if name.startswith(incomplete)]


def images_and_mountpoints(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> "list[CompletionItem]":
    """What ``images`` offers, and where something of pyoverlay is mounted."""
    return [*images(ctx, param, incomplete), *mountpoints(ctx, param, incomplete)]


def mountpoints(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> "list[CompletionItem]":
    """Where something of pyoverlay is mounted, and begins so."""
    from click.shell_completion import CompletionItem

    from overlayfs import mounting

    places = [str(record.mountpoint) for store in _store(ctx) for record in mounting.mounts(store)]
    return [CompletionItem(place) for place in places if place.startswith(incomplete)]


def _store(ctx: click.Context) -> Iterator[Store]:
    """The store, where there is one: asking for suggestions must not make it, nor complain."""
    root = ctx.params.get("root") or default_root()
    try:
        if Path(root).is_dir():
            yield Store.open(Path(root))
    except (OverlayError, OSError):
        return
