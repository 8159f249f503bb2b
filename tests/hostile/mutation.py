"""Hostile images at random: the corpus, changed where it means something."""

import gzip
import json
import lzma
import random
import sys
import tarfile
import tempfile
from collections.abc import Callable
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

from tests.hostile.blocks import base256, block, extended, octal, pax, record, summed
from tests.hostile.case import OUT, UP, Ground
from tests.hostile.corpus.every import CASES
from tests.support.archives import Made, from_1_10, tar_bytes, to_json

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

# Larger ones are slow, and what is in them is a number of times the same.
_LARGEST = 64 << 10

_NAMES = [
    b"../x",
    b"/",
    b".",
    b"..",
    b"a/../..",
    b".wh.x",
    b".wh..wh..opq",
    b"d/.wh.",
    b"x/y",
    b"s",
]
_NAMES += [b"s/new", b"n" * 100, b"\xff", b"a\0b", OUT.encode(), UP.encode() + OUT.encode()]
_TYPES = [bytes([each]) for each in b"0123456\x007LKxgXSDAMNVs\xff"]
_SIZES = [
    octal(0),
    octal(1),
    octal(512),
    octal(1 << 30),
    base256(-1),
    base256(1 << 62),
    b"\xff" * 12,
]
_SIZES += [b"77777777777\0", b"-0000000001\0", b"           \0", b"0o00000_000\0"]
_KEYS = [
    b"path",
    b"linkpath",
    b"size",
    b"uid",
    b"mtime",
    b"atime",
    b"GNU.sparse.map",
    b"hdrcharset",
]
_KEYS += [b"GNU.sparse.major", b"GNU.sparse.minor", b"GNU.sparse.realsize", b"GNU.sparse.size"]
_KEYS += [b"GNU.sparse.offset", b"GNU.sparse.numbytes", b"GNU.sparse.name", b"SCHILY.xattr.user.a"]
_KEYS += [b"SCHILY.xattr.trusted.overlay.opaque", b"SCHILY.xattr.user.containers.override_stat"]
_KEYS += [b"SCHILY.xattr.security.capability", b"LIBARCHIVE.xattr.user.b", b"comment"]
_VALUES = [
    b"",
    b"0",
    b"-1",
    b"1",
    b"20",
    b"0,5,10,5",
    b"5,1,0,1",
    b"9" * 19,
    b"1" * 30,
    b"nan",
    b"1.5",
]
_VALUES += [b"../x", b"/", b"x\0y", b"\xff", b"y", b"0:0:0755:dir", b"BINARY", b"1e9", b"MQ=="]
_PIECES = [b"\0", b"\xff", b"\x80", b"7", b"-", b"/", b"..", b"\n", b"\0" * 512]
_JSON: list[Any] = [
    None,
    True,
    0,
    -1,
    1 << 63,
    1.5,
    "",
    "x",
    "../x",
    "/x",
    "\0",
    "\x1b[2J",
    [],
    {},
    [[]],
]
_JSON += [{"a": {}}, "sha256:" + "0" * 64, "sha256:../x", "l.tar", "c.json", ["l.tar"] * 3, 1 << 70]


@cache
def seeds() -> tuple[bytes, ...]:
    """The layers of the corpus's archives, those that are small."""
    found: dict[bytes, None] = {}
    with tempfile.TemporaryDirectory() as folder:
        for number, case in enumerate(CASES):
            if case.name.startswith(("bomb", "file-of-too-many", "index-of", "list-of")):
                continue
            base = Path(folder) / str(number)
            base.mkdir()
            spec = Path(str(case.build(Ground.make(base))))
            if spec.is_file() and spec.stat().st_size <= 4 * _LARGEST:
                found |= dict.fromkeys(_layers(spec.read_bytes()))
    return tuple(found)


def _layers(archive: bytes) -> list[bytes]:
    """What looks like a layer in *archive*."""
    try:
        with tarfile.open(fileobj=BytesIO(archive)) as tar:
            files = [member for member in tar if member.isreg()]
            data = [tar.extractfile(member) for member in files]
            return [
                body
                for file in data
                if file is not None
                and len(body := file.read()) <= _LARGEST
                and len(body) >= 512
                and body[:1] not in (b"{", b"[")
            ]
    except (tarfile.TarError, OverflowError, ValueError):
        return []


def image(chance: random.Random, out: str) -> bytes:
    """An archive that may be anything; *out* is the path of decoys."""
    layers = tuple(layer(chance, out) for _ in range(chance.choice((1, 1, 2, 3))))
    made = Made(layers)
    if chance.random() < 0.7:
        whole = tar_bytes(from_1_10([(made, ["fuzz:1"])]))
    else:
        whole = _loose(chance, made)
    if chance.random() < 0.15:
        whole = _damaged(chance, whole)
    if chance.random() < 0.05:
        whole = chance.choice(_PACKERS)(whole)
        if chance.random() < 0.3:
            whole = _damaged(chance, whole)
    return whole


def _loose(chance: random.Random, made: Made) -> bytes:
    """An archive whose lists may lie, and whose layers may be packed."""
    config: Any = json.loads(made.config)
    listed: Any = [
        {
            "Config": "c.json",
            "RepoTags": ["fuzz:1"],
            "Layers": [f"l{at}.tar" for at in range(len(made.layers))],
        }
    ]
    if chance.random() < 0.5:
        config = _changed(chance, config)
    if chance.random() < 0.5:
        listed = _changed(chance, listed)
    members = []
    for at, data in enumerate(made.layers):
        packed = chance.choice(_PACKERS)(data) if chance.random() < 0.5 else data
        packed = _damaged(chance, packed) if chance.random() < 0.2 else packed
        members.append((f"l{at}.tar", packed))
    texts = [("c.json", to_json(config)), ("manifest.json", to_json(listed))]
    if chance.random() < 0.2:
        at = chance.randrange(2)
        texts[at] = (texts[at][0], _damaged(chance, texts[at][1]))
    return tar_bytes([*members, *texts])


_PACKERS: list[Callable[[bytes], bytes]] = [
    lambda data: gzip.compress(data, 1, mtime=0),
    lambda data: zstd.compress(data, 1),
    lambda data: lzma.compress(data, preset=0),
]


def layer(chance: random.Random, out: str) -> bytes:
    """A tar that was one of the corpus."""
    data = chance.choice(seeds())
    for _ in range(chance.choice((1, 1, 2, 3, 5))):
        data = chance.choice(_CHANGES)(chance, data)
    return data.replace(OUT.encode(), out.encode()) if chance.random() < 0.9 else data


def _damaged(chance: random.Random, data: bytes) -> bytes:
    """Some bytes changed, taken out, put in or cut off."""
    at = chance.randrange(len(data) + 1)
    match chance.randrange(4):
        case 0:
            piece = chance.choice(_PIECES)
            return data[:at] + piece + data[at + len(piece) :]
        case 1:
            return data[:at]
        case 2:
            return data[:at] + chance.choice(_PIECES) + data[at:]
        case _:
            return data[:at] + data[at + chance.randrange(600) :]


def _header(chance: random.Random, data: bytes) -> bytes:
    """One field of a header is another, and the checksum right."""
    if len(data) < 512:
        return data
    start = chance.randrange(len(data) // 512) * 512
    head = bytearray(data[start : start + 512])
    place, values = chance.choice(
        (
            (0, _NAMES),
            (157, _NAMES),
            (345, _NAMES),
            (156, _TYPES),
            (124, _SIZES),
            (136, _SIZES),
            (100, [value[:8] for value in _SIZES]),
            (108, [value[:8] for value in _SIZES]),
            (329, [value[:8] for value in _SIZES]),
            (chance.randrange(500), _PIECES),
        )
    )
    value = chance.choice(values)[: 512 - place]
    head[place : place + len(value)] = value
    return data[:start] + summed(bytes(head)) + data[start + 512 :]


def _block(chance: random.Random, data: bytes) -> bytes:
    """Some blocks twice, elsewhere, or not at all."""
    count = len(data) // 512
    if not count:
        return data
    first = chance.randrange(count) * 512
    length = chance.choice((1, 1, 2, 3, 8)) * 512
    piece = data[first : first + length]
    rest = data[:first] + data[first + length :] if chance.random() < 0.5 else data
    if chance.random() < 0.2:
        return rest
    at = chance.randrange(len(rest) // 512 + 1) * 512
    return rest[:at] + piece + rest[at:]


def _front(chance: random.Random, data: bytes) -> bytes:
    """An extended header more, in front of any block."""
    at = chance.randrange(len(data) // 512 + 1) * 512
    match chance.randrange(4):
        case 0:
            text = chance.choice(_NAMES) * chance.choice((1, 1, 3, 50))
            head = extended(chance.choice((b"L", b"K")), text + b"\0")
        case 1:
            kind = chance.choice((b"x", b"g", b"X"))
            head = extended(kind, chance.choice((b"", b"5 a=\n", b"9 path=y\n", b"99 a=b\n")))
        case 2:
            size = chance.choice(_SIZES)
            head = extended(b"x", record(b"path", b"z"), size)
        case _:
            fields = [
                (chance.choice(_KEYS), chance.choice(_VALUES))
                for _ in range(chance.choice((1, 2, 3, 6)))
            ]
            head = pax(*fields)
    return data[:at] + head + data[at:]


def _entry(chance: random.Random, data: bytes) -> bytes:
    """One entry more."""
    at = chance.randrange(len(data) // 512 + 1) * 512
    head = block(
        name=chance.choice(_NAMES)[:100],
        type=chance.choice(_TYPES),
        size=chance.choice(_SIZES),
        link=chance.choice(_NAMES)[:100],
    )
    return data[:at] + head + data[at:]


def _spliced(chance: random.Random, data: bytes) -> bytes:
    """The beginning of one and the end of another."""
    other = chance.choice(seeds())
    cut, start = chance.randrange(len(data) // 512 + 1), chance.randrange(len(other) // 512 + 1)
    return (data[: cut * 512] + other[start * 512 :])[: 2 * _LARGEST]


_CHANGES = [_damaged, _header, _header, _header, _block, _front, _front, _entry, _spliced]


def _changed(chance: random.Random, value: Any, depth: int = 0) -> Any:
    """*value* with something else somewhere in it."""
    if depth > 6 or chance.random() < 0.15 or not isinstance(value, dict | list) or not value:
        return chance.choice(_JSON)
    if isinstance(value, list):
        at = chance.randrange(len(value))
        match chance.randrange(3):
            case 0:
                return value[:at] + value[at + 1 :]
            case 1:
                return value + [value[at]] * chance.choice((1, 3))
        return [*value[:at], _changed(chance, value[at], depth + 1), *value[at + 1 :]]
    key = chance.choice(sorted(value))
    if chance.random() < 0.2:
        return {name: one for name, one in value.items() if name != key}
    return value | {key: _changed(chance, value[key], depth + 1)}
