"""Strangers' text, made fit for a terminal."""


def printable(name: bytes | str, most: int | None = None) -> str:
    r"""*name* with everything a terminal could obey or hide written as an escape.

    Of more than *most* characters only the first are shown.

    Control characters, bidirectional overrides, zero-width and unassigned characters become
    ``\xNN``, ``\uNNNN`` or ``\UNNNNNNNN``, and so do bytes that are not UTF-8.  Letters,
    marks, symbols and the plain space stay.
    """
    text = name.decode("utf-8", "surrogateescape") if isinstance(name, bytes) else name
    if most is not None and len(text) > most:
        text = text[:most] + "\u2026"
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escape(ord(char)) for char in text)


def _escape(code: int) -> str:
    if 0xDC80 <= code <= 0xDCFF:  # a byte that surrogateescape carried here
        return f"\\x{code - 0xDC00:02x}"
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
