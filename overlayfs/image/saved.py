"""The lists that ``docker save`` writes (moby, image/tarexport)."""

from dataclasses import dataclass

from msgspec import Struct

from overlayfs.image.json import decode


class _Item(Struct, rename="pascal"):
    config: str
    repo_tags: tuple[str, ...] | None = None
    layers: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class SavedImage:
    """One image of ``manifest.json``: paths inside the archive, and names as written."""

    config: str
    repo_tags: tuple[str, ...]
    layers: tuple[str, ...]


def parse_manifest_json(data: bytes, what: str = "manifest.json") -> tuple[SavedImage, ...]:
    """The images that *data*, a ``manifest.json``, lists; InvalidImage if it is none."""
    items = decode(data, tuple[_Item, ...], what)
    return tuple(SavedImage(item.config, item.repo_tags or (), item.layers or ()) for item in items)


def parse_repositories(data: bytes, what: str = "repositories") -> dict[str, tuple[str, ...]]:
    """The names ``name:tag`` of each v1 image id in *data*, a ``repositories`` file.

    Raises InvalidImage if it is none.
    """
    found: dict[str, list[str]] = {}
    for name, tags in decode(data, dict[str, dict[str, str]], what).items():
        for tag, image in tags.items():
            found.setdefault(image, []).append(f"{name}:{tag}")
    return {image: tuple(names) for image, names in found.items()}
