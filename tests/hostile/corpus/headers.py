"""Extended headers: chains, giants, lies about length, what contradicts itself."""

from tests.hostile.blocks import END, block, entry, extended, octal, pax, record
from tests.hostile.case import OUT, UP, Ground, one, stack
from tests.support.layers import file, symlink

F = entry(b"1") + END
PATH = record(b"path", b"x")
MB = 1 << 20


def pax_bytes(data: bytes, size: bytes | None = None) -> bytes:
    """A pax header with these bytes."""
    return extended(b"x", data, size)


def many_globals(_: Ground) -> bytes:
    """A hundred megabytes of global headers, each with a key of its own."""
    return (
        b"".join(
            extended(b"g", record(b"k%d" % at, b"v" * (MB - 100))) + entry(name=b"f%d" % at)
            for at in range(64)
        )
        + END
    )


CASES = [
    stack("pax-no-records", pax_bytes(b"garbage " * 10) + F, says="a record that has no length"),
    stack("pax-empty", pax_bytes(b"") + F, tree={"f": "file 1"}),
    stack("pax-length-zero", pax_bytes(b"0 path=x\n") + F, says="another length"),
    stack("pax-length-short", pax_bytes(b"5 path=x\n") + F, says="another length"),
    stack("pax-length-long", pax_bytes(b"999 path=x\n") + F, says="another length"),
    stack("pax-length-huge", pax_bytes(b"9" * 19 + b" path=x\n") + F, says="another length"),
    stack("pax-length-negative", pax_bytes(b"-9 path=x\n") + F, says="no length"),
    stack(
        "pax-length-of-digits-without-end",
        lambda _: pax_bytes(b"1" * (8 * MB)) + F,
        says="no length",
    ),
    stack("pax-length-of-spaces", lambda _: pax_bytes(b" " * (8 * MB)) + F, says="no length"),
    stack(
        "pax-length-of-other-digits",
        pax_bytes("\u0661\u0662 path=x\n".encode()) + F,
        says="no length",
    ),
    stack("pax-no-equals", pax_bytes(b"7 path\n") + F, says="another length"),
    stack("pax-no-key", pax_bytes(b"5 =x\n") + F, tree={"f": "file 1"}),
    stack("pax-without-newline", pax_bytes(b"9 path=xy") + F, says="another length"),
    stack(
        "pax-cut-by-its-size", pax_bytes(PATH * 3, octal(len(PATH) + 4)) + F, says="another length"
    ),
    stack("pax-size-beyond-the-end", pax_bytes(PATH, octal(1 << 30)) + F, says="bytes of headers"),
    stack(
        "pax-size-of-terabytes",
        pax_bytes(PATH, b"\x80" + b"\0" * 4 + b"\1" + b"\0" * 6) + F,
        says="bytes of headers",
    ),
    stack("pax-size-negative-header", pax_bytes(PATH, b"\xff" * 12) + F, says="a size of -1"),
    stack("pax-behind-pax", pax_bytes(PATH) * 2 + F, says="two extended headers of one kind"),
    stack("pax-chain", pax_bytes(PATH) * 5000 + F, says="two extended headers of one kind"),
    stack(
        "pax-solaris-behind-pax",
        pax_bytes(PATH) + extended(b"X", PATH) + F,
        says="two extended headers",
    ),
    stack("pax-solaris", extended(b"X", record(b"path", b"sun")) + F, tree={"sun": "file 1"}),
    stack(
        "pax-and-gnu-name", extended(b"L", b"gnu\0") + pax_bytes(PATH) + F, says="of pax and of GNU"
    ),
    stack("pax-at-the-end", entry(name=b"a") + pax_bytes(PATH) + END, says="without an entry"),
    stack("pax-at-the-cut", entry(name=b"a") + pax_bytes(PATH), says="without an entry"),
    stack("pax-in-front-of-damage", pax_bytes(PATH) + b"\1" * 512 + END, says="not a readable tar"),
    stack(
        "pax-path-twice",
        pax((b"path", b"../evil"), (b"path", b"good")) + F,
        tree={"good": "file 1"},
    ),
    stack(
        "pax-path-twice-evil",
        pax((b"path", b"good"), (b"path", b"../evil")) + F,
        says="'..' in a path",
    ),
    stack("pax-path-with-nul", pax((b"path", b"a\0b")) + F, says="NUL in a name"),
    stack("pax-path-with-newline", pax((b"path", b"a\nb")) + F, tree={"a\nb": "file 1"}),
    stack("pax-path-with-equals", pax((b"path", b"a=b=c")) + F, tree={"a=b=c": "file 1"}),
    stack("pax-key-with-nul", pax((b"path\0", b"x")) + F, tree={"f": "file 1"}),
    stack(
        "pax-keys-in-other-case", pax((b"PATH", b"x"), (b"Size", b"9999")) + F, tree={"f": "file 1"}
    ),
    stack(
        "pax-charset",
        pax((b"hdrcharset", b"BINARY"), (b"path", b"\xff\xfe")) + F,
        tree={"\udcff\udcfe": "file 1"},
    ),
    stack(
        "pax-charset-of-another-world",
        pax((b"hdrcharset", b"\xff\n1 x"), (b"path", b"p")) + F,
        tree={"p": "file 1"},
    ),
    stack(
        "pax-unknown-keys",
        pax(*((b"vendor.%d" % at, b"x" * 50) for at in range(20000))) + F,
        tree={"f": "file 1"},
    ),
    stack(
        "pax-giant-value", lambda _: pax((b"comment", b"x" * (12 * MB))) + F, tree={"f": "file 1"}
    ),
    stack(
        "pax-giant-value-beyond-the-limit",
        lambda _: pax((b"comment", b"x" * (17 * MB))) + F,
        says="bytes of headers",
    ),
    stack("pax-million-records", pax_bytes(b"6 a=b\n" * 1_000_000) + F, tree={"f": "file 1"}),
    stack(
        "pax-type-of-a-directory", pax((b"path", b"d/")) + entry(b"1") + END, tree={"d": "file 1"}
    ),
    stack(
        "global-path",
        extended(b"g", record(b"path", b"../evil") + record(b"uid", b"77")) + F,
        tree={"f": "file 1"},
    ),
    stack("global-size", extended(b"g", record(b"size", b"1000000")) + F, tree={"f": "file 1"}),
    stack(
        "global-attributes",
        extended(b"g", record(b"SCHILY.xattr.user.a", b"1")) + F,
        tree={"f": "file 1"},
    ),
    stack(
        "global-chain", extended(b"g", record(b"comment", b"x")) * 5000 + F, tree={"f": "file 1"}
    ),
    stack("global-garbage", extended(b"g", b"\xff" * 1000) + F, tree={"f": "file 1"}),
    stack(
        "global-at-the-end",
        entry(b"1") + extended(b"g", record(b"comment", b"x")) + END,
        says="without an entry",
    ),
    stack("globals-without-end", many_globals, tree={f"f{at}": "file" for at in range(64)}),
    stack(
        "gnu-name-twice", extended(b"L", b"a\0") * 2 + F, says="two extended headers of one kind"
    ),
    stack(
        "gnu-name-chain", extended(b"L", b"a\0") * 5000 + F, says="two extended headers of one kind"
    ),
    stack(
        "gnu-name-and-link",
        extended(b"K", b"t\0") + extended(b"L", b"s\0") + block(type=b"2") + END,
        tree={"s": "-> t"},
    ),
    stack("gnu-name-empty", extended(b"L", b"") + F, says="no name"),
    stack("gnu-name-of-nul", extended(b"L", b"\0../x\0") + F, says="no name"),
    stack("gnu-name-cut-at-nul", extended(b"L", b"good\0/../../x") + F, tree={"good": "file 1"}),
    stack("gnu-name-giant", lambda _: extended(b"L", b"a/" * (6 * MB)) + F, says="a path of"),
    stack(
        "gnu-name-beyond-the-limit",
        lambda _: extended(b"L", b"a" * (17 * MB)) + F,
        says="bytes of headers",
    ),
    stack("gnu-name-size-negative", extended(b"L", b"x", b"\xff" * 12) + F, says="a size of -1"),
    stack(
        "gnu-name-size-lies", extended(b"L", b"x\0", octal(1 << 20)) + F, says="without an entry"
    ),
    stack(
        "gnu-name-at-the-end",
        entry(name=b"a") + extended(b"L", b"x\0") + END,
        says="without an entry",
    ),
    stack(
        "gnu-link-to-decoy",
        extended(b"K", (UP + "x").encode()) + block(type=b"1") + END,
        says="'..' in a path",
    ),
    stack("gnu-link-in-front-of-a-file", extended(b"K", b"../x\0") + F, tree={"f": "file 1"}),
    stack(
        "gnu-name-slash-at-the-hundredth",
        extended(b"L", b"d" * 99 + b"/f\0") + entry(b"1", name=b"d" * 99 + b"/", type=b"\0") + END,
        tree={"d" * 99: "dir", "d" * 99 + "/f": "file 1"},
    ),
    one(
        "pax-link-to-decoy",
        symlink("s", "", pax={"linkpath": OUT + "/kept"}),
        tree={"s": f"-> {OUT}/kept"},
    ),
    one(
        "pax-name-of-32-kib",
        file("f", pax={"path": "d/" * 20000 + "f"}),
        says="a path of 40001 bytes",
    ),
    stack(
        "two-thousand-entries",
        b"".join(block(name=b"%d" % at) for at in range(2000)) + END,
        tree={str(at): "file" for at in range(2000)},
    ),
]
