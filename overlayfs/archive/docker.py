"""docker-archive: what ``docker save`` and ``podman save`` write, in all its ages.

From Docker 1.10 on ``manifest.json`` lists the images; from 25 on the same tar is an OCI
layout too, where the images' own manifests are.  Before 1.10 there were but ``repositories``
and, for each layer, ``<id>/json`` and ``<id>/layer.tar``.
"""

import re
from collections.abc import Callable, Iterator
from functools import cache, partial

from overlayfs.archive.choice import Found, Variant, familiar
from overlayfs.archive.compression import decompressed
from overlayfs.archive.files import Files
from overlayfs.archive.image import ArchivedLayer, Contents, same_number
from overlayfs.archive.limits import Allowance
from overlayfs.errors import InvalidImage
from overlayfs.image.config import ImageConfig
from overlayfs.image.digest import Digest, HashingReader
from overlayfs.image.json import CONFIG_LIMIT, MANIFEST_LIMIT
from overlayfs.image.saved import SavedImage, parse_manifest_json, parse_repositories
from overlayfs.image.v1 import V1Image, synthesise

# "<hex>.json" (Docker, skopeo, podman), "blobs/sha256/<hex>" (Docker 25), "sha256:<hex>"
# (kaniko); any other name says nothing about the bytes.
_NAMED_BY_DIGEST = re.compile(r"(?:.*[/:])?([0-9a-f]{64})(?:\.json)?")
_V1_ID = re.compile(r"[0-9a-f]{64}")
_MOST_V1_LAYERS = 1000


def saved_images(files: Files, known: Callable[[Digest], Contents | None]) -> list[Found]:
    """The images that ``manifest.json`` lists.

    *known* gives the image with an id from the OCI layout beside it, which comes with a
    manifest of its own and blob digests.  Raises InvalidImage for a damaged list.
    """
    what = files.named("manifest.json")
    listed = parse_manifest_json(files.read("manifest.json", MANIFEST_LIMIT), what)
    return [
        Found(
            familiar(image.repo_tags),
            image.repo_tags,
            (
                Variant(
                    index,
                    (image.config, image.layers),
                    None,
                    nested=False,
                    load=partial(_load, files, image, known),
                ),
            ),
        )
        for index, image in enumerate(listed)
    ]


def _load(files: Files, image: SavedImage, known: Callable[[Digest], Contents | None]) -> Contents:
    raw = files.read(image.config, CONFIG_LIMIT)
    match = _NAMED_BY_DIGEST.fullmatch(image.config)
    if match:
        Digest("sha256", match[1]).check(raw, files.named(image.config))
    config = ImageConfig.parse(raw, files.named(image.config))
    same_number(files.named("manifest.json"), len(image.layers), len(config.diff_ids))
    if (found := known(config.id)) is not None:
        return found
    layers = tuple(
        _layer(files, path, diff_id)
        for path, diff_id in zip(image.layers, config.diff_ids, strict=True)
    )
    return Contents(None, None, config, config.id, layers)


def _layer(files: Files, path: str, diff_id: Digest) -> ArchivedLayer:
    size = files.size(path)
    if size is None:
        raise files.missing(path)
    return ArchivedLayer(files, path, size, diff_id)


def is_v1(files: Files) -> bool:
    """Whether this is an archive from before Docker 1.10."""
    return files.has("repositories") or any(_v1_ids(files))


def _v1_ids(files: Files) -> Iterator[str]:
    return (name for name in files.top() if _V1_ID.fullmatch(name) and files.has(f"{name}/json"))


def v1_images(files: Files) -> list[Found]:
    """The images of an archive without ``manifest.json``: named ones, else all tops.

    Raises InvalidImage for damaged lists and for an image that is its own ancestor.
    """
    named: dict[str, tuple[str, ...]] = {}
    if files.has("repositories"):
        data = files.read("repositories", MANIFEST_LIMIT)
        named = parse_repositories(data, files.named("repositories"))
    tops = list(named) or _tops(files)
    # Names may share layers, which are hashed once.
    diff_id = cache(partial(_diff_id, files))
    return [
        Found(
            familiar(named.get(top, ())),
            named.get(top, ()),
            (Variant(index, top, None, nested=False, load=partial(_load_v1, files, top, diff_id)),),
        )
        for index, top in enumerate(tops)
    ]


def _tops(files: Files) -> list[str]:
    """The images that no other is made from."""
    images = {image: _v1_image(files, image) for image in _v1_ids(files)}
    parents = {image.parent for image in images.values()}
    return [image for image in images if image not in parents]


def _v1_image(files: Files, image: str) -> V1Image:
    path = f"{image}/json"
    return V1Image.parse(files.read(path, CONFIG_LIMIT), files.named(path))


def _load_v1(files: Files, top: str, diff_id: Callable[[str], Digest]) -> Contents:
    chain: dict[str, V1Image] = {}
    image = top
    while image:
        if image in chain or len(chain) == _MOST_V1_LAYERS:
            raise InvalidImage(f"{files.named(top)}: its chain of parents does not end")
        chain[image] = _v1_image(files, image)
        image = chain[image].parent
    base_first = dict(reversed(chain.items()))
    layers = tuple(
        _layer(files, path := f"{image}/layer.tar", diff_id(path))
        for image, v1 in base_first.items()
        if not v1.throwaway
    )
    what = files.named(f"{top}/json")
    raw = synthesise(list(base_first.values()), [layer.diff_id for layer in layers], what)
    config = ImageConfig.parse(raw, what)
    return Contents(None, None, config, config.id, layers)


def _diff_id(files: Files, path: str) -> Digest:
    """Nothing in such an archive says what the layer must be, so it is what it is."""
    what = files.named(path)
    allowance = Allowance(files.size(path) or 0, what)
    plain = decompressed(files.open(path), what=what, allowance=allowance)
    with HashingReader(plain) as stream:
        while stream.read(1 << 20):
            pass
        return stream.digest
