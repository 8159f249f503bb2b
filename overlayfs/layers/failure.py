"""Why the writing of a layer stopped, in words for the user."""

import errno
import os

from overlayfs.errors import InvalidImage, OverlayError


def explain(exc: OSError, what: str) -> OverlayError:
    """What to tell the user when *exc* stopped the unpacking of *what*."""
    if exc.errno in (errno.ENOSPC, errno.EDQUOT):
        return OverlayError(
            f"{what}: {exc.strerror or os.strerror(exc.errno)}",
            hint="make room where the store lies, or choose another place with --root",
        )
    kind = InvalidImage if exc.errno in _ENTRY_AT_FAULT else OverlayError
    return kind(f"{what}: {exc.strerror or exc}")


# Names too long, files on the way that are no directories, holes beyond any file's size.
_ENTRY_AT_FAULT = (
    errno.ENAMETOOLONG,
    errno.ENOTDIR,
    errno.ELOOP,
    errno.EFBIG,
    errno.EINVAL,
)
