"""``--filter`` of ``images``: docker's, by what they are called there."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Self

from overlayfs.cli.times import moment
from overlayfs.errors import OverlayError
from overlayfs.image.reference import Reference
from overlayfs.printable import printable
from overlayfs.store.kept import StoredImage

KEYS = ("reference", "dangling", "label", "before", "since")


@dataclass(slots=True)
class Filters:
    """Which images, and by which of their names, a list is to have.

    Patterns are taken together by "or", everything else by "and".
    """

    references: list[str] = field(default_factory=list)
    dangling: bool | None = None
    labels: list[str] = field(default_factory=list)
    before: datetime | None = None
    since: datetime | None = None
    name: str | None = None

    @classmethod
    def parse(cls, words: Iterable[str], find: Callable[[str], StoredImage]) -> Self:
        """The filters that *words*, ``KEY=VALUE``, write; *find* gives an image by name.

        Raises OverlayError for a key or a value that is not known, and what *find* raises.
        """
        made = cls()
        for word in words:
            key, equals, value = word.partition("=")
            if key not in KEYS or not equals:
                raise OverlayError(
                    f"--filter {printable(word)}: not known",
                    hint="there are reference=PATTERN, dangling=true|false, label=KEY[=VALUE], "
                    "before=IMAGE, since=IMAGE",
                )
            made._add(key, value, find)
        return made

    def called(self, pattern: str) -> Self:
        """The same, for images that are called so besides; *pattern* as in ``reference=``."""
        _pattern(pattern)
        return replace(self, name=pattern)

    def _add(self, key: str, value: str, find: Callable[[str], StoredImage]) -> None:
        match key:
            case "reference":
                _pattern(value)
                self.references.append(value)
            case "label":
                self.labels.append(value)
            case "dangling":
                if value not in ("true", "false", "1", "0"):
                    raise OverlayError(f"--filter dangling={printable(value)}: true or false?")
                self.dangling = value in ("true", "1")
            case "before" | "since":
                when = moment(find(value).config.created)
                if when is None:
                    raise OverlayError(
                        f"--filter {key}={printable(value)}: it does not say when it was made"
                    )
                if key == "before":
                    self.before = when if self.before is None else min(self.before, when)
                else:
                    self.since = when if self.since is None else max(self.since, when)

    def names(self, image: StoredImage) -> tuple[str, ...] | None:
        """The names by which *image* is to be shown, perhaps none; None when it is not to be."""
        created = moment(image.config.created)
        if self.dangling is not None and self.dangling is bool(image.names):
            return None
        if not all(_has_label(image, label) for label in self.labels):
            return None
        if self.before is not None and (created is None or created >= self.before):
            return None
        if self.since is not None and (created is None or created <= self.since):
            return None
        names = image.names
        for patterns in (self.references, [] if self.name is None else [self.name]):
            if patterns:
                names = tuple(one for one in names if any(_fits(one, each) for each in patterns))
                if not names:
                    return None
        return names


def _has_label(image: StoredImage, wanted: str) -> bool:
    key, equals, value = wanted.partition("=")
    found = image.config.config.labels.get(key)
    return found is not None and (not equals or found == value)


def _fits(name: str, pattern: str) -> bool:
    """Whether *pattern* is for *name*: in full or familiar, with the tag or without."""
    forms = {name}
    try:
        reference = Reference.parse(name)
    except OverlayError:
        pass  # other tools write what they like into the store's index; it is that name
    else:
        for full in (reference.familiar, reference.canonical):
            forms |= {full, full.removesuffix(f":{reference.tag}")}
    expression = _pattern(pattern)
    return any(expression.fullmatch(form) for form in forms)


# One piece of a pattern: a set, a quoted character, or any character.
_PIECE = re.compile(r"\[(\^?)((?:\\.|[^\]\\])+)\]|\\(.)|(.)", re.DOTALL)
_RANGE = re.compile(r"\\?(.)(?:-\\?(.))?", re.DOTALL)


def _pattern(text: str) -> re.Pattern[str]:
    """Go's path.Match: ``*`` and ``?`` match no slash, ``[a-z]`` one of these, ``\\`` quotes.

    Raises OverlayError where a set is not closed or a range is none.
    """
    try:
        return re.compile("".join(_piece(found) for found in _PIECE.finditer(text)), re.DOTALL)
    except re.error as exc:
        raise OverlayError(f"--filter reference={printable(text)}: {exc.msg}") from exc


def _piece(found: re.Match[str]) -> str:
    negated, inside, quoted, char = found.groups()
    if inside is not None:
        ranges = (
            re.escape(first) + (f"-{re.escape(last)}" if last else "")
            for first, last in _RANGE.findall(inside)
        )
        return f"[{negated}{''.join(ranges)}]"
    if quoted is not None:
        return re.escape(quoted)
    # A bracket that opens no set is left for the compiler to complain of.
    return {"*": "[^/]*", "?": "[^/]", "[": "["}.get(char) or re.escape(char)
