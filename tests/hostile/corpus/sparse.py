"""Files with holes, in GNU tar's four forms, whose maps lie."""

from tests.hostile.blocks import END, base256, block, entry, octal, padded, pax
from tests.hostile.case import Case, one, stack
from tests.support.layers import file

MAJOR = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}


def old(
    pieces: tuple[tuple[int, int], ...], real: bytes, data: bytes, *, more: bytes = b"\0"
) -> bytes:
    """The oldest form: the map in the header itself, the real size behind it."""
    at = {
        386 + 24 * number: base256(start) + base256(size)
        for number, (start, size) in enumerate(pieces)
    }
    at |= {482: more, 483: real, 257: b"ustar  \0"}
    return block(type=b"S", at=at, size=octal(len(data))) + padded(data) + END


def form_1(name: str, text: bytes, real: int = 20, *, says: str = "", tree: str = "") -> Case:
    """The newest form: the map in front of the data."""
    item = file("f", padded(text) + b"x" * 10, pax=MAJOR | {"GNU.sparse.realsize": str(real)})
    return one(name, item, says=says or None, tree={"f": tree} if tree else None)


def form_01(name: str, numbers: str, size: int = 20, *, says: str = "", tree: str = "") -> Case:
    """The second form: the map in one record."""
    item = file("f", b"x" * 10, pax={"GNU.sparse.map": numbers, "GNU.sparse.size": str(size)})
    return one(name, item, says=says or None, tree={"f": tree} if tree else None)


TEN = "file " + "\0" * 10 + "x" * 10
HUGE = str(1 << 62)

CASES = [
    stack("sparse-old", old(((10, 10),), base256(20), b"x" * 10), tree={"f": TEN}),
    stack(
        "sparse-old-only-a-hole",
        old(((0, 0),), base256(1 << 40), b""),
        tree={"f": f"file {1 << 40} bytes"},
    ),
    stack(
        "sparse-old-overlapping",
        old(((0, 10), (5, 10)), base256(20), b"x" * 20),
        says="a map of a sparse file",
    ),
    stack(
        "sparse-old-backwards",
        old(((10, 5), (0, 5)), base256(20), b"x" * 10),
        says="a map of a sparse file",
    ),
    stack(
        "sparse-old-beyond-its-size",
        old(((100, 10),), base256(20), b"x" * 10),
        says="a map of a sparse file",
    ),
    stack("sparse-old-negative", old(((-5, 10),), base256(20), b"x" * 10), says="negative numbers"),
    stack(
        "sparse-old-negative-size", old(((0, 10),), base256(-20), b"x" * 10), says="a size of -20"
    ),
    stack(
        "sparse-old-wraps",
        old((((1 << 63) - 1, 10),), base256((1 << 63) - 1), b"x" * 10),
        says="a map of a sparse file",
    ),
    stack("sparse-old-huge", old(((0, 0),), base256(1 << 62), b""), says="File too large"),
    stack(
        "sparse-old-more-than-its-data",
        old(((0, 4096),), base256(4096), b"x" * 10),
        says="unexpected end of data",
    ),
    stack(
        "sparse-old-map-goes-on-for-ever",
        lambda _: (
            old(((0, 0),), base256(20), b"", more=b"\1")[:-1024]
            + (b"\0" * 504 + b"\1" + b"\0" * 7) * 40000
        ),
        says="bytes of headers",
    ),
    stack(
        "sparse-old-map-is-cut",
        old(((0, 0),), base256(20), b"", more=b"\1")[:512],
        says="not a readable tar",
    ),
    one(
        "sparse-0.0",
        file(
            "f",
            b"x" * 10,
            pax={
                "GNU.sparse.size": "20",
                "GNU.sparse.numblocks": "1",
                "GNU.sparse.offset": "10",
                "GNU.sparse.numbytes": "10",
            },
        ),
        tree={"f": TEN},
    ),
    stack(
        "sparse-0.0-two-pieces",
        pax(
            (b"GNU.sparse.size", b"20"),
            (b"GNU.sparse.offset", b"0"),
            (b"GNU.sparse.numbytes", b"5"),
            (b"GNU.sparse.offset", b"15"),
            (b"GNU.sparse.numbytes", b"5"),
        )
        + entry(b"x" * 10)
        + END,
        tree={"f": "file " + "x" * 5 + "\0" * 10 + "x" * 5},
    ),
    stack(
        "sparse-0.0-half-a-piece",
        pax((b"GNU.sparse.size", b"20"), (b"GNU.sparse.offset", b"0")) + entry(b"x" * 10) + END,
        says="ends within a piece",
    ),
    stack(
        "sparse-0.0-digits-without-end",
        pax((b"GNU.sparse.size", b"20"), (b"comment", b"1" * (4 << 20))) + entry(b"") + END,
        tree={"f": "file " + "\0" * 20},
    ),
    form_01("sparse-0.1", "10,10", tree=TEN),
    form_01("sparse-0.1-negative", "-10,10", says="negative numbers"),
    form_01("sparse-0.1-overlapping", "0,6,3,4", says="a map of a sparse file"),
    form_01("sparse-0.1-odd", "0,5,7", says="ends within a piece"),
    form_01("sparse-0.1-no-numbers", "a,b", says="which is no number"),
    form_01("sparse-0.1-empty", "", tree="file " + "\0" * 20),
    form_01("sparse-0.1-huge", "0,10", 1 << 62, says="File too large"),
    form_01("sparse-0.1-beyond-64-bits", "0,10", 1 << 65, says="a size of "),
    form_01("sparse-0.1-huge-piece", f"0,{HUGE}", 1 << 62, says="unexpected end of data"),
    form_01(
        "sparse-0.1-piece-at-the-end-of-time", f"{(1 << 63) - 12},10", (1 << 63) - 1, says="f:"
    ),
    form_01("sparse-0.1-too-many-pieces", "0,0," * 600_000 + "0,0", says="pieces"),
    form_01("sparse-0.1-5000-digits", "1" * 5000, says="which is no number"),
    form_1("sparse-1.0", b"1\n10\n10\n", tree=TEN),
    form_1("sparse-1.0-no-map", b"", says="sparse file"),
    form_1("sparse-1.0-no-number", b"many\n1\n2\n", says="which is no number"),
    form_1("sparse-1.0-negative-count", b"-1\n0\n5\n", says="pieces"),
    form_1("sparse-1.0-huge-count", b"9999999999\n0\n5\n", says="pieces"),
    form_1("sparse-1.0-fewer-than-it-says", b"1000\n0\n5\n", says="sparse file"),
    form_1("sparse-1.0-a-line-without-end", b"1\n" + b"1" * 5000, says="does not end"),
    form_1("sparse-1.0-overlapping", b"2\n0\n6\n3\n4\n", says="a map of a sparse file"),
    form_1("sparse-1.0-negative-piece", b"1\n-1\n5\n", says="negative numbers"),
    form_1("sparse-1.0-huge", b"1\n0\n10\n", 1 << 62, says="File too large"),
    one(
        "sparse-2.0",
        file("f", pax={"GNU.sparse.major": "2", "GNU.sparse.minor": "0"}),
        says="unknown form",
    ),
    one(
        "sparse-name-escapes",
        file(
            "f",
            b"x" * 10,
            pax={"GNU.sparse.map": "10,10", "GNU.sparse.size": "20", "GNU.sparse.name": "../evil"},
        ),
        says="'..' in a path",
    ),
    one(
        "sparse-name",
        file(
            "f",
            b"x" * 10,
            pax={"GNU.sparse.map": "10,10", "GNU.sparse.size": "20", "GNU.sparse.name": "named"},
        ),
        tree={"named": TEN},
    ),
    one(
        "sparse-real-size-only",
        file("f", b"x" * 10, pax={"GNU.sparse.realsize": HUGE}),
        says="unknown form",
    ),
]
