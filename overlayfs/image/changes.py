"""What ``--change`` says: one instruction of a Dockerfile that changes only the configuration."""

import json
import re
from collections.abc import Callable, Iterator

from overlayfs.errors import OverlayError
from overlayfs.image.edits import (
    Document,
    in_shell,
    variables,
    with_config,
    with_directory,
    with_env,
    with_labels,
    with_ports,
    with_volumes,
)
from overlayfs.image.words import plain, split
from overlayfs.printable import printable

# podman writes CMD=/bin/sh where docker writes CMD /bin/sh.
_FORM = re.compile(r"\s*([A-Za-z]+)[\s=](.*)", re.DOTALL)
_PORT = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?(?:/(tcp|udp|sctp))?", re.IGNORECASE)
_HIGHEST_PORT = 65535


def changed(document: Document, text: str) -> Document:
    """*document* after the instruction *text*, say ``ENV PATH=/bin LANG=C``.

    Variables of the environment are filled in as in a Dockerfile, but not in commands.
    Raises OverlayError for an instruction that is not known or makes no sense.
    """
    match = _FORM.fullmatch(text)
    keyword = match[1].upper() if match else ""
    rest = match[2].strip() if match else ""
    apply = _INSTRUCTIONS.get(keyword)
    if apply is None:
        raise OverlayError(
            f"--change {printable(text)!r}: not an instruction that is known here",
            hint=f"known are {', '.join(sorted(_INSTRUCTIONS))}",
        )
    try:
        if not rest:
            raise OverlayError("nothing behind it")
        return apply(document, rest)
    except OverlayError as exc:
        raise OverlayError(f"--change {keyword}: {exc.message}", hint=exc.hint) from exc


def _cmd(document: Document, rest: str) -> Document:
    return with_config(document, Cmd=_command(document, rest))


def _entrypoint(document: Document, rest: str) -> Document:
    return with_config(document, Entrypoint=_command(document, rest))


def _shell(document: Document, rest: str) -> Document:
    words = _listed(rest)
    if not words:
        raise OverlayError('write it as a list: ["/bin/sh", "-c"]')
    return with_config(document, Shell=words)


def _env(document: Document, rest: str) -> Document:
    return with_env(document, dict(_pairs(document, rest)))


def _label(document: Document, rest: str) -> Document:
    return with_labels(document, dict(_pairs(document, rest)))


def _expose(document: Document, rest: str) -> Document:
    words = (plain(word, variables(document)) for word in split(rest))
    return with_ports(document, [port for word in words for port in _ports(word)])


def _volume(document: Document, rest: str) -> Document:
    words = _listed(rest)
    if words is None:
        words = split(rest)
    paths = [plain(word, variables(document)) for word in words]
    if not all(paths):
        raise OverlayError("a volume without a path")
    return with_volumes(document, paths)


def _workdir(document: Document, rest: str) -> Document:
    return with_directory(document, plain(rest, variables(document)))


def _user(document: Document, rest: str) -> Document:
    return with_config(document, User=plain(rest, variables(document)))


def _stopsignal(document: Document, rest: str) -> Document:
    return with_config(document, StopSignal=plain(rest, variables(document)))


def _onbuild(document: Document, rest: str) -> Document:
    known = (document.get("config") or {}).get("OnBuild") or ()
    return with_config(document, OnBuild=[*known, rest])


_INSTRUCTIONS: dict[str, Callable[[Document, str], Document]] = {
    "CMD": _cmd,
    "ENTRYPOINT": _entrypoint,
    "ENV": _env,
    "EXPOSE": _expose,
    "LABEL": _label,
    "ONBUILD": _onbuild,
    "SHELL": _shell,
    "STOPSIGNAL": _stopsignal,
    "USER": _user,
    "VOLUME": _volume,
    "WORKDIR": _workdir,
}


def _command(document: Document, rest: str) -> list[str]:
    """The words of a command: a list as it is, anything else for the shell."""
    words = _listed(rest)
    return list(in_shell(document, rest)) if words is None else words


def _listed(rest: str) -> list[str] | None:
    """The words of ``["a", "b"]``; None for what is no such list."""
    if not rest.startswith("["):
        return None
    try:
        found = json.loads(rest)
    except (ValueError, RecursionError):
        return None
    return found if all(isinstance(word, str) for word in found) else None


def _pairs(document: Document, rest: str) -> Iterator[tuple[str, str]]:
    """``name=value ...``, or the old ``name value`` where all behind the name is its value."""
    known = variables(document)
    words = split(rest)
    if "=" not in words[0]:
        value = rest.removeprefix(words[0]).strip()
        if not value:
            raise OverlayError(f"no value for {printable(words[0])!r}")
        yield plain(words[0], known), plain(value, known)
        return
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise OverlayError(f"{printable(word)!r} is not NAME=VALUE")
        yield plain(name, known), plain(value, known)


def _ports(word: str) -> Iterator[str]:
    match = _PORT.fullmatch(word)
    if match is None:
        raise OverlayError(
            f"{printable(word)!r} is not a port", hint="write 80, 53/udp or 8000-8010"
        )
    first = int(match[1])
    last = int(match[2] or first)
    if not 0 < first <= last <= _HIGHEST_PORT:
        raise OverlayError(f"{printable(word)!r} is not a port")
    for port in range(first, last + 1):
        yield f"{port}/{(match[3] or 'tcp').lower()}"
