"""Numbers of a header that are huge, negative, or none."""

import os

from tests.hostile.blocks import END, base256, block, entry, octal, pax
from tests.hostile.case import Case, Ground, one, stack
from tests.support.layers import TIME, file, folder, symlink

LAST = b"\x7f" * 11


def field(name: str, value: bytes, *, says: str = "", tree: str = "", key: str = "size") -> Case:
    """A file of which one field is *value*."""
    data = entry(b"", **{key: value}) + END
    return stack(name, data, says=says or None, tree={"f": tree} if tree else None)


def latest(ground: Ground) -> dict[str, str]:
    """The highest time that the file system keeps stands for all beyond it."""
    path = ground.base / "latest"
    path.touch()
    os.utime(path, (int("9" * 18),) * 2)
    return {"f": f"file mtime={path.stat().st_mtime_ns}"}


CASES = [
    field("size-highest-octal", b"77777777777\0", says="unexpected end of data"),
    field("size-twelve-digits", b"777777777777", says="unexpected end of data"),
    field("size-base-256-huge", b"\x80" + LAST, says="a size of "),
    field("size-base-256-exabytes", base256(1 << 62), says="unexpected end of data"),
    field("size-negative", base256(-1), says="a size of -1"),
    field("size-very-negative", b"\xff" + b"\0" * 11, says="a size of -"),
    field("size-octal-with-sign", b"-0000000512\0", says="a number that is none"),
    field("size-octal-with-plus", b"+0000000000\0", says="a number that is none"),
    field("size-octal-with-underscore", b"0_000_000_0\0", says="a number that is none"),
    field("size-octal-prefixed", b"0o000000000\0", says="a number that is none"),
    field("size-decimal-digits", b"00000000089\0", says="damaged header"),
    field("size-of-spaces", b"           \0", tree="file"),
    field("size-empty", b"\0" * 12, tree="file"),
    field("size-with-garbage-behind", b"0\0" + b"99999\0\0\0\0\0", tree="file"),
    stack(
        "size-of-directory",
        block(type=b"5", size=base256(1 << 33), name=b"d", mode=b"0000755\0") + END,
        tree={"d": "dir"},
    ),
    stack(
        "size-of-link", block(type=b"2", size=base256(1 << 33), link=b"t") + END, tree={"f": "-> t"}
    ),
    one("pax-size-negative", file("f", pax={"size": "-1024"}), says="a size of -1024"),
    one("pax-size-huge", file("f", pax={"size": str(1 << 62)}), says="unexpected end of data"),
    one("pax-size-beyond-64-bits", file("f", pax={"size": "9" * 20}), says="a size of 99999"),
    one("pax-size-of-4000-digits", file("f", pax={"size": "9" * 4000}), says="which is no number"),
    one("pax-size-of-5000-digits", file("f", pax={"size": "1" * 5000}), says="which is no number"),
    one("pax-size-fraction", file("f", pax={"size": "1.5"}), says="which is no number"),
    one("pax-size-hex", file("f", pax={"size": "0x10"}), says="which is no number"),
    one(
        "pax-size-other-digits", file("f", pax={"size": "\u0661\u0662"}), says="which is no number"
    ),
    one("pax-size-empty", file("f", pax={"size": ""}), says="which is no number"),
    stack(
        "pax-size-goes-before-the-block",
        pax((b"size", b"3")) + block(size=octal(1 << 20)) + b"abc".ljust(512, b"\0") + END,
        tree={"f": "file abc"},
    ),
    stack(
        "pax-size-hides-an-entry",
        pax((b"size", b"512")) + block(size=octal(0)) + block(name=b"hidden") + END,
        tree={"f": "file 512 bytes"},
    ),
    field("uid-minus-one", base256(-1, 8), key="uid", says="owner -1:0"),
    field("uid-of-32-ones", base256(0xFFFFFFFF, 8), key="uid", says="owner 4294967295:0"),
    field("uid-beyond-32-bits", base256(1 << 32, 8), key="gid", says="owner 0:4294967296"),
    field("uid-highest", base256(0xFFFFFFFE, 8), key="uid", tree="file owner=4294967294:0"),
    field("uid-octal-with-sign", b"-000001\0", key="uid", says="a number that is none"),
    one("pax-uid-negative", file("f", pax={"uid": "-5"}), says="owner -5:0"),
    one("pax-uid-huge", file("f", pax={"gid": "9" * 19}), says="owner 0:999"),
    one("pax-uid-name", file("f", pax={"uid": "root"}), says="which is no number"),
    one(
        "owner-names-say-nothing",
        file("f", pax={"uname": "root\x1b[2J", "gname": "x" * 10000}),
        tree={"f": "file"},
    ),
    field("mode-all-bits", b"7777777\0", key="mode", tree="file mode=7777"),
    field("mode-negative", base256(-1, 8), key="mode", tree="file mode=7777"),
    field("mode-huge", b"\x80" + b"\xff" * 7, key="mode", tree="file mode=7777"),
    field("mode-type-of-another", b"0060644\0", key="mode", tree="file"),
    field("mtime-negative", base256(-86400), key="mtime", tree="file mtime=-86400000000000"),
    field("mtime-huge", b"\x80" + LAST, key="mtime", says="out of range"),
    field("mtime-very-negative", b"\xff" + b"\0" * 11, key="mtime", says="out of range"),
    one(
        "pax-mtime-negative", file("f", pax={"mtime": "-1.5"}), tree={"f": "file mtime=-1500000000"}
    ),
    one(
        "pax-mtime-exact",
        file("f", pax={"mtime": f"{TIME}.123456789999"}),
        tree={"f": f"file mtime={TIME}123456789"},
    ),
    one("pax-mtime-exponent", file("f", pax={"mtime": "1e9"}), says="not a time: '1e9'"),
    one("pax-mtime-nan", file("f", pax={"mtime": "nan"}), says="not a time: 'nan'"),
    one("pax-mtime-infinite", file("f", pax={"mtime": "inf"}), says="not a time: 'inf'"),
    one("pax-mtime-hex", file("f", pax={"mtime": "0x10"}), says="not a time"),
    one("pax-mtime-far", file("f", pax={"mtime": "9" * 18}), tree=latest),
    one(
        "pax-mtime-long",
        file("f", pax={"mtime": "1." + "1" * 100000}),
        tree={"f": "file mtime=1111111111"},
    ),
    one("pax-mtime-digits", file("f", pax={"mtime": "1" * 100000}), says="not a time"),
    one("pax-atime-soon", folder("f", pax={"atime": "soon"}), says="not a time: 'soon'"),
    one("pax-atime-of-a-link", symlink("f", "t", pax={"atime": "-"}), says="not a time"),
    stack(
        "checksum-zero",
        block()[:148] + b"0000000\0" + block()[156:] + END,
        says="not a readable tar",
    ),
]
