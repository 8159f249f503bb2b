"""The index that the kernel's overlayfs keeps with ``index=on``, in the kernel's own form.

A copy of a lower file with several names lies in ``work/index``, under a name made of the
file handle of what it was copied from.  What names it has in the upper directory are hard
links of that; its other names stay beneath, and whoever comes to one of them finds the copy
by its handle (Documentation/filesystems/overlayfs.rst, "Index"; ovl_lookup_index() and
ovl_indexdir_cleanup() in fs/overlayfs).
"""

import errno
import logging
import os
import shutil
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from overlayfs.errors import MountFailed
from overlayfs.layers.lower import Layer
from overlayfs.linux import fds, handles, xattrs
from overlayfs.linux.files import RENAME_NOREPLACE, renameat2
from overlayfs.printable import printable
from overlayfs.union.names import Format
from overlayfs.union.origins import NUMBER, Origin, links, relative_to_lower, relative_to_upper

log = logging.getLogger(__name__)

_PREFIX = Format.KERNEL.prefix
_ORIGIN, _UPPER = _PREFIX + b"origin", _PREFIX + b"upper"
_NLINK, _IMPURE, _NUMBER = _PREFIX + b"nlink", _PREFIX + b"impure", _PREFIX + NUMBER

# The file systems or the rights of this process do not allow for it.
_UNABLE = (errno.EOPNOTSUPP, errno.ENOTTY, errno.EPERM, errno.ENOSYS, errno.EOVERFLOW)


@dataclass(slots=True)
class Entry:
    """One copy in the index, called *name* there and *inode* on its disk.

    *layer* has the file *source*, with *lower* links, that it is a copy of.  The copy has
    *extra* links more than it has on the disk, which counts the index but not the names that
    only lower layers have.  *number* is its inode number in the union, 0 when nobody said.
    """

    name: bytes
    inode: int
    layer: Layer
    source: int
    lower: int
    extra: int
    number: int = 0

    @property
    def has_names_beneath(self) -> bool:
        """Whether there are names that only lower layers have."""
        return self.extra >= 0


class KernelIndex:
    """The entries of the index directory *fd*."""

    def __init__(self, fd: int, uuids: dict[int, bytes]) -> None:
        """Nothing is read yet; *uuids* has those of the file systems of lower layers."""
        self.fd = fd
        self._uuids = uuids
        self._by_inode: dict[int, Entry] = {}
        self._by_source: dict[tuple[int, int], Entry] = {}

    @classmethod
    def begin(cls, fd: int, upper: Layer, layers: Sequence[Layer]) -> "KernelIndex | None":
        """The index of *upper* over *layers*, as it was left or a new one.

        None where there are no file handles or attributes, as the kernel goes on without then.
        Raises MountFailed when it was made over other directories, or by somebody unknown.
        """
        try:
            ours = handles.handle(upper.root)
            os.close(handles.open_path(upper.root, ours))
            mine = Origin(handles.uuid(upper.root), *ours)
            uuids: dict[int, bytes] = {}
            for layer in layers:
                if layer.device not in uuids:
                    handles.handle(layer.root)
                    uuids[layer.device] = handles.uuid(layer.root)
            top = Origin(uuids[layers[0].device], *handles.handle(layers[0].root))
            if len(set(uuids.values())) < len(uuids):
                log.info("%s: two lower file systems with one UUID, so no index", upper.path)
                return None
            _verify(upper.root, _ORIGIN, top.encode(), upper.path)
            _verify(fd, _UPPER, mine.encode(upper=True), upper.path)
        except OSError as exc:
            if exc.errno not in _UNABLE:
                raise
            log.info("%s: no file handles or attributes, so no index: %s", upper.path, exc)
            return None
        index = cls(fd, uuids)
        index._read(upper.path, layers)
        return index

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._by_inode.values())

    # -- finding -----------------------------------------------------------------------

    def of_copy(self, inode: int) -> Entry | None:
        """The entry that *inode* of the upper layer is a link of."""
        return self._by_inode.get(inode)

    def of_source(self, layer: Layer, inode: int) -> Entry | None:
        """The entry of the copy of *inode* of a lower layer."""
        return self._by_source.get((layer.device, inode))

    @staticmethod
    def has_had(place: xattrs.Place) -> bool:
        """Whether the file at *place* is a copy that an index has, or has had.

        When it has it no more, what it was made of is gone, and the inode of that may be used
        by another file; a file handle would tell these apart.
        """
        return xattrs.get(place, _ORIGIN) is not None

    def links(self, entry: Entry) -> int:
        """How many names the copy has, those that only lower layers have among them."""
        return self._on_disk(entry) + entry.extra

    def _on_disk(self, entry: Entry) -> int:
        return os.stat(entry.name, dir_fd=self.fd, follow_symlinks=False).st_nlink

    # -- changing ----------------------------------------------------------------------

    def add(
        self, work: int, draft: bytes, place: xattrs.Place, source: tuple[Layer, int], count: int
    ) -> Entry | None:
        """Move *draft* from the directory *work* here, as the copy of the file at *place*.

        That is *source*, an inode of a layer, and has *count* links that are not hidden.
        From then on the copy is what all its names show.  None, and nothing is done, when
        there is a copy already: the file has names in several layers.
        """
        layer, inode = source
        origin = Origin(self._uuids[layer.device], *handles.handle(place)).encode()
        name = origin.hex().encode()
        target = fds.beneath(work, draft)
        xattrs.put(target, _ORIGIN, origin)
        xattrs.put(target, _NLINK, relative_to_upper(count - 1))
        lower = _stat(place).st_nlink
        copy = os.stat(draft, dir_fd=work, follow_symlinks=False).st_ino
        try:
            renameat2(work, draft, self.fd, name, RENAME_NOREPLACE)
        except FileExistsError:
            for attribute in (_ORIGIN, _NLINK):
                xattrs.remove(target, attribute)
            return None
        entry = Entry(name, copy, layer, inode, lower, count - 1)
        self._enter(entry)
        return entry

    def lift(self, entry: Entry, dir_fd: int, name: bytes) -> None:
        """Give the copy *name* in the upper directory *dir_fd*, which only a lower layer had.

        The number of links is the same before, after and amid that, as the kernel does it.
        """
        place = fds.beneath(self.fd, entry.name)
        count = self.links(entry)
        # A listing of the kernel's tells the right inode numbers then.
        xattrs.put(dir_fd, _IMPURE, b"y")
        xattrs.put(place, _NLINK, relative_to_lower(count - entry.lower))
        try:
            os.link(entry.name, name, src_dir_fd=self.fd, dst_dir_fd=dir_fd, follow_symlinks=False)
            entry.extra -= 1
        finally:
            xattrs.put(place, _NLINK, relative_to_upper(entry.extra))

    def drop(self, entry: Entry) -> None:
        """Remove the copy, whose last name is gone."""
        os.unlink(entry.name, dir_fd=self.fd)
        del self._by_inode[entry.inode]
        del self._by_source[entry.layer.device, entry.source]

    # -- reading -----------------------------------------------------------------------

    def _enter(self, entry: Entry) -> None:
        self._by_inode[entry.inode] = entry
        self._by_source[entry.layer.device, entry.source] = entry

    def _read(self, upper: Path, layers: Sequence[Layer]) -> None:
        """Take the entries that count, and remove those that a crash has left."""
        with os.scandir(self.fd) as listing:
            names = [os.fsencode(entry.name) for entry in listing]
        for name in names:
            st = os.stat(name, dir_fd=self.fd, follow_symlinks=False)
            if name.startswith(b"#"):
                self._discard(name, st)
            elif not (stat.S_ISDIR(st.st_mode) or _is_whiteout(st)):
                # Those two are for file handles of files of the mount (nfs_export).
                self._take(name, st, upper, layers)

    def _discard(self, name: bytes, st: os.stat_result) -> None:
        if stat.S_ISDIR(st.st_mode):
            shutil.rmtree(name, dir_fd=self.fd)
        else:
            os.unlink(name, dir_fd=self.fd)

    def _take(self, name: bytes, st: os.stat_result, upper: Path, layers: Sequence[Layer]) -> None:
        place = fds.beneath(self.fd, name)
        said = xattrs.get(place, _ORIGIN)
        try:
            value = bytes.fromhex(name.decode())
            origin = Origin.decode(value)
        except ValueError:
            said = None
        if said is None:
            raise MountFailed(
                f"{upper}: {printable(name)} in its index is none of overlayfs's",
                hint="remove it if it may go, or mount without index=on",
            )
        found = self._find(origin, layers) if said == value else None
        if found is None or stat.S_IFMT(found[1].st_mode) != stat.S_IFMT(st.st_mode):
            # What it was made of is gone; if it has names, they are in the upper directory.
            if said != value or st.st_nlink == 1:
                os.unlink(name, dir_fd=self.fd)
            return
        layer, source = found
        noted = xattrs.get(place, _NLINK)
        count = links(noted, upper=st.st_nlink, lower=source.st_nlink)
        if count is None:
            # Without a note it is a copy that no name was made for, and no name shows it.
            if st.st_nlink == 1:
                os.unlink(name, dir_fd=self.fd)
                return
            count = st.st_nlink
        entry = Entry(name, st.st_ino, layer, source.st_ino, source.st_nlink, count - st.st_nlink)
        number = xattrs.get(place, _NUMBER) or b""
        entry.number = int(number) if number.isdigit() else 0
        self._enter(entry)
        if noted != relative_to_upper(entry.extra):
            xattrs.put(place, _NLINK, relative_to_upper(entry.extra))

    def _find(self, origin: Origin, layers: Sequence[Layer]) -> tuple[Layer, os.stat_result] | None:
        """The lower file *origin*, if there is one yet."""
        layer = next((each for each in layers if self._uuids[each.device] == origin.uuid), None)
        if layer is None:
            return None
        try:
            fd = handles.open_path(layer.root, handles.Handle(origin.kind, origin.body))
        except OSError as exc:
            if exc.errno not in (errno.ESTALE, errno.EINVAL):
                raise
            return None
        try:
            return layer, os.fstat(fd)
        finally:
            os.close(fd)


def _verify(place: int, attribute: bytes, value: bytes, upper: Path) -> None:
    """Note *value* down at the directory *place*; MountFailed when it says something else."""
    said = xattrs.get(place, attribute)
    if said is None:
        xattrs.put(place, attribute, value)
    elif said != value:
        raise MountFailed(
            f"{upper}: its index is one for other directories",
            hint="mount it with those that it was made with, or without index=on",
        )


def _stat(place: xattrs.Place) -> os.stat_result:
    return os.fstat(place) if isinstance(place, int) else os.lstat(place)


def _is_whiteout(st: os.stat_result) -> bool:
    return stat.S_ISCHR(st.st_mode) and not st.st_rdev
