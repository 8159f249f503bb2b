"""What the tests of layers share."""

import io
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from overlayfs.layers.writer import Unpacked, unpack
from overlayfs.union.names import Format

Unpack = Callable[[bytes], Unpacked]


@pytest.fixture(params=[Format.KERNEL, Format.USER], ids=str)
def fmt(request: pytest.FixtureRequest) -> Format:
    """What layers are unpacked in; the kernel's where devices and owners can be made."""
    if request.param is Format.KERNEL and os.geteuid() != 0:
        pytest.skip("the kernel's format needs root")
    return Format(request.param)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Where the layer is unpacked to; the folder around it is the layer's own."""
    (tmp_path / "draft").mkdir()
    return tmp_path / "draft" / "root"


@pytest.fixture
def unpacked(root: Path, fmt: Format) -> Unpack:
    """Unpack a tar to ``root``."""

    def unpacked(data: bytes) -> Unpacked:
        return unpack(io.BytesIO(data), root, fmt)

    return unpacked
