"""Which of the images in an archive is meant."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from overlayfs.archive.image import Contents
from overlayfs.errors import AmbiguousImage, ImageNotFound, InvalidImage, OverlayError
from overlayfs.image.digest import Digest
from overlayfs.image.platform import Platform, best
from overlayfs.image.reference import Reference
from overlayfs.printable import printable

# What an error lists; `pyoverlay images` lists all.
_MOST_LISTED = 20
_LONGEST_LINE = 160
# Each is an entry in the index of the store, which is read whole.
_MOST_NAMES = 1000


@dataclass(frozen=True, slots=True)
class Choice:
    """One image of an archive, as a list shows it; *index* is what ``@INDEX`` takes."""

    names: tuple[str, ...]
    index: int
    platform: Platform | None
    id: Digest


@dataclass(frozen=True, slots=True)
class Variant:
    """An image for one platform (None: only its configuration says which).

    *key* is equal for equal images; *nested* that an index offers it for the platform;
    *here* that the archive holds it, which indexes need not do.
    """

    index: int
    key: object
    platform: Platform | None
    nested: bool
    load: Callable[[], Contents] = field(repr=False)
    here: bool = True

    def runs_on(self) -> Platform:
        """The platform, from the configuration if need be."""
        return self.platform or self.load().config.platform


@dataclass(frozen=True, slots=True)
class Found:
    """An image of an archive: familiar names, names as written, and its variants."""

    names: tuple[str, ...]
    written: tuple[str, ...]
    variants: tuple[Variant, ...]

    def named(self, wanted: str) -> bool:
        """Whether *wanted* is one of the names, however either is written."""
        return wanted in self.written or any(name in self.names for name in familiar([wanted]))

    def tagged(self, wanted: str) -> bool:
        """Whether *wanted* is the tag of one of the names."""
        return any(name.endswith(f":{wanted}") for name in self.names)

    def line(self) -> str:
        """The image in one line of a list, fit for a terminal."""
        indexes = dict.fromkeys(variant.index for variant in self.variants)
        words = [f"@{index}" for index in indexes]
        words += [printable(name) for name in self.names or self.written]
        platforms = (variant.platform for variant in self.variants if variant.platform)
        words += dict.fromkeys(str(platform) for platform in platforms)
        return "  " + printable(" ".join(words), _LONGEST_LINE)


def familiar(written: Iterable[str]) -> tuple[str, ...]:
    """The legal ones among the names *written*, in their familiar form, each once.

    A digest in a name is left out, and a name with nothing else to it: what the bytes are
    is known without it.
    """
    names: dict[str, None] = {}
    for text in written:
        try:
            reference = replace(Reference.parse(text), digest=None)
        except OverlayError:
            continue  # such a name cannot be asked for; its image has an index and an id
        if reference.tag:
            names[reference.familiar] = None
    return tuple(names)


def choose(
    images: Sequence[Found], selector: str | int | None, platform: Platform | None, label: str
) -> tuple[tuple[str, ...], Variant]:
    """The names and the variant of the image that *selector* and *platform* leave over.

    *selector* is a name, an index, or None where there is but one image.  Raises
    ImageNotFound when nothing fits, and AmbiguousImage, with a list, when several do.
    """
    fitting = _fitting(images, selector, label)
    if len(fitting) > 1:
        raise AmbiguousImage(
            f"{label}: holds several images:\n{_list(fitting)}",
            hint=f"choose one: {label}:NAME or {label}@INDEX",
        )
    return fitting[0].names, _variant(fitting[0].variants, platform, label)


def choose_all(
    images: Sequence[Found], selector: str | int | None, platform: Platform | None, label: str
) -> list[tuple[tuple[str, ...], Variant]]:
    """Each that *selector* leaves over: its names, and the variant for *platform*."""
    return [
        (image.names, _variant(image.variants, platform, label))
        for image in _fitting(images, selector, label)
    ]


def _fitting(images: Sequence[Found], selector: str | int | None, label: str) -> list[Found]:
    if not images:
        raise InvalidImage(f"{label}: holds no container image")
    fitting = _selected(images, selector)
    if not fitting:
        asked = f"@{selector}" if isinstance(selector, int) else printable(str(selector), 300)
        raise ImageNotFound(f"{label}: no image {asked}; there are:\n{_list(images)}")
    if any(len(image.names) > _MOST_NAMES for image in fitting):
        raise InvalidImage(f"{label}: an image with more than {_MOST_NAMES} names")
    return fitting


def _merged(images: Iterable[Found]) -> list[Found]:
    """*images*, with those that are the same image under other names made one."""
    merged: dict[frozenset[object], list[Found]] = {}
    for image in images:
        same = frozenset(variant.key for variant in image.variants)
        merged.setdefault(same, []).append(image)
    return [_joined(same) if len(same) > 1 else same[0] for same in merged.values()]


def _joined(same: Sequence[Found]) -> Found:
    return replace(
        same[0],
        names=tuple(dict.fromkeys(name for one in same for name in one.names)),
        written=tuple(dict.fromkeys(name for one in same for name in one.written)),
    )


def _selected(images: Sequence[Found], selector: str | int | None) -> list[Found]:
    if selector is None:
        return _merged(images)
    if isinstance(selector, str):
        merged = _merged(images)
        named = [image for image in merged if image.named(selector)]
        return named or [image for image in merged if image.tagged(selector)]
    found = []
    for image in images:
        variants = tuple(variant for variant in image.variants if variant.index == selector)
        if variants:
            found.append(replace(image, variants=variants))
    return found


def _variant(variants: tuple[Variant, ...], platform: Platform | None, label: str) -> Variant:
    if platform is None and len(variants) == 1 and not variants[0].nested:
        return variants[0]  # there is nothing to choose from
    wanted = platform or Platform.host()
    variants = tuple(variant for variant in variants if variant.here)
    offered = [variant.runs_on() for variant in variants]
    at = best(wanted, offered)
    if at is None:
        there = ", ".join(dict.fromkeys(str(one) for one in offered))
        raise ImageNotFound(
            f"{label}: no image for {wanted}; there is one for {there or 'no platform at all'}",
            hint=f"choose one with --platform {offered[0]}" if offered else "",
        )
    return variants[at]


def _list(images: Sequence[Found]) -> str:
    shown = [image.line() for image in images[:_MOST_LISTED]]
    more = len(images) - len(shown)
    return "\n".join([*shown, f"  and {more} more"] if more else shown)
