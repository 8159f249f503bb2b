"""What is looked up is what a mount shows, wherever the layers are."""

import gzip
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from overlayfs.archive.detect import open_image
from overlayfs.errors import InvalidImage
from overlayfs.linux import xattrs
from overlayfs.store.store import Store
from overlayfs.view.opening import of_source, of_stored
from tests.support.archives import Made, from_1_10, write_tar
from tests.support.command import kernel_mounted
from tests.support.tree import Tree, differences, snapshot
from tests.support.viewed import random_layers, view_snapshot

pytestmark = pytest.mark.usefixtures("needs_kernel_overlay")


def looked_up(archive: Path, scratch: Path) -> Tree:
    """The image in *archive*, which is read where it is."""
    with (
        open_image(str(archive), scratch=scratch) as source,
        of_source(source, what="image", scratch=scratch) as view,
    ):
        return view_snapshot(view)


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
@pytest.mark.parametrize("block", range(6))
def test_random_images(
    block: int, pack: Callable[[bytes], bytes], store: Store, tmp_path: Path
) -> None:
    refused = 0
    for seed in range(block * 25, block * 25 + 25):
        layers = random_layers(seed)
        members = [
            (name, pack(member) if isinstance(member, bytes) and "layer" in name else member)
            for name, member in from_1_10([(Made(tuple(layers)), ["app:1"])])
        ]
        archive = write_tar(tmp_path / f"{seed}.tar", members)
        try:
            with open_image(str(archive), scratch=store.scratch) as source:
                image = store.add(source)
        except InvalidImage:
            refused += 1
            with pytest.raises(InvalidImage):
                looked_up(archive, store.scratch)
            continue
        roots = [layer.path for layer in image.layers]
        # The kernel takes no notice of a root that is opaque; our mounts do.
        opaque = [
            at
            for at, root in enumerate(roots)
            if xattrs.get(os.fsencode(root), store.format.opaque)
        ]
        roots = roots[opaque[-1] if opaque else 0 :]
        with kernel_mounted(roots, tmp_path) as merged:
            mounted = snapshot(merged)
        with of_stored(image) as view:
            assert not differences(mounted, view_snapshot(view)), f"stored, seed {seed}"
        assert not differences(mounted, looked_up(archive, store.scratch)), f"seed {seed}"
    assert refused < 20
