"""The tree of an image as a tar."""

import os

from overlayfs.archive.writing.tar import TarEntry, TarWriter
from overlayfs.errors import OverlayError
from overlayfs.printable import printable
from overlayfs.union.attrs import Kind
from overlayfs.view.image import ImageView


def write_view(
    view: ImageView, writer: TarWriter, top: bytes = b"", *, name: bytes = b""
) -> list[bytes]:
    """Write *top*, and all in it, to *writer*, in the order of names; the paths left out.

    *top* is called *name* in the tar, and if that is empty what is in it lies at the root.
    Left out are sockets, which no tar can hold.  Names of one file are hard links to the first
    of them.  The same tree makes the same tar, wherever it lies.  Raises InvalidImage for a
    layer that is damaged and OverlayError for what cannot be read, or changes meanwhile.
    """
    left_out: list[bytes] = []
    first: dict[tuple[int, int], bytes] = {}
    # What a layer further up hides is not asked for, so names come from several layers.
    parts = {part.number: part for part in view.parts}
    real = view.resolve(top, follow=False)
    for path, entry in view.walk(real, follow=False):
        if entry.kind is Kind.SOCKET:
            left_out.append(path)
            continue
        part = parts[entry.layer]
        beneath = path[len(real) :].strip(b"/")
        place = name + b"/" + beneath if name and beneath else name or beneath
        linked = None
        if entry.nlink > 1 and not entry.is_dir:
            before = first.setdefault((entry.layer, entry.file), place)
            linked = before if before != place else None
        try:
            written = TarEntry(
                place,
                entry.kind,
                entry.mode & 0o7777,
                entry.uid,
                entry.gid,
                entry.mtime_ns,
                entry.size if entry.kind is Kind.FILE else 0,
                entry.target,
                linked,
                entry.rdev,
                part.xattrs(path) if linked is None else {},
            )
            if entry.kind is Kind.FILE and linked is None:
                with part.open(path) as body:
                    writer.add(written, body)
            else:
                writer.add(written)
        except BrokenPipeError:
            raise
        except OSError as exc:
            reason = exc.strerror or os.strerror(exc.errno or 0)
            raise OverlayError(f"/{printable(path, 300)}: {reason}") from exc
    return left_out
