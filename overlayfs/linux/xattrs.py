"""Extended attributes; see xattr(7).

A file is given by a path, whose last symbolic link is never followed, or by an open
descriptor.
"""

import errno
import os

Place = bytes | int

# EINVAL: everybody may give any file a security.capability without content, which cannot be
# read.  EOVERFLOW: one of a user that this user namespace does not know (capabilities(7)).
_NONE_HERE = (
    *(errno.ENODATA, errno.ENOTSUP, errno.EPERM, errno.EACCES),
    *(errno.EINVAL, errno.EOVERFLOW),
)


def get(place: Place, name: bytes) -> bytes | None:
    """The value of *name*; None when there is none or the file system keeps none."""
    try:
        return os.getxattr(place, name, follow_symlinks=isinstance(place, int))
    except OSError as exc:
        if exc.errno in _NONE_HERE:
            return None
        raise


def names(place: Place) -> list[bytes]:
    """The names of all attributes; none where the file system keeps none."""
    try:
        found = os.listxattr(place, follow_symlinks=isinstance(place, int))
    except OSError as exc:
        if exc.errno in _NONE_HERE:
            return []
        raise
    return [os.fsencode(name) for name in found]


def put(place: Place, name: bytes, value: bytes) -> None:
    """Set *name* to *value*, whether it was there or not."""
    os.setxattr(place, name, value, follow_symlinks=isinstance(place, int))


def remove(place: Place, name: bytes) -> None:
    """Remove *name*; OSError ENODATA when it is not there."""
    os.removexattr(place, name, follow_symlinks=isinstance(place, int))
