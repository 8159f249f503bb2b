"""A little that becomes much: bytes, members, entries, memory."""

import gzip
import lzma
import struct
import sys
import zlib
from collections.abc import Callable
from functools import cache

from tests.hostile.blocks import END, block, entry
from tests.hostile.case import Case, Ground, archive, file_of, stack
from tests.hostile.corpus.archives import GOOD, LAYER, TREE, docker, listed
from tests.support.archives import Made, before_1_10, tar_bytes, v1_id
from tests.support.layers import file, folder, link, tar

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MB = 1 << 20
# Far less than what is usual, so that a bomb may be small.
TIGHT = {"PYOVERLAY_MAX_RATIO_BEYOND": "16M"}
LOOSE = {"PYOVERLAY_MAX_RATIO_BEYOND": "16M", "PYOVERLAY_MAX_RATIO": "0"}
FULL = {"PYOVERLAY_MIN_FREE": "999999G"}
TOO_MUCH = "over 100 times its size"

PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": lambda data: gzip.compress(data, 6, mtime=0),
    "zstd": lambda data: zstd.compress(data, 3),
    "xz": lambda data: lzma.compress(data, preset=1),
}


@cache
def zeros() -> bytes:
    """A layer of much."""
    return tar(file("zeros", bytes(64 * MB)))


def packed(
    name: str,
    blob: Callable[[], bytes],
    plain: Callable[[], bytes],
    *,
    env: dict[str, str] | None = None,
    says: str | None = None,
    tree: dict[str, str] | None = None,
) -> Case:
    """An archive whose layer *blob* is said to unpack to *plain*."""

    def members(_: Ground) -> object:
        return docker(listed(), ("l.tar", blob()), config=Made((plain(),)).config)

    case = archive(name, members, tree, says)  # type: ignore[arg-type]  # Members
    return case.given(env or TIGHT)


def dictionary(data: bytes) -> bytes:
    """An xz stream that wants four gigabytes for its dictionary."""
    stream = bytearray(lzma.compress(data, preset=0))
    length = (stream[12] + 1) * 4
    header = stream[12 : 12 + length - 4]
    header[4] = 40  # xz file format, 5.3.1: 4 GiB - 1
    stream[12 : 12 + length] = bytes(header) + struct.pack("<I", zlib.crc32(bytes(header)))
    return bytes(stream)


def window(data: bytes, log: int) -> bytes:
    """A zstd frame with a window of 2 to the *log* bytes (RFC 8878, 3.1.1.1.2)."""
    head = b"\x28\xb5\x2f\xfd\x00" + bytes([(log - 10) << 3])
    return head + (1 | len(data) << 3).to_bytes(3, "little") + data


def long_name(length: int) -> bytes:
    """A gzip member with a file name of that length in its header."""
    member = gzip.compress(LAYER, mtime=0)
    return member[:3] + b"\x08" + member[4:10] + b"n" * length + b"\0" + member[10:]


def in_turn(data: bytes, pack: Callable[[bytes], bytes], times: int) -> bytes:
    for _ in range(times):
        data = pack(data)
    return data


EMPTY = gzip.compress(b"", mtime=0)
SKIPPED = b"\x50\x2a\x4d\x18\0\0\0\0"
LOWER = (file("big", b"x" * (20 * MB)),)

CASES = [
    *(
        packed(f"bomb-{name}", lambda pack=pack: pack(zeros()), zeros, says=TOO_MUCH)
        for name, pack in PACKERS.items()
    ),  # type: ignore[misc]  # mypy infers no lambda with a default
    *(
        packed(
            f"bomb-{name}-allowed",
            lambda pack=pack: pack(zeros()),
            zeros,
            env=LOOSE,
            tree={"zeros": f"file {64 * MB} bytes"},
        )
        for name, pack in PACKERS.items()
    ),  # type: ignore[misc]  # mypy infers no lambda with a default
    *(
        file_of(
            f"bomb-archive-{name}",
            lambda _, pack=pack: pack(tar_bytes([("zeros", bytes(64 * MB)), *GOOD])),
            says=TOO_MUCH,
        ).given(TIGHT)
        for name, pack in PACKERS.items()
    ),  # type: ignore[misc]  # mypy infers no lambda with a default
    packed("bomb-in-several-layers", lambda: gzip.compress(zeros()), zeros, says=TOO_MUCH),
    archive(
        "bomb-of-the-oldest-archives",
        lambda _: before_1_10([(v1_id(1), {}, gzip.compress(zeros()))], {"a": {"1": v1_id(1)}}),
        says=TOO_MUCH,
    ).given(TIGHT),
    packed(
        "bomb-fills-the-disk",
        lambda: zeros() + b"\0" * MB,
        lambda: zeros() + b"\0" * MB,
        env=FULL,
        says="leaves too little free on the disk",
    ),
    file_of(
        "bomb-archive-fills-the-disk",
        lambda _: gzip.compress(tar_bytes([("zeros", bytes(70 * MB)), *GOOD]), 1),
        says="leaves too little free on the disk",
    ).given(FULL),
    file_of("good-archive-in-gzip", lambda _: gzip.compress(tar_bytes(GOOD)), TREE),
    file_of(
        "archive-in-gzip-in-gzip",
        lambda _: in_turn(tar_bytes(GOOD), gzip.compress, 2),
        says="no tar",
    ),
    file_of(
        "archive-in-gzip-a-hundred-times",
        lambda _: in_turn(tar_bytes(GOOD), gzip.compress, 100),
        says="no tar",
    ),
    packed(
        "layer-in-gzip-in-gzip",
        lambda: in_turn(LAYER, gzip.compress, 2),
        lambda: gzip.compress(LAYER),
        says="not a readable tar",
    ),
    packed(
        "layer-of-many-empty-members",
        lambda: EMPTY * 200_000 + gzip.compress(LAYER),
        lambda: LAYER,
        tree=TREE,
    ),
    packed(
        "layer-of-a-million-skipped-frames",
        lambda: SKIPPED * 1_000_000 + zstd.compress(LAYER),
        lambda: LAYER,
        tree=TREE,
    ),
    packed(
        "layer-of-a-member-for-each-byte",
        lambda: b"".join(gzip.compress(bytes([byte])) for byte in LAYER),
        lambda: LAYER,
        tree=TREE,
    ),
    packed(
        "layer-with-zeros-behind",
        lambda: gzip.compress(LAYER) + bytes(8 * MB),
        lambda: LAYER,
        tree=TREE,
    ),
    packed(
        "layer-with-garbage-behind",
        lambda: gzip.compress(LAYER) + b"garbage",
        lambda: LAYER,
        says="something else follows",
    ),
    packed(
        "layer-with-another-kind-behind",
        lambda: gzip.compress(LAYER) + zstd.compress(LAYER),
        lambda: LAYER,
        says="something else follows",
    ),
    packed("layer-cut", lambda: gzip.compress(LAYER)[:-9], lambda: LAYER, says="end too early"),
    packed(
        "layer-cut-in-zstd", lambda: zstd.compress(LAYER)[:-3], lambda: LAYER, says="end too early"
    ),
    packed(
        "layer-cut-in-xz", lambda: lzma.compress(LAYER)[:-9], lambda: LAYER, says="end too early"
    ),
    packed("layer-of-a-gzip-header", lambda: EMPTY[:10], lambda: LAYER, says="end too early"),
    packed(
        "layer-with-a-wrong-checksum",
        lambda: gzip.compress(LAYER)[:-8] + bytes(8),
        lambda: LAYER,
        says="damaged gzip data",
    ),
    packed("layer-with-a-long-name", lambda: long_name(1000), lambda: LAYER, tree=TREE),
    packed("layer-with-a-name-of-megabytes", lambda: long_name(16 * MB), lambda: LAYER, tree=TREE),
    packed(
        "xz-wants-four-gigabytes", lambda: dictionary(LAYER), lambda: LAYER, says="damaged xz data"
    ),
    packed(
        "zstd-wants-two-gigabytes",
        lambda: window(LAYER, 31),
        lambda: LAYER,
        says="damaged zstd data",
    ),
    packed(
        "zstd-wants-the-most", lambda: window(LAYER, 41), lambda: LAYER, says="damaged zstd data"
    ),
    packed(
        "zstd-wants-a-dictionary",
        lambda: b"\x28\xb5\x2f\xfd\x23\x01\0\0\0" + b"\x05\x01\0\0",
        lambda: LAYER,
        says="damaged zstd data",
    ),
    packed(
        "zstd-says-another-size",
        lambda: (
            b"\x28\xb5\x2f\xfd\xe0"
            + b"\xff" * 7
            + b"\x7f"
            + (1 | len(LAYER) << 3).to_bytes(3, "little")
            + LAYER
        ),
        lambda: LAYER,
        says="damaged zstd data",
    ),
    stack(
        "entries-many",
        b"".join(entry(name=b"f%d" % at) for at in range(3_000)) + END,
        tree={f"f{at}": "file" for at in range(3_000)},
    ),
    stack("entries-of-one-name", entry(b"1", name=b"f") * 3_000 + END, tree={"f": "file 1"}),
    stack(
        "directories-many",
        b"".join(block(name=b"d%d" % at, type=b"5", mode=b"0000755\0") for at in range(2_000))
        + END,
        tree={f"d{at}": "dir" for at in range(2_000)},
    ),
    stack(
        "directories-implied-many",
        b"".join(entry(name=b"d%d/f" % at) for at in range(500)) + END,
        tree={
            f"d{at}{name}": what
            for at in range(500)
            for name, what in (("", "dir"), ("/f", "file"))
        },
    ),
    stack(
        "directory-and-file-in-turn",
        (block(name=b"x", type=b"5") + entry(name=b"x/y") + entry(b"1", name=b"x")) * 500 + END,
        tree={"x": "file 1"},
    ),
    stack(
        "whiteouts-many",
        b"".join(entry(name=b".wh.f%d" % at) for at in range(3_000)) + END,
        tree={},
    ),
    stack(
        "whiteouts-by-device-many",
        b"".join(block(name=b"f%d" % at, type=b"3") for at in range(3_000)) + END,
        tree={},
    ),
    stack(
        "hard-links-many",
        entry(b"1", name=b"f")
        + b"".join(block(name=b"l%d" % at, type=b"1", link=b"f") for at in range(2_000))
        + END,
        tree={"f": "file 1 links=2001"} | {f"l{at}": "file 1 links=2001" for at in range(2_000)},
    ),
    stack(
        "hard-link-to-itself-many",
        entry(b"1", name=b"f") + block(name=b"f", type=b"1", link=b"f") * 3_000 + END,
        tree={"f": "file 1"},
    ),
    stack(
        "lower-file-copied-by-each-layer",
        LOWER,
        *((link(f"l{at}", "big"),) for at in range(20)),
        tree=dict.fromkeys(
            ["big", *(f"l{at}" for at in range(20))], f"file {20 * MB} bytes links=2"
        ),
    ),
    stack(
        "lower-file-copied-until-the-disk-is-full",
        LOWER,
        *((file(".wh.big"), link(f"l{at}", "big" if not at else f"l{at - 1}")) for at in range(6)),
        says="leaves too little free on the disk",
    ).given(FULL),
    stack("one-file-of-zeros", (file("f", bytes(4 * MB)),), tree={"f": f"file {4 * MB} bytes"}),
    stack("padding-without-end", tar(folder("d")) + bytes(32 * MB), tree={"d": "dir"}),
]
