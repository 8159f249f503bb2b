"""Which versions of what we stand on there are."""

import os
import platform
from importlib import metadata

from overlayfs.linux import libfuse as library


def pyfuse3() -> str | None:
    """The version of pyfuse3 that is installed, without importing it."""
    try:
        return metadata.version("pyfuse3")
    except metadata.PackageNotFoundError:
        return None


def libfuse() -> str | None:
    """The version of libfuse 3."""
    return library.version()


def python() -> str:
    """The version of Python."""
    return platform.python_version()


def kernel() -> str:
    """The release of the kernel (uname(2))."""
    return os.uname().release
