"""What a layer directory that others made is written in."""

import os
from pathlib import Path
from typing import NamedTuple

from overlayfs.linux import xattrs
from overlayfs.union.names import (
    OLD_OVERRIDE_STAT,
    OVERRIDE_STAT,
    PRIVILEGED_OVERRIDE_STAT,
    Format,
)


class Writing(NamedTuple):
    """The format of a layer, and whether the markers of a tar are whiteouts in it."""

    format: Format
    markers: bool


def recognise(layer: Path, native: Format) -> Writing:
    """How to read *layer*, *native* being what this process writes itself.

    A root directory with an override says that all files have one; containers/storage and
    fuse-overlayfs look at the root as well.  With a mount program, containers/storage
    leaves the markers of a tar as they are; its layers are called ``diff`` and have a file
    ``link`` beside them.  Anywhere else ``.wh.NAME`` is a name like any other.
    """
    found = native
    place = os.fsencode(layer)
    if any(xattrs.get(place, name) is not None for name in (OVERRIDE_STAT, OLD_OVERRIDE_STAT)):
        found = Format.USER
    elif xattrs.get(place, PRIVILEGED_OVERRIDE_STAT) is not None:
        found = Format.PRIVILEGED
    return Writing(found, has_markers(layer))


def has_markers(layer: Path) -> bool:
    """Whether *layer* is one of containers/storage, as ``recognise`` tells them."""
    return layer.name == "diff" and (layer.parent / "link").is_file()
