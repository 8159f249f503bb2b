"""What a change makes of attributes."""

import stat

import pytest

from overlayfs.union.attrs import AttrChange, Attrs, changed

BEFORE = Attrs(stat.S_IFREG | 0o644, 2, 3, 4, 5, 6, 7, 8, 9, 10)


@pytest.mark.parametrize(
    ("change", "after"),
    [
        (AttrChange(), BEFORE),
        (AttrChange(mode=0o7700), BEFORE._replace(mode=stat.S_IFREG | 0o7700)),
        (AttrChange(mode=stat.S_IFDIR | 0o700), BEFORE._replace(mode=stat.S_IFREG | 0o700)),
        (AttrChange(uid=0, gid=0), BEFORE._replace(uid=0, gid=0)),
        (AttrChange(uid=50), BEFORE._replace(uid=50)),
        (AttrChange(size=0), BEFORE._replace(size=0)),
        (AttrChange(atime_ns=0), BEFORE._replace(atime_ns=0)),
        (AttrChange(mtime_ns=1), BEFORE._replace(mtime_ns=1)),
    ],
)
def test_what_is_none_stays(change: AttrChange, after: Attrs) -> None:
    assert changed(BEFORE, change) == after
