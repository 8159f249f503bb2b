"""Which image a person means: by name, id or digest."""

from collections.abc import Sequence
from dataclasses import dataclass

from overlayfs.errors import AmbiguousImage, ImageNotFound, InvalidImage, OverlayError
from overlayfs.image.descriptor import Descriptor
from overlayfs.image.digest import Digest
from overlayfs.image.reference import Reference
from overlayfs.printable import printable
from overlayfs.store.kept import KeptImage
from overlayfs.store.names import SOURCE_DIGEST, name_of, plain
from overlayfs.store.paths import Paths

_SHORTEST_ID = 2


@dataclass(frozen=True, slots=True)
class Meant:
    """The image that was meant: an entry of the index for it, and the name if it was by one."""

    descriptor: Descriptor
    name: str | None


def find(paths: Paths, known: Sequence[Descriptor], reference: str) -> Meant:
    """The one of *known* that is called *reference*.

    That is a name, of which ``latest`` may be left out and before which a digest counts, the
    digest of a manifest, or two digits or more of the id that no other image has.  Raises
    ImageNotFound and AmbiguousImage.
    """
    parsed = _parsed(reference)
    fitting = _named(known, reference, parsed)
    if fitting:
        # By a name only one image goes, unless another tool wrote it twice: the last counts.
        return Meant(fitting[-1], name_of(fitting[-1]))
    if parsed is not None and parsed.digest is not None:
        fitting = _pinned(known, parsed, parsed.digest)
    if not fitting:
        fitting = [one for one in known if _is_called(paths, one, reference)]
    if not fitting:
        raise ImageNotFound(
            f"{printable(reference)}: no image of that name or id in the store {paths.root}",
            hint="`pyoverlay images` lists the images in the store",
        )
    if len({id_of(paths, one) for one in fitting}) > 1:
        raise AmbiguousImage(
            f"{printable(reference)}: several images have an id that begins so:\n"
            + "\n".join(_line(paths, one) for one in fitting)
        )
    return Meant(fitting[0], None)


def id_of(paths: Paths, descriptor: Descriptor) -> Digest:
    """The id of the image of *descriptor*; its own digest where that cannot be told any more."""
    try:
        return KeptImage(paths, descriptor).config_digest
    except InvalidImage:
        return descriptor.digest


def _parsed(reference: str) -> Reference | None:
    try:
        return Reference.parse(reference)
    except OverlayError:
        return None


def _named(
    known: Sequence[Descriptor], reference: str, parsed: Reference | None
) -> list[Descriptor]:
    exact = [one for one in known if name_of(one) == reference]
    if exact or parsed is None:
        return exact
    wanted = parsed.familiar
    return [one for one in known if (name := name_of(one)) and plain(name) == wanted]


def _pinned(known: Sequence[Descriptor], parsed: Reference, digest: Digest) -> list[Descriptor]:
    """Those with that digest, here or where they came from, unless they are called otherwise."""
    fitting = [
        one for one in known if one.digest == digest or one.annotation(SOURCE_DIGEST) == str(digest)
    ]
    names = {one.digest: False for one in fitting}
    for one in known:
        if one.digest in names and name_of(one) is not None:
            names[one.digest] = True
    return [
        one
        for one in fitting
        if not names[one.digest] or _repository(name_of(one)) == parsed.repository
    ]


def _repository(name: str | None) -> str | None:
    parsed = _parsed(name) if name is not None else None
    return parsed.repository if parsed else None


def _is_called(paths: Paths, descriptor: Descriptor, reference: str) -> bool:
    """Whether *reference* is the digest or a short form of the id of an image."""
    algorithm, colon, hexdigits = reference.rpartition(":")
    if colon and algorithm != "sha256":
        return False
    if len(hexdigits) < _SHORTEST_ID or hexdigits.strip("0123456789abcdef"):
        return False
    if descriptor.digest.hex == hexdigits:
        return True
    try:
        image = KeptImage(paths, descriptor)
    except InvalidImage:
        return False
    return image.config_digest.hex.startswith(hexdigits)


def _line(paths: Paths, one: Descriptor) -> str:
    return f"  {id_of(paths, one).short} {printable(name_of(one) or '(no name)')}"
