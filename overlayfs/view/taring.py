"""A part of an image as a tar."""

from typing import TYPE_CHECKING

from overlayfs.archive.writing.tar import TarEntry, TarWriter
from overlayfs.union.attrs import Kind
from overlayfs.view.image import ImageView

if TYPE_CHECKING:
    from overlayfs.archive.writing.sinks import Sink


def write_tar(view: ImageView, top: bytes, out: "Sink", *, name: bytes = b"") -> None:
    """Write what *top* is, with all beneath if it is a directory, to *out*.

    The first entry is called *name*, the others lie in it; with no name, ``./`` and beside
    it.  Hard links stay such where both names are among them.  Sockets, which no tar can
    hold, are left out.
    """
    tar = TarWriter(out)
    real = view.resolve(top, follow=False)
    named: dict[tuple[int, int], bytes] = {}
    for path, entry in view.walk(real, follow=False):
        if entry.kind is Kind.SOCKET:
            continue
        beneath = path[len(real) :].lstrip(b"/")
        place = b"/".join(part for part in (name, beneath) if part)
        linked = None
        if entry.nlink > 1 and not entry.is_dir:
            linked = named.get((entry.layer, entry.file))
            named.setdefault((entry.layer, entry.file), place)
        made = TarEntry(
            place,
            entry.kind,
            entry.mode & 0o7777,
            entry.uid,
            entry.gid,
            entry.mtime_ns,
            entry.size,
            entry.target,
            linked,
            entry.rdev,
            view.xattrs(path, follow=False) if linked is None else {},
        )
        if entry.kind is Kind.FILE and linked is None:
            with view.open(path) as body:
                tar.add(made, body)
        else:
            tar.add(made)
    tar.end()
