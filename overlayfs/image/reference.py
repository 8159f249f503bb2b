"""Image names as people write them (the grammar of distribution's reference package)."""

import re
from dataclasses import dataclass
from typing import Self

from overlayfs.errors import OverlayError
from overlayfs.image.digest import Digest
from overlayfs.printable import printable

DEFAULT_DOMAIN = "docker.io"
DEFAULT_TAG = "latest"
_OFFICIAL = "library/"

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_PATH = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*", re.ASCII)
_LABEL = r"(?:[A-Za-z0-9]|[A-Za-z0-9][A-Za-z0-9-]*[A-Za-z0-9])"
_DOMAIN = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-fA-F:]+\])(?::[0-9]+)?", re.ASCII)
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}", re.ASCII)
_ID = re.compile(r"[0-9a-f]{64}")
_LONGEST = 255


@dataclass(frozen=True, slots=True)
class Reference:
    """An image's full name: where it lives, its path there, and which of those."""

    domain: str
    path: str
    tag: str | None
    digest: Digest | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """The reference ``[domain/]path[:tag][@digest]``, with Docker's defaults filled in.

        Without a domain it is ``docker.io``, there a single word is below ``library/``, and
        without a tag and a digest the tag is ``latest``.  Raises OverlayError for a text that
        is no legal name, and for 64 hex digits, which are an image's id.
        """
        if len(text) > 4 * _LONGEST:
            raise _illegal(text, "is too long")
        name, at, rest = text.partition("@")
        digest = Digest.parse(rest) if at else None
        if _ID.fullmatch(text):
            raise _illegal(text, "is an id, not a name")
        head, slash, last = name.rpartition("/")
        last, colon, tag = last.partition(":")
        if colon and not _TAG.fullmatch(tag):
            raise _illegal(text, "has a tag that is not legal")
        domain, path = _split_domain(head + slash + last)
        if not _DOMAIN.fullmatch(domain):
            raise _illegal(text, "has a host that is not legal")
        if path != path.lower():
            raise _illegal(text, "must be lower case")
        if not _PATH.fullmatch(path):
            raise _illegal(text, "is not a legal name")
        if len(domain) + 1 + len(path) > _LONGEST:
            raise _illegal(text, "is too long")
        return cls(domain, path, tag if colon else None if digest else DEFAULT_TAG, digest)

    @property
    def repository(self) -> str:
        """The name without tag and digest, in full: ``docker.io/library/busybox``."""
        return f"{self.domain}/{self.path}"

    @property
    def canonical(self) -> str:
        """The name in full: ``docker.io/library/busybox:latest``."""
        return self.repository + self._suffix

    @property
    def familiar(self) -> str:
        """The name as people write it: ``busybox:latest``."""
        if self.domain != DEFAULT_DOMAIN:
            return self.canonical
        # The shortest that is read back as this name: docker.io/x.y/z and docker.io/library/a/b
        # are not what they would be without their beginning.
        for short in (self.path.removeprefix(_OFFICIAL), self.path):
            if _split_domain(short) == (self.domain, self.path):
                return short + self._suffix
        return self.canonical

    @property
    def _suffix(self) -> str:
        return (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")

    def __str__(self) -> str:
        return self.canonical


def is_tag(text: str) -> bool:
    """Whether *text* alone could be a tag."""
    return _TAG.fullmatch(text) is not None


def _split_domain(name: str) -> tuple[str, str]:
    first, slash, rest = name.partition("/")
    is_domain = bool(slash) and (
        "." in first or ":" in first or first == "localhost" or first != first.lower()
    )
    domain, path = (first, rest) if is_domain else (DEFAULT_DOMAIN, name)
    if domain == "index.docker.io":
        domain = DEFAULT_DOMAIN
    if domain == DEFAULT_DOMAIN and "/" not in path:
        path = _OFFICIAL + path
    return domain, path


def _illegal(text: str, why: str) -> OverlayError:
    return OverlayError(f"image name {printable(text[:_LONGEST])!r} {why}")
