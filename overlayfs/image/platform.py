"""Platforms: which machine an image is for (image-spec, image-index.md)."""

import platform
import re
from collections.abc import Iterable
from typing import Self

from msgspec import Struct

from overlayfs.errors import OverlayError
from overlayfs.printable import printable

_WORD = re.compile(r"[A-Za-z0-9_.-]{1,64}")
# What uname, Debian and people write, in the words of Go's GOARCH.
_ARCHITECTURES = {
    "x86_64": ("amd64", ""),
    "x86-64": ("amd64", ""),
    "aarch64": ("arm64", ""),
    "armhf": ("arm", "v7"),
    "armel": ("arm", "v6"),
    "armv8l": ("arm", "v7"),
    "armv7l": ("arm", "v7"),
    "armv6l": ("arm", "v6"),
    "armv5tel": ("arm", "v5"),
    "i386": ("386", ""),
    "i486": ("386", ""),
    "i586": ("386", ""),
    "i686": ("386", ""),
    "ppc64el": ("ppc64le", ""),
    "loongarch64": ("loong64", ""),
}
# The variant an architecture has when none is written; others of it run older ones too.
_BASE = {"amd64": 1, "arm64": 8, "arm": 7}


class Platform(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """An operating system, an architecture and its variant, in Go's words."""

    architecture: str
    os: str
    variant: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """The platform ``[os/]architecture[/variant]``; the os is linux when not written.

        Raises OverlayError for anything else.
        """
        parts = text.split("/")
        if len(parts) == 1:
            parts = ["linux", *parts]
        if len(parts) > 3 or not all(_WORD.fullmatch(part) for part in parts):
            raise OverlayError(
                f"not a platform: {printable(text)!r}", hint="write it as linux/arm64 or arm/v7"
            )
        return cls.of(*parts)

    @classmethod
    def of(cls, os: str, architecture: str, variant: str = "") -> Self:
        """That platform, with the usual other spellings of an architecture understood."""
        architecture, implied = _ARCHITECTURES.get(architecture.lower(), (architecture.lower(), ""))
        return cls(os=os.lower(), architecture=architecture, variant=variant.lower() or implied)

    @classmethod
    def host(cls) -> Self:
        """The platform of this machine."""
        return cls.of("linux", platform.machine())

    @property
    def is_unknown(self) -> bool:
        """Whether this says ``unknown/unknown``, as attestations do."""
        return self.os == "unknown" and self.architecture == "unknown"

    def matches(self, wanted: "Platform") -> bool:
        """Whether a machine that is *wanted* runs what is made for this platform."""
        return self.rank(wanted) is not None

    def rank(self, wanted: "Platform") -> int | None:
        """How much of *wanted* this platform leaves unused; None when it does not run there.

        0 is exact; an older variant of the same architecture comes after a newer one.
        """
        mine, other = self.normal, wanted.normal
        if (mine.os, mine.architecture) != (other.os, other.architecture):
            return None
        if mine.variant == other.variant:
            return 0
        have, need = mine._level(), other._level()
        return None if have is None or need is None or have > need else need - have

    @property
    def normal(self) -> "Platform":
        """The same platform in the usual words, without a variant that goes without saying."""
        this = Platform.of(self.os, self.architecture, self.variant)
        if this.variant == f"v{_BASE.get(this.architecture)}":
            return Platform(os=this.os, architecture=this.architecture)
        return this

    def _level(self) -> int | None:
        if self.architecture not in _BASE:
            return None
        if not self.variant:
            return _BASE[self.architecture]
        number = self.variant.removeprefix("v")
        return int(number) if number in {*"123456789"} else None

    def __str__(self) -> str:
        words = (self.os, self.architecture, self.variant)
        return printable("/".join(word for word in words if word))


def best(wanted: Platform, offered: Iterable[Platform]) -> int | None:
    """Which of *offered* serves *wanted* best, by position; the first of equals.

    None when none of them does.
    """
    ranks = [(rank, at) for at, one in enumerate(offered) if (rank := one.rank(wanted)) is not None]
    return min(ranks)[1] if ranks else None
