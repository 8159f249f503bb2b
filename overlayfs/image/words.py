"""Words as a Dockerfile has them: quotes, escapes and variables (moby, frontend/dockerfile/shell).

Only what goes into a configuration is read so: the text of a command is its shell's affair.
"""

import re
from collections.abc import Mapping

from overlayfs.errors import OverlayError
from overlayfs.printable import printable

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*|[0-9]|[@*#?$!-]")
_SPACE = " \t\r\n"
_DEEPEST = 32


def split(text: str) -> list[str]:
    """The words of *text*, quotes and escapes still in them."""
    found: list[str] = []
    word = ""
    quote = ""
    at = 0
    while at < len(text):
        char = text[at]
        if char == "\\" and quote != "'":
            word += text[at : at + 2]
            at += 2
            continue
        at += 1
        if not quote and char in _SPACE:
            found += [word] if word else []
            word = ""
            continue
        if char == quote:
            quote = ""
        elif not quote and char in "\"'":
            quote = char
        word += char
    return found + ([word] if word else [])


def plain(text: str, variables: Mapping[str, str]) -> str:
    """*text* without its quotes, with the values of *variables*; unknown ones are empty.

    ``${name:-word}`` and ``${name:+word}`` are understood, and the two without a colon.
    Raises OverlayError for a quote or a brace that does not end.
    """
    return _Reader(text, variables).read("")


class _Reader:
    def __init__(self, text: str, variables: Mapping[str, str]) -> None:
        self._text = text
        self._variables = variables
        self._at = 0
        self._depth = 0

    def read(self, until: str) -> str:
        """The plain text up to *until*, or to the end when that is empty."""
        found = ""
        while self._at < len(self._text):
            char = self._text[self._at]
            self._at += 1
            if char == until:
                return found
            match char:
                case "'":
                    found += self._single()
                case '"':
                    found += self._double()
                case "\\":
                    found += self._text[self._at : self._at + 1]
                    self._at += 1
                case "$":
                    found += self._variable()
                case _:
                    found += char
        if until:
            raise self._endless(until)
        return found

    def _single(self) -> str:
        end = self._text.find("'", self._at)
        if end < 0:
            raise self._endless("'")
        found, self._at = self._text[self._at : end], end + 1
        return found

    def _double(self) -> str:
        found = ""
        while self._at < len(self._text):
            char = self._text[self._at]
            self._at += 1
            if char == '"':
                return found
            following = self._text[self._at : self._at + 1]
            if char == "\\" and following and following in '"$\\':
                found += following
                self._at += 1
            else:
                found += self._variable() if char == "$" else char
        raise self._endless('"')

    def _variable(self) -> str:
        if self._text[self._at : self._at + 1] == "{":
            self._at += 1
            return self._in_braces()
        match = _NAME.match(self._text, self._at)
        if match is None:
            return "$"
        self._at = match.end()
        return self._variables.get(match[0], "")

    def _in_braces(self) -> str:
        match = _NAME.match(self._text, self._at)
        if match is None:
            raise OverlayError(f"{printable(self._text)!r}: no name behind ${{")
        value = self._variables.get(match[0])
        self._at = match.end()
        rest = self._text[self._at : self._at + 2]
        if rest[:1] == "}":
            self._at += 1
            return value or ""
        colon = rest[:1] == ":"
        kind = rest[1:2] if colon else rest[:1]
        if not kind or kind not in "-+":
            raise OverlayError(f"{printable(self._text)!r}: only :- and :+ are known in ${{…}}")
        self._at += 2 if colon else 1
        self._depth += 1
        if self._depth > _DEEPEST:
            raise OverlayError(f"{printable(self._text[:80])!r}: too many braces in braces")
        word = self.read("}")
        self._depth -= 1
        there = bool(value) if colon else value is not None
        if kind == "+":
            return word if there else ""
        return (value or "") if there else word

    def _endless(self, what: str) -> OverlayError:
        return OverlayError(f"{printable(self._text)!r}: no {what} at its end")
