"""Where an image in a file lies, as it is written on a command line."""

import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Self


class Transport(StrEnum):
    """The prefixes of containers-transports(5) that name files."""

    DOCKER_ARCHIVE = "docker-archive"
    OCI_ARCHIVE = "oci-archive"
    OCI = "oci"
    DIR = "dir"


_PREFIX = re.compile(r"(docker-archive|oci-archive|oci|dir):(.*)", re.DOTALL)
_INDEX = re.compile(r":?@([0-9]{1,9})")


@dataclass(frozen=True, slots=True)
class Location:
    """A path, what is said to be there, and which of its images: a name or an index."""

    path: Path
    transport: Transport | None = None
    selector: str | int | None = None

    @classmethod
    def parse(cls, spec: str) -> Self | None:
        """``[TRANSPORT:]PATH[:NAME[:TAG]|:TAG|[:]@INDEX]``; None when no such path exists.

        The longest part of *spec* that exists is the path.  A file whose name begins like a
        transport is written with ``./``.
        """
        match = _PREFIX.fullmatch(spec)
        transport = Transport(match[1]) if match else None
        text = match[2] if match else spec
        cuts = [at for at, char in enumerate(text) if char in ":@"]
        for at in (len(text), *reversed(cuts)):
            path, rest = text[:at], text[at:]
            selector = _selector(rest)
            if path and (selector or not rest) and _exists(path):
                return cls(Path(path), transport, selector and selector[0])
        return None


def _selector(rest: str) -> tuple[str | int] | None:
    match = _INDEX.fullmatch(rest)
    if match:
        return (int(match[1]),)
    return (rest[1:],) if rest[:1] == ":" and rest[1:] else None


def _exists(path: str) -> bool:
    try:
        Path(path).stat()
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return False
    except OSError:
        return True  # it cannot be looked at: opening it says why
    return True
