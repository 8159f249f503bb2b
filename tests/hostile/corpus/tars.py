"""Layers that end too early, too late, or are no tar."""

from tests.hostile.blocks import END, block, entry, extended, octal, pax
from tests.hostile.case import Case, Ground, archive, stack
from tests.hostile.corpus.archives import docker, listed
from tests.support.archives import Made
from tests.support.layers import file, tar

TWO = entry(b"x" * 600, name=b"a") + entry(b"y", name=b"b")
ZERO = b"\0" * 512


def alone(name: str, data: bytes, *, tree: dict[str, str] | None = None, says: str = "") -> Case:
    """A layer of these bytes."""

    def members(_: Ground) -> object:
        return docker(listed(), ("l.tar", data), config=Made((data,)).config)

    return archive(name, members, tree, says or None)  # type: ignore[arg-type]  # Members


BOTH = {"a": "file 600 bytes", "b": "file y"}

CASES = [
    *(
        alone(f"layer-cut-at-{at}", TWO[:at], says=says)
        for at, says in (
            (1, "not a readable tar"),
            (511, "not a readable tar"),
            (512, "unexpected end of data"),
            (1000, "unexpected end of data"),
            (1111, "unexpected end of data"),
            (1537, "within a header"),
            (2047, "within a header"),
            (2048, "unexpected end of data"),
        )
    ),
    alone("layer-cut-behind-the-data", TWO[: 512 + 600], tree={"a": "file 600 bytes"}),
    alone("layer-cut-between-entries", TWO[:1536], tree={"a": "file 600 bytes"}),
    alone("layer-without-an-end", TWO, tree=BOTH),
    alone("layer-with-half-an-end", TWO + ZERO, tree=BOTH),
    alone("layer-with-half-a-block-at-the-end", TWO + ZERO[:100], says="within a header"),
    alone("layer-goes-on-behind-one-zero-block", TWO + ZERO + entry() + END, says="after the end"),
    alone("layer-goes-on-behind-its-end", TWO + END + entry(name=b"hidden") + END, tree=BOTH),
    alone("layer-with-garbage-behind-its-end", TWO + END + b"\xff" * 5000, tree=BOTH),
    alone("layer-of-zeros", bytes(10240), tree={}),
    alone("layer-of-one-zero-block", ZERO, tree={}),
    alone("layer-of-no-bytes", b"", tree={}),
    alone("layer-of-zeros-but-one", bytes(511) + b"\1" + bytes(1024), says="not a readable tar"),
    alone("layer-is-zip", b"PK\x03\x04" + bytes(2000), says="not a readable tar"),
    alone("layer-is-ar", b"!<arch>\n" + b"debian-binary" + bytes(2000), says="not a readable tar"),
    alone("layer-is-cpio", b"070701" + b"0" * 104 + bytes(2000), says="not a readable tar"),
    alone("layer-is-text", b"#!/bin/sh\nexit 0\n" * 100, says="not a readable tar"),
    alone("layer-is-json", b'{"layers": []}' * 100, says="not a readable tar"),
    alone("layer-of-damage", TWO[:1540] + b"\xff" + TWO[1541:], says="damaged header"),
    alone("layer-of-an-old-tar", block(at={257: bytes(8)}, name=b"f") + END, tree={"f": "file"}),
    alone("layer-of-gnu", block(at={257: b"ustar  \0"}, name=b"f") + END, tree={"f": "file"}),
    alone(
        "layer-with-a-wrong-header-sum",
        block()[:148] + b"0000001\0" + block()[156:] + END,
        says="not a readable tar",
    ),
    alone(
        "layer-with-a-checksum-of-text",
        block()[:148] + b"checksum" + block()[156:] + END,
        says="not a readable tar",
    ),
    alone("layer-cut-in-a-pax-header", pax((b"path", b"x" * 600))[:700], says="without an entry"),
    alone("layer-cut-behind-a-pax-header", pax((b"path", b"x")), says="without an entry"),
    alone("layer-cut-in-a-name", extended(b"L", b"x" * 600)[:700], says="without an entry"),
    alone("layer-cut-in-a-hole", block(type=b"S", size=octal(600)) + b"x", says="of data"),
    stack(
        "layer-within-a-layer",
        (file("layer.tar", tar(file("../x"))),),
        tree={"layer.tar": "file 10240 bytes"},
    ),
]
