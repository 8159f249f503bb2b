"""Layers and what they lie on (image-spec, config.md, "Layer ChainID")."""

from collections.abc import Iterable
from typing import NamedTuple

from overlayfs.image.digest import Digest


class Step(NamedTuple):
    """A layer of an image: *chain* names it with all below, *parent* all below alone."""

    diff_id: Digest
    chain: Digest
    parent: Digest | None


def steps(diff_ids: Iterable[Digest]) -> tuple[Step, ...]:
    """The layers *diff_ids*, base first, each with what it lies on."""
    found = []
    parent: Digest | None = None
    for diff_id in diff_ids:
        chain = Digest.of(f"{parent} {diff_id}".encode()) if parent else diff_id
        found.append(Step(diff_id, chain, parent))
        parent = chain
    return tuple(found)
