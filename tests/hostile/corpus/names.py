"""Names that are too long, too deep, no text, or meant for a terminal."""

from tests.hostile.blocks import END, entry, extended
from tests.hostile.case import Case, one, stack
from tests.support.layers import file, folder, symlink

LONG = "n" * 255
STEPS = "d" * 200
DEEP = "/".join([STEPS] * 30)


def deep(name: str, count: int, path: str = "d") -> Case:
    """A file beneath *count* directories."""
    parts = [path] * count
    tree = {"/".join(parts[: at + 1]): "dir" for at in range(count)}
    whole = "/".join(parts)
    return one(name, file(f"{whole}/f", b"1"), tree=tree | {f"{whole}/f": "file 1"})


CASES = [
    one(
        "name-longest",
        file(LONG, b"1"),
        folder("d/" + LONG),
        tree={LONG: "file 1", "d": "dir", "d/" + LONG: "dir"},
    ),
    one("name-too-long", file("n" * 256), says="a name of 256 bytes"),
    one("name-too-long-in-bytes", file("\u00e9" * 128), says="a name of 256 bytes"),
    one("name-too-long-directory", folder("n" * 256), says="a name of 256 bytes"),
    one("name-too-long-on-the-way", file("n" * 256 + "/x"), says="File name too long"),
    one("name-too-long-link", symlink("n" * 300, "x"), says="a name of 300 bytes"),
    deep("path-longer-than-4096", 30, STEPS),
    deep("path-of-1000-directories", 1000),
    one("path-of-3000-directories", file("d/" * 3000 + "f"), says="File name too long"),
    one(
        "path-of-3000-directories-by-links",
        folder("d/" * 1800),
        symlink("s", "d/" * 1800),
        folder("s/" + "d/" * 1800),
        says="File name too long",
    ),
    one("path-of-32-kib", file("d/" * 16400 + "f"), says="a path of 32801 bytes"),
    one(
        "path-deeper-by-links",
        *(
            item
            for at in range(40)
            for item in (
                folder(f"l{at}/" + "d/" * 50),
                symlink(f"l{at}/" + "d/" * 50 + "up", f"/l{at + 1}"),
            )
        ),
        file("l0/" + "d/" * 50 + "up/x"),
        tree=lambda _: (
            {f"l{at}" + "/d" * depth: "dir" for at in range(40) for depth in range(51)}
            | {f"l{at}" + "/d" * 50 + "/up": f"-> /l{at + 1}" for at in range(40)}
            | {"l1/x": "file"}
        ),
    ),
    stack(
        "name-not-utf-8",
        entry(b"1", name=b"\xff\xfe\x80") + END,
        tree={"\udcff\udcfe\udc80": "file 1"},
    ),
    stack(
        "name-overlong-utf-8",
        entry(b"1", name=b"\xc0\xae\xc0\xae/x") + END,
        tree={"\udcc0\udcae\udcc0\udcae": "dir", "\udcc0\udcae\udcc0\udcae/x": "file 1"},
    ),
    stack("name-with-nul", entry(b"1", name=b"good\0/../../evil") + END, tree={"good": "file 1"}),
    stack(
        "name-surrogates",
        extended(b"L", b"\xed\xa0\x80\0") + entry(b"1") + END,
        tree={"\udced\udca0\udc80": "file 1"},
    ),
    one(
        "name-of-an-option",
        file("-rf", b"1"),
        file("--checkpoint-action=exec=sh", b"1"),
        tree={"-rf": "file 1", "--checkpoint-action=exec=sh": "file 1"},
    ),
    one("name-of-spaces", file(" ", b"1"), file("a ", b"2"), tree={" ": "file 1", "a ": "file 2"}),
    one(
        "name-for-a-terminal",
        file("\x1b]0;owned\x07\x1b[2J", b"1"),
        tree={"\x1b]0;owned\x07\x1b[2J": "file 1"},
    ),
    one(
        "name-for-a-terminal-refused",
        file("\x1b[31mred\x9b2J\u202e/../x"),
        says="\\x1b[31mred\\x9b2J\\u202e/../x: '..' in a path",
    ),
    one(
        "name-with-line-breaks-refused",
        file("a\npyoverlay: all is well\r/../x"),
        says="a\\x0apyoverlay: all is well\\x0d/../x",
    ),
    one("name-long-and-refused", file("\x1b" * 3000 + "/../x"), says="'..' in a path"),
    one(
        "name-of-the-format",
        file("#0", b"1"),
        file("#1/x", b"1"),
        file("layer.json", b"1"),
        file("root/x", b"1"),
        tree={
            "#0": "file 1",
            "#1": "dir",
            "#1/x": "file 1",
            "layer.json": "file 1",
            "root": "dir",
            "root/x": "file 1",
        },
    ),
    one(
        "name-of-a-device",
        file("CON", b"1"),
        file("a:b", b"1"),
        file("NUL.txt", b"1"),
        tree={"CON": "file 1", "a:b": "file 1", "NUL.txt": "file 1"},
    ),
]
