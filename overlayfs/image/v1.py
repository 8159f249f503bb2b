"""Images from before content addresses: a chain of layers, each with a JSON of its own.

Docker 1.10 made configurations out of these (moby, image/v1/imagev1.go); what is made here
has the same bytes, so the image has the id that Docker gives it when it loads the archive.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

import msgspec
from msgspec import Raw, Struct

from overlayfs.image.digest import Digest
from overlayfs.image.json import CONFIG_LIMIT, decode, encode

# What MakeConfigFromV1Config takes out.
_DROPPED = ("id", "parent", "Size", "parent_id", "layer_id", "throwaway")


class _Command(Struct, rename="pascal"):
    cmd: tuple[str, ...] | str | None = None


class _Document(Struct):
    parent: str | None = None
    created: str | None = None
    author: str | None = None
    comment: str | None = None
    container_config: _Command | None = None
    throwaway: bool | None = None


class _Step(Struct, omit_defaults=True):
    """A history entry, in the order and with the omissions of Go's encoder."""

    created: str
    author: str = ""
    created_by: str = ""
    comment: str = ""
    empty_layer: bool = False


@dataclass(frozen=True, slots=True)
class V1Image:
    """One ``<id>/json``: a layer, and the id of the image below it (empty at the base).

    *throwaway* says that the layer changes nothing and has no tar.
    """

    parent: str
    throwaway: bool
    step: _Step
    raw: bytes = field(repr=False)

    @classmethod
    def parse(cls, raw: bytes, what: str = "json") -> Self:
        """The image that *raw* is; InvalidImage, beginning with *what*, if it is none."""
        found = decode(raw, _Document, what, limit=CONFIG_LIMIT)
        command = (found.container_config or _Command()).cmd or ()
        step = _Step(
            created=found.created or "0001-01-01T00:00:00Z",
            author=found.author or "",
            created_by=command if isinstance(command, str) else " ".join(command),
            comment=found.comment or "",
            empty_layer=bool(found.throwaway),
        )
        return cls(found.parent or "", bool(found.throwaway), step, raw)


def synthesise(chain: Sequence[V1Image], diff_ids: Sequence[Digest], what: str = "json") -> bytes:
    """The configuration of the image that *chain*, base first, is; never empty.

    *diff_ids* are those of the layers that are not thrown away.
    """
    fields = decode(chain[-1].raw, dict[str, Raw], what, limit=CONFIG_LIMIT)
    for name in _DROPPED:
        fields.pop(name, None)
    fields["rootfs"] = Raw(encode({"type": "layers", "diff_ids": list(diff_ids)}))
    fields["history"] = Raw(encode([image.step for image in chain]))
    # Go's encoder sorts the keys of a map and writes these as escapes.  They are in strings,
    # which is the only place where JSON can have them.
    data = msgspec.json.encode(dict(sorted(fields.items())))
    for char in "<>&\u2028\u2029":
        data = data.replace(char.encode(), b"\\u%04x" % ord(char))
    return data
