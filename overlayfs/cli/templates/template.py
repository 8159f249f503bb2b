"""The templates of ``--format``: as much of Go's text/template as people give to docker.

Fields (``.Config.Env``), pipes, variables, ``if``, ``range``, ``with``, trimming (``{{-``) and
the functions of `functions`; no ``define``, ``template``, ``block``, ``break`` and
``continue``.  A template is the user's own; the values in it may be a stranger's.
"""

from collections import ChainMap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from overlayfs.cli.templates.functions import FUNCTIONS, MISSING, Fields, TemplateError, text, truth
from overlayfs.cli.templates.syntax import (
    Assign,
    Block,
    Command,
    Dot,
    Field,
    Function,
    If,
    Literal,
    Nested,
    Operand,
    Pipe,
    Range,
    Show,
    Variable,
    With,
    parse,
)

__all__ = ["Fields", "Template", "TemplateError"]


@dataclass(frozen=True, slots=True)
class Template:
    """A template that was understood; ``render`` fills it in."""

    _body: Block

    @classmethod
    def parse(cls, source: str) -> "Template":
        """The template that *source* writes; raises TemplateError with the place of the error."""
        return cls(parse(source))

    def render(self, data: object) -> str:
        """The text for *data*: JSON's kinds of values, and `Fields` where names are fixed.

        Raises TemplateError for a field that is not there and for a function that cannot do
        with what it is given.
        """
        return "".join(_run(self._body, data, ChainMap({"$": data})))


# What variables stand for; the first of the maps is the block's own.
_Scope = ChainMap[str, object]


def _run(block: Block, dot: object, outer: _Scope) -> Iterator[str]:
    scope = outer.new_child()
    for part in block:
        match part:
            case str():
                yield part
            case Show(pipe):
                yield text(_value(pipe, dot, scope))
            case Assign(name, new, pipe):
                holder = scope.maps[0] if new else next(m for m in scope.maps if name in m)
                holder[name] = _value(pipe, dot, scope)
            case If(pipe, body, otherwise):
                yield from _run(body if truth(_value(pipe, dot, scope)) else otherwise, dot, scope)
            case With(pipe, body, otherwise):
                value = _value(pipe, dot, scope)
                yield from _run(body, value, scope) if truth(value) else _run(otherwise, dot, scope)
            case Range():
                yield from _loop(part, dot, scope)


def _loop(part: Range, dot: object, scope: _Scope) -> Iterator[str]:
    pairs = list(_pairs(_value(part.pipe, dot, scope)))
    for key, value in pairs:
        named = {name: one for name, one in ((part.key, key), (part.value, value)) if name}
        yield from _run(part.body, value, scope.new_child(named))
    if not pairs:
        yield from _run(part.otherwise, dot, scope)


def _pairs(value: object) -> Iterator[tuple[object, object]]:
    if isinstance(value, Mapping):
        yield from sorted(value.items())
    elif isinstance(value, list | tuple):
        yield from enumerate(value)
    elif value is not None and value is not MISSING:
        raise TemplateError(f"range: {text(value)} is no list and no map")


def _value(pipe: Pipe, dot: object, scope: _Scope) -> object:
    given: tuple[object, ...] = ()
    for command in pipe:
        given = (_called(command, given, dot, scope),)
    return given[0]


def _called(command: Command, given: tuple[object, ...], dot: object, scope: _Scope) -> object:
    """What *command* makes of *given*, which comes from the command before it."""
    first, *rest = command
    if not isinstance(first, Function):
        if given:
            raise TemplateError("only a function can stand behind |")
        return _operand(first, dot, scope)
    # Not asked before they are needed: `and .A .A.B` looks into A only when there is one.
    later: list[Callable[[], object]] = [partial(_operand, operand, dot, scope) for operand in rest]
    later += [lambda: given[0]] if given else []
    if first.name in ("and", "or"):
        return _lazily(first.name, later)
    return FUNCTIONS[first.name](*(one() for one in later))


def _lazily(name: str, later: Sequence[Callable[[], object]]) -> object:
    value: object = None
    if not later:
        raise TemplateError(f"{name}: a value is missing")
    for one in later:
        value = one()
        if truth(value) is (name == "or"):
            break
    return value


def _operand(operand: Operand, dot: object, scope: _Scope) -> object:
    match operand:
        case Literal(value):
            return value
        case Dot():
            return dot
        case Variable(name):
            return scope[name]
        case Nested(pipe):
            return _value(pipe, dot, scope)
        case Function(name):
            return _called((operand,), (), dot, scope)
        case Field(of, name):
            return _field(_operand(of, dot, scope), name)


def _field(value: Any, name: str) -> object:
    if isinstance(value, Fields):
        if name not in value:
            raise TemplateError(f"no field .{name}; there are {', '.join(value)}")
        return value[name]
    if isinstance(value, Mapping):
        return value.get(name, MISSING)
    if value is None or value is MISSING:
        raise TemplateError(f".{name} of what is not there; ask before: {{{{with …}}}}")
    raise TemplateError(f".{name}: {text(value)} has no fields")
