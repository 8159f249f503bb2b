"""JSON from strangers: bounded, typed, and never a traceback."""

from typing import Any, TypeVar

import msgspec

from overlayfs.errors import InvalidImage
from overlayfs.image.digest import Digest
from overlayfs.printable import printable

T = TypeVar("T")

# distribution-spec, "Pushing manifests": registries should take at least 4 MiB.
MANIFEST_LIMIT = 4 << 20
CONFIG_LIMIT = 8 << 20
# A value takes up to a hundred bytes of memory for the two that it has in JSON.
_MOST_VALUES = 500_000


def decode(
    data: bytes,
    kind: type[T],
    what: str,
    *,
    limit: int = MANIFEST_LIMIT,
    values: int = _MOST_VALUES,
) -> T:
    """*data* as a *kind*; unknown fields are ignored.

    Raises InvalidImage, beginning with *what*, for more than *limit* bytes or about *values*
    values, nesting too deep to read, text that is not JSON and fields of the wrong type.
    """
    if len(data) > limit:
        raise InvalidImage(f"{what}: {len(data)} bytes of JSON, at most {limit} are read")
    if data.count(b",") > values:
        raise InvalidImage(f"{what}: more than {values} values in JSON")
    try:
        return msgspec.json.decode(data, type=kind, dec_hook=_decode_other)
    except RecursionError:
        raise InvalidImage(f"{what}: JSON nested too deeply") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise InvalidImage(f"{what}: {printable(str(exc))}") from exc


def encode(value: object) -> bytes:
    """*value* as compact JSON, fields in their declared order."""
    return msgspec.json.encode(value, enc_hook=_encode_other)


def _decode_other(kind: type, value: Any) -> Any:
    if kind is not Digest or not isinstance(value, str):
        raise ValueError(f"expected {kind.__name__}")  # msgspec adds where
    try:
        return Digest.parse(value)
    except InvalidImage as exc:
        raise ValueError(exc.message) from exc


def _encode_other(value: object) -> object:
    if isinstance(value, Digest):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")
