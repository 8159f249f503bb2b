"""What has been removed, for people and programs."""

from collections.abc import Iterator
from typing import Any

from overlayfs.store.removing import Removed


def lines(removed: Removed) -> Iterator[str]:
    """What docker prints: names, images, and layers by their chains."""
    yield from (f"Untagged: {name}" for name in removed.untagged)
    yield from (f"Deleted: {image}" for image in removed.images)
    yield from (f"Deleted: sha256:{chain}" for chain in removed.swept.chains)


def left(reason: str) -> str:
    """Why layers and blobs stay that nothing may need."""
    return f"layers and blobs stay, as it cannot be told who needs them: {reason}"


def as_dict(removed: Removed) -> dict[str, Any]:
    """The same as ``--json`` shows it."""
    return {
        "untagged": list(removed.untagged),
        "deleted": [str(image) for image in removed.images],
        "layers": [f"sha256:{chain}" for chain in removed.swept.chains],
        "freed": removed.swept.freed,
    }
