"""Types of files: conflicts within a layer and between layers, and what is no plain file."""

import tarfile

from tests.hostile.blocks import END, base256, block, entry, octal
from tests.hostile.case import OUT, one, stack
from tests.support.layers import Item, device, file, folder, symlink

FIFO = tarfile.FIFOTYPE
CHAR, BLOCK = tarfile.CHRTYPE, tarfile.BLKTYPE

CASES = [
    one(
        "file-then-directory", file("x"), folder("x"), file("x/y"), tree={"x": "dir", "x/y": "file"}
    ),
    one("directory-then-file", folder("x"), file("x/y"), file("x", b"1"), tree={"x": "file 1"}),
    one("directory-then-link", folder("x"), file("x/y"), symlink("x", "z"), tree={"x": "-> z"}),
    one("file-then-beneath", file("x"), file("x/y"), says="Not a directory"),
    one("fifo-then-beneath", Item("x", FIFO), file("x/y"), says="Not a directory"),
    one("device-then-beneath", device("x", CHAR, 1, 3), file("x/y"), says="Not a directory"),
    one("twice", file("x", b"first"), file("x", b"2"), tree={"x": "file 2"}),
    one(
        "twice-by-dots",
        file("x", b"first"),
        file("./x", b"2"),
        file("/x", b"3"),
        tree={"x": "file 3"},
    ),
    one(
        "directory-twice",
        folder("x", 0o700),
        file("x/y"),
        folder("x", 0o711),
        tree={"x": "dir mode=711", "x/y": "file"},
    ),
    one(
        "all-types-in-turn",
        file("x"),
        folder("x"),
        symlink("x", "y"),
        Item("x", FIFO),
        device("x", CHAR, 5, 1),
        file("x", b"1"),
        tree={"x": "file 1"},
    ),
    one(
        "case-games",
        file("Etc/x", b"1"),
        file("etc/x", b"2"),
        file("ETC", b"3"),
        tree={"Etc": "dir", "Etc/x": "file 1", "etc": "dir", "etc/x": "file 2", "ETC": "file 3"},
    ),
    one(
        "normalisation-games",
        file("\u00e9", b"1"),
        file("e\u0301", b"2"),
        tree={"\u00e9": "file 1", "e\u0301": "file 2"},
    ),
    stack(
        "lower-file-upper-beneath",
        (file("x"),),
        (file("x/y", b"1"),),
        tree={"x": "dir", "x/y": "file 1"},
    ),
    stack("lower-directory-upper-file", (file("x/y"),), (file("x", b"1"),), tree={"x": "file 1"}),
    stack(
        "lower-directory-upper-link", (file("x/y"),), (symlink("x", OUT),), tree={"x": f"-> {OUT}"}
    ),
    stack("lower-directory-upper-fifo", (file("x/y"),), (Item("x", FIFO),), tree={"x": "pipe"}),
    stack(
        "lower-device-upper-directory",
        (device("x", BLOCK, 8, 0),),
        (folder("x"),),
        tree={"x": "dir"},
    ),
    stack(
        "directory-file-directory",
        (file("x/low"),),
        (file("x"),),
        (file("x/high"),),
        tree={"x": "dir", "x/high": "file"},
    ),
    one(
        "devices",
        device("null", CHAR, 1, 3, mode=0o666),
        device("disk", BLOCK, 8, 0, mode=0o666),
        tree={"null": "char 1:3 mode=666", "disk": "block 8:0 mode=666"},
    ),
    one(
        "device-with-highest-numbers",
        device("x", CHAR, 0xFFF, 0xFFFFF),
        tree={"x": f"char {0xFFF}:{0xFFFFF}"},
    ),
    stack(
        "device-number-beyond-32-bits",
        block(type=b"3", major=base256(1 << 40, 8)) + END,
        says="device",
    ),
    stack("device-number-negative", block(type=b"4", major=base256(-1, 8)) + END, says="device"),
    stack(
        "device-number-too-high-for-the-kernel",
        block(type=b"3", major=octal(0x1000, 8), minor=octal(1, 8)) + END,
        says="device",
    ),
    stack(
        "device-with-a-size",
        block(type=b"3", size=octal(1 << 30), minor=octal(3, 8), major=octal(1, 8)) + END,
        tree={"f": "char 1:3"},
    ),
    one("fifo", Item("p", FIFO), tree={"p": "pipe"}),
    stack("fifo-with-data", block(type=b"6", size=octal(600)) + END, tree={"f": "pipe"}),
    stack("socket", entry(b"", type=b"s") + END, says="an entry of the unknown type b's'"),
    stack("contiguous-file", entry(b"1", type=b"7") + END, tree={"f": "file 1"}),
    stack("old-file", entry(b"1", type=b"\0") + END, tree={"f": "file 1"}),
    stack(
        "old-directory", block(type=b"\0", name=b"d/", mode=b"0000755\0") + END, tree={"d": "dir"}
    ),
    stack(
        "gnu-directory-listing",
        entry(b"Yf\0\0", type=b"D", name=b"d/") + END,
        says="unknown type b'D'",
    ),
    stack("gnu-volume-label", entry(b"", type=b"V") + END, says="unknown type b'V'"),
    stack("gnu-continued-file", entry(b"1", type=b"M") + END, says="unknown type b'M'"),
    stack("gnu-renames", entry(b"Rename a to b\n\0", type=b"N") + END, says="unknown type b'N'"),
    stack("solaris-access-list", entry(b"1", type=b"A") + END, says="unknown type b'A'"),
    stack("unknown-type", entry(b"1", type=b"\xff") + END, says="unknown type"),
    one(
        "setuid",
        file("su", b"1", mode=0o6755),
        folder("tmp", 0o1777),
        tree={"su": "file 1 mode=6755", "tmp": "dir mode=1777"},
    ),
    one(
        "mode-nothing",
        file("x", b"1", mode=0),
        folder("d", 0),
        file("d/y", b"2"),
        tree={"x": "file 1 mode=0", "d": "dir mode=0", "d/y": "file 2"},
    ),
    stack("layer-twice", (file("x", b"1"),), (file("x", b"1"),), tree={"x": "file 1"}),
    stack(
        "layer-again-above-a-whiteout",
        (file("x", b"1"),),
        (file(".wh.x"),),
        (file("x", b"1"),),
        tree={"x": "file 1"},
    ),
    stack("layer-of-nothing", b"", (file("x"),), tree={"x": "file"}),
    stack("no-layers", tree={}),
    stack("many-layers", *((file("x", b"%d" % at),) for at in range(300)), tree={"x": "file 299"}),
    stack(
        "root-twice",
        (folder(".", 0o700),),
        (folder(".", 0o711), folder("/", 0o755, gid=9)),
        tree={"": "dir owner=0:9"},
    ),
]
