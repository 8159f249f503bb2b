"""No name reaches a terminal as anything but text."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from overlayfs.printable import printable


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("plain name.txt", "plain name.txt"),
        ("grüße 日本", "grüße 日本"),
        ("\x1b[31m", r"\x1b[31m"),
        ("\x9b31m", r"\x9b31m"),
        ("a\nb\rc\td\0", r"a\x0ab\x0dc\x09d\x00"),
        ("\x7f", r"\x7f"),
        ("gpj\u202e.exe", r"gpj\u202e.exe"),
        ("\u200b\u2028", r"\u200b\u2028"),
        ("\U000e0001", r"\U000e0001"),
        (b"caf\xc3\xa9", "café"),
        (b"caf\xe9\xff", r"caf\xe9\xff"),
        ("caf\udce9", r"caf\xe9"),
        ("\ud800", r"\ud800"),
    ],
)
def test_escapes(name: bytes | str, expected: str) -> None:
    assert printable(name) == expected


@settings(deadline=None)
@given(st.one_of(st.binary(), st.text(st.characters())))
def test_the_answer_is_always_printable(name: bytes | str) -> None:
    assert printable(name).isprintable()
    printable(name).encode()
