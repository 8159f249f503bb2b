"""The functions of ``--format``, and how values look there: Go's own and those of docker's CLI."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from overlayfs.errors import OverlayError


class TemplateError(OverlayError):
    """A template of ``--format`` that is not understood, or asks for what is not there."""

    def __init__(self, message: str) -> None:
        super().__init__(f"--format: {message}")


class Fields(dict[str, Any]):
    """A map with fixed names, as a struct of Go: to ask for another one is an error."""


class _Missing:
    """What a map gives for a name that it has not."""

    def __str__(self) -> str:
        return "<no value>"


MISSING = _Missing()


def text(value: object) -> str:
    """*value* as Go's ``fmt`` prints it with ``%v``."""
    match value:
        case None:
            return "<nil>"
        case bool():
            return str(value).lower()
        case Fields():
            return "{" + " ".join(text(one) for one in value.values()) + "}"
        case Mapping():
            items = (f"{key}:{text(one)}" for key, one in sorted(value.items()))
            return f"map[{' '.join(items)}]"
        case list() | tuple():
            return f"[{' '.join(text(one) for one in value)}]"
        case _:
            return str(value)


def truth(value: object) -> bool:
    """Whether ``if`` takes *value* for true: what is empty, zero or missing is not.

    A `Fields` is, as structs are in Go.
    """
    return value is not MISSING and (isinstance(value, Fields) or bool(value))


def _json(value: object) -> str:
    shown = None if value is MISSING else value
    return json.dumps(shown, ensure_ascii=False, separators=(",", ":"))


def _join(values: object, separator: object = "") -> str:
    return _text("join", separator).join(text(one) for one in _list("join", values))


def _split(whole: object, separator: object) -> list[str]:
    return _text("split", whole).split(_text("split", separator))


def _index(value: object, *keys: object) -> object:
    for key in keys:
        if isinstance(value, Mapping):
            if not isinstance(key, str):
                raise TemplateError(f"index: {text(key)} is no name of a map")
            # Go gives the zero of the map's type; ours that are asked so hold texts.
            value = value.get(key, "")
            continue
        found = _list("index", value)
        if not isinstance(key, int) or not 0 <= key < len(found):
            raise TemplateError(f"index: no {text(key)} among {len(found)}")
        value = found[key]
    return value


def _len(value: object) -> int:
    if not isinstance(value, str | Mapping | list | tuple):
        raise TemplateError(f"len: {text(value)} has no length")
    return len(value.encode(errors="surrogateescape")) if isinstance(value, str) else len(value)


def _slice(value: object, start: object = 0, end: object = None) -> object:
    if not isinstance(value, str | list | tuple):
        raise TemplateError(f"slice: {text(value)} is no text and no list")
    stop = len(value) if end is None else end
    if not isinstance(start, int) or not isinstance(stop, int) or not 0 <= start <= stop:
        raise TemplateError(f"slice: from {text(start)} to {text(stop)} is no range")
    if stop > len(value):
        raise TemplateError(f"slice: no {stop} among {len(value)}")
    return value[start:stop]


def _equal(value: object, *others: object) -> bool:
    return any(value == other for other in others)


def _ordered(name: str, holds: Callable[[Any, Any], bool]) -> Callable[..., object]:
    def compare(one: object, other: object) -> bool:
        for kinds in (str, (int, float)):
            if isinstance(one, kinds) and isinstance(other, kinds):
                return holds(one, other)
        raise TemplateError(f"{name}: {text(one)} and {text(other)} cannot be compared")

    return compare


def _truncate(value: object, length: object) -> str:
    if not isinstance(length, int):
        raise TemplateError(f"truncate: {text(length)} is no length")
    return _text("truncate", value)[:length]


def _pad(value: object, before: object, behind: object) -> str:
    if not isinstance(before, int) or not isinstance(behind, int):
        raise TemplateError("pad: wants a text and two numbers")
    return " " * before + _text("pad", value) + " " * behind


_VERB = re.compile(r"%([-+0 #]*\d{0,4}(?:\.\d{1,4})?)(.)", re.DOTALL)


def _printf(form: object, *values: object) -> str:
    left = list(values)

    def filled(match: re.Match[str]) -> str:
        flags, verb = match[1], match[2]
        if verb == "%":
            return "%"
        if not left:
            raise TemplateError(f"printf: no value for %{flags}{verb}")
        value = left.pop(0)
        if (verb in "dxXo" and isinstance(value, int)) or (
            verb == "f" and isinstance(value, int | float)
        ):
            return f"%{flags}{verb}" % value
        if verb in "svq":
            shown = json.dumps(text(value), ensure_ascii=False) if verb == "q" else text(value)
            return f"%{flags}s" % shown
        raise TemplateError(f"printf: %{flags}{verb} is not known for {text(value)}")

    made = _VERB.sub(filled, _text("printf", form))
    if left:
        raise TemplateError(f"printf: {len(left)} values too many")
    return made


def _println(*values: object) -> str:
    return " ".join(text(value) for value in values) + "\n"


def _print(*values: object) -> str:
    """Go puts a space between two values of which neither is a text."""
    made = ""
    for number, value in enumerate(values):
        before = values[number - 1] if number else ""
        spaced = not isinstance(value, str) and not isinstance(before, str)
        made += (" " if spaced else "") + text(value)
    return made


def _text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise TemplateError(f"{name}: {text(value)} is no text")
    return value


def _list(name: str, value: object) -> Sequence[object]:
    if not isinstance(value, list | tuple):
        raise TemplateError(f"{name}: {text(value)} is no list")
    return value


def _counted(
    name: str, function: Callable[..., object], least: int, most: int | None
) -> Callable[..., object]:
    """*function*, which complains by *name* unless it gets *least* to *most* arguments."""

    def call(*arguments: object) -> object:
        if len(arguments) < least or (most is not None and len(arguments) > most):
            raise TemplateError(f"{name}: {len(arguments)} arguments are not what it takes")
        return function(*arguments)

    return call


FUNCTIONS: Mapping[str, Callable[..., object]] = {
    name: _counted(name, function, least, most)
    for name, function, least, most in (
        # Arguments of these two are asked for one by one, by who calls.
        ("and", lambda *values: values[-1], 1, None),
        ("or", lambda *values: values[-1], 1, None),
        ("not", lambda value: not truth(value), 1, 1),
        ("eq", _equal, 2, None),
        ("ne", lambda one, other: one != other, 2, 2),
        ("lt", _ordered("lt", lambda one, other: one < other), 2, 2),
        ("le", _ordered("le", lambda one, other: one <= other), 2, 2),
        ("gt", _ordered("gt", lambda one, other: one > other), 2, 2),
        ("ge", _ordered("ge", lambda one, other: one >= other), 2, 2),
        ("index", _index, 1, None),
        ("len", _len, 1, 1),
        ("slice", _slice, 1, 3),
        ("print", _print, 0, None),
        ("printf", _printf, 1, None),
        ("println", _println, 0, None),
        ("json", _json, 1, 1),
        ("join", _join, 1, 2),
        ("split", _split, 2, 2),
        ("lower", lambda value: _text("lower", value).lower(), 1, 1),
        ("upper", lambda value: _text("upper", value).upper(), 1, 1),
        ("title", lambda value: _text("title", value).title(), 1, 1),
        ("truncate", _truncate, 2, 2),
        ("pad", _pad, 3, 3),
    )
}
