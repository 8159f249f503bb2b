"""How a template is written, and what it is made of."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

from overlayfs.cli.templates.functions import FUNCTIONS, TemplateError


@dataclass(frozen=True, slots=True)
class Literal:
    value: object


@dataclass(frozen=True, slots=True)
class Dot:
    pass


@dataclass(frozen=True, slots=True)
class Variable:
    name: str


@dataclass(frozen=True, slots=True)
class Function:
    name: str


@dataclass(frozen=True, slots=True)
class Nested:
    pipe: "Pipe"


@dataclass(frozen=True, slots=True)
class Field:
    of: "Operand"
    name: str


Operand = Literal | Dot | Variable | Function | Nested | Field
Command = tuple[Operand, ...]
Pipe = tuple[Command, ...]


@dataclass(frozen=True, slots=True)
class Show:
    pipe: Pipe


@dataclass(frozen=True, slots=True)
class Assign:
    name: str
    new: bool
    pipe: Pipe


@dataclass(frozen=True, slots=True)
class If:
    pipe: Pipe
    body: "Block"
    otherwise: "Block"


@dataclass(frozen=True, slots=True)
class With:
    pipe: Pipe
    body: "Block"
    otherwise: "Block"


@dataclass(frozen=True, slots=True)
class Range:
    key: str | None
    value: str | None
    pipe: Pipe
    body: "Block"
    otherwise: "Block"


Part = str | Show | Assign | If | With | Range
Block = tuple[Part, ...]


def parse(source: str) -> Block:
    """What *source* is made of; raises TemplateError with the place of what is wrong."""
    try:
        return _Parser(source).template()
    except RecursionError:
        raise TemplateError("nested too deeply") from None


_TOKEN = re.compile(
    r"""(?P<end>(?:\s+-)?}}) | (?P<space>\s+) | (?P<string>"(?:[^"\\\n]|\\.)*") | (?P<raw>`[^`]*`)
    | (?P<number>[-+]?\d+(?:\.\d+)?) | (?P<field>\.[^\W\d]\w*) | (?P<dot>\.)
    | (?P<variable>\$\w*) | (?P<word>[^\W\d]\w*) | (?P<mark>:=|[=|(),])""",
    re.VERBOSE,
)
_COMMENT = re.compile(r"(?:-\s)?\s*/\*.*?\*/\s*?(?:\s-)?}}", re.DOTALL)
_OPENING = re.compile(r"{{(?:-(?=\s))?")
_WORDS: Mapping[str, object] = {"true": True, "false": False, "nil": None}
_NOT_HERE = {"define", "template", "block", "break", "continue"}


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    at: int


class _Parser:
    """Reads a template from left to right."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._at = 0
        self._tokens: list[_Token] = []
        self._variables = {"$"}

    def template(self) -> Block:
        body, ended_by = self._block()
        if ended_by:
            self._fail(f"{{{{{ended_by}}}}} without a beginning")
        return body

    def _block(self) -> tuple[Block, str]:
        """The parts up to an ``end`` or ``else``, which is named; empty at the end of all."""
        parts: list[Part] = []
        while True:
            words = self._text()
            if words:
                parts.append(words)
            if self._at == len(self._source):
                return tuple(parts), ""
            if not self._action():
                continue
            word = self._tokens[0].text
            if word in ("end", "else"):
                self._take()
                return tuple(parts), word
            parts.append(self._part(word))
            self._expect_end()

    def _text(self) -> str:
        """What stands before the next action, without what that trims."""
        opening = _OPENING.search(self._source, self._at)
        end = opening.start() if opening else len(self._source)
        words = self._source[self._at : end]
        self._at = end
        return words.rstrip() if opening and opening[0].endswith("-") else words

    def _action(self) -> bool:
        """Read the tokens of an action; False for a comment."""
        start = self._at
        opening = _OPENING.match(self._source, start)
        assert opening is not None
        comment = _COMMENT.match(self._source, opening.end())
        if comment:
            self._closed(comment[0], comment.end())
            return False
        self._tokens = []
        at = opening.end()
        while True:
            found = _TOKEN.match(self._source, at)
            if found is None:
                self._at = at
                self._fail("unclosed {{" if at == len(self._source) else "not understood")
            at = found.end()
            kind = str(found.lastgroup)
            if kind == "end":
                self._closed(found[0], at)
                break
            self._tokens.append(_Token(kind, found[0], found.start()))
        self._tokens = [*_significant(self._tokens), _Token("end", "}}", start)]
        if self._tokens[0].kind == "end":
            self._at = start
            self._fail("nothing between {{ and }}")
        return True

    def _closed(self, closing: str, at: int) -> None:
        self._at = at
        if closing.endswith("-}}"):
            rest = self._source[at:]
            self._at = at + len(rest) - len(rest.lstrip())

    def _part(self, word: str) -> Part:
        if word in _NOT_HERE:
            self._fail(f"{word} is not known here")
        if word not in ("if", "with", "range"):
            return self._simple()
        self._take()
        known = set(self._variables)
        try:
            if word == "range":
                return self._range()
            pipe = self._pipe()
            self._expect_end()
            body, otherwise = self._branches(word)
        finally:
            self._variables = known
        return If(pipe, body, otherwise) if word == "if" else With(pipe, body, otherwise)

    def _simple(self) -> Part:
        if self._tokens[0].kind == "variable" and self._tokens[1].text in (":=", "="):
            name, how = self._take().text, self._take().text
            if how == ":=":
                self._variables.add(name)
            elif name not in self._variables:
                self._fail(f"{name} is not known")
            return Assign(name, how == ":=", self._pipe())
        return Show(self._pipe())

    def _range(self) -> Range:
        names: list[str] = []
        if self._tokens[0].kind == "variable" and self._tokens[1].text in (":=", ","):
            names.append(self._take().text)
            if self._take().text == ",":
                names.append(self._take().text)
                if self._take().text != ":=":
                    self._fail("range: := is missing behind the variables")
            self._variables |= set(names)
        pipe = self._pipe()
        self._expect_end()
        body, otherwise = self._branches("range")
        # A single variable is the element.
        key, value = names if len(names) == 2 else (None, names[0] if names else None)
        return Range(key, value, pipe, body, otherwise)

    def _branches(self, word: str) -> tuple[Block, Block]:
        start = self._at
        body, ended_by = self._block()
        otherwise: Block = ()
        if ended_by == "else" and self._tokens[0].text == "if" and word == "if":
            # `else if` has no end of its own: it shares the one behind it.
            self._take()
            pipe = self._pipe()
            self._expect_end()
            inner, after = self._branches("if")
            self._tokens = [_Token("end", "}}", self._at)]
            return body, (If(pipe, inner, after),)
        if ended_by == "else":
            self._expect_end()
            otherwise, ended_by = self._block()
        if ended_by != "end":
            self._at = start
            self._fail(f"{word} has no {{{{end}}}}")
        return body, otherwise

    def _pipe(self) -> Pipe:
        commands = [self._command()]
        while self._tokens[0].text == "|":
            self._take()
            commands.append(self._command())
        return tuple(commands)

    def _command(self) -> Command:
        operands: list[Operand] = []
        while self._tokens[0].kind != "end" and self._tokens[0].text not in ("|", ")"):
            operands.append(self._operand())
        if not operands:
            self._fail("a value is missing")
        if len(operands) > 1 and not isinstance(operands[0], Function):
            self._fail("only a function takes arguments")
        return tuple(operands)

    def _operand(self) -> Operand:
        found = self._first(self._take())
        while self._tokens[0].kind == "chained":
            found = Field(found, self._take().text[1:])
        return found

    def _first(self, token: _Token) -> Operand:
        match token.kind:
            case "string":
                return Literal(self._string(token))
            case "raw":
                return Literal(token.text[1:-1])
            case "number":
                return Literal(float(token.text) if "." in token.text else int(token.text))
            case "dot":
                return Dot()
            case "field" | "chained":
                return Field(Dot(), token.text[1:])
            case "variable":
                if token.text not in self._variables:
                    self._fail(f"{token.text} is not known", token)
                return Variable(token.text)
            case "word" if token.text in _WORDS:
                return Literal(_WORDS[token.text])
            case "word":
                if token.text not in FUNCTIONS:
                    known = ", ".join(sorted(FUNCTIONS))
                    self._fail(f"no function {token.text}; there are {known}", token)
                return Function(token.text)
            case "mark" if token.text == "(":
                pipe = self._pipe()
                if self._take().text != ")":
                    self._fail("unclosed (", token)
                return Nested(pipe)
        self._fail(f"{token.text} is not expected", token)

    def _string(self, token: _Token) -> str:
        try:
            # Go's escapes that JSON has not are rare: \a, \v, \', \x and octal ones.
            return str(json.loads(token.text, strict=False))
        except ValueError:
            self._fail(f"{token.text} has an escape that is not known", token)

    def _take(self) -> _Token:
        token = self._tokens[0]
        if token.kind != "end":
            self._tokens = self._tokens[1:]
        return token

    def _expect_end(self) -> None:
        if self._tokens[0].kind != "end":
            self._fail(f"{self._tokens[0].text} is not expected", self._tokens[0])

    def _fail(self, why: str, token: _Token | None = None) -> NoReturn:
        at = token.at if token else self._at
        raise TemplateError(f"{why}, at character {at + 1} of {self._source}")


def _significant(tokens: Sequence[_Token]) -> Iterator[_Token]:
    """*tokens* without spaces; a field that follows something without one is ``chained`` to it."""
    free = True  # `(.Field` is the dot's, `).Field` is chained
    for token in tokens:
        if token.kind == "field" and not free:
            yield _Token("chained", token.text, token.at)
        elif token.kind != "space":
            yield token
        free = token.kind == "space" or (token.kind == "mark" and token.text != ")")
