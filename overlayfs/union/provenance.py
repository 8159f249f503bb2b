"""Which layer a file is from, as extended attributes that lie on no disk.

mergerfs has such (``user.mergerfs.basepath`` and others), and so has CephFS (``ceph.*``).
"""

from collections.abc import Iterable, Mapping

LAYER = b"user.pyoverlay.layer"
DIFF_ID = b"user.pyoverlay.diff_id"
CREATED_BY = b"user.pyoverlay.created_by"
NAMES = frozenset((LAYER, DIFF_ID, CREATED_BY))

# The values by layer number, and by name.
Labels = Mapping[int, Mapping[bytes, bytes]]

# XATTR_SIZE_MAX, linux/limits.h.
_LONGEST = 65536


def labels(layers: Iterable[tuple[str, str]]) -> Labels:
    """What the files of each layer say, given its diff id and what made it, base first.

    Numbers begin with 1.  What is not known is left out.
    """
    return {
        number: {
            name: value.encode("utf-8", "replace")[:_LONGEST]
            for name, value in (
                (LAYER, str(number)),
                (DIFF_ID, diff_id),
                (CREATED_BY, created_by),
            )
            if value
        }
        for number, (diff_id, created_by) in enumerate(layers, 1)
    }
