"""Markers that hide too much, or what cannot be."""

import tarfile

from tests.hostile.case import OUT, UP, one, stack
from tests.hostile.corpus.paths import beneath
from tests.support.layers import Item, device, file, folder, link, symlink

LOWER = (file("d/f", b"lower"), file("d/g", b"lower"), file("top", b"lower"))
ALL = {"d": "dir", "d/f": "file lower", "d/g": "file lower", "top": "file lower"}


def without(*gone: str, **more: str) -> dict[str, str]:
    """What LOWER shows, but for what is *gone*."""
    return {path: what for path, what in ALL.items() if path not in gone} | more


CASES = [
    one("whiteout-of-nothing", file(".wh."), says="a whiteout of a name that cannot exist"),
    one("whiteout-of-dot", file(".wh.."), says="a whiteout of a name that cannot exist"),
    one("whiteout-of-parent", file("d/.wh..."), says="a whiteout of a name that cannot exist"),
    one("whiteout-too-long", file(".wh." + "n" * 256), says="a whiteout of a name that cannot"),
    one("whiteout-of-the-longest", file(".wh." + "n" * 255), tree={}),
    one("whiteout-to-parent", file("../.wh.outside"), says="'..' in a path"),
    one("whiteout-to-parent-far", file(UP + OUT + "/.wh.kept"), says="'..' in a path"),
    one("whiteout-of-a-path", file(".wh.d\\..\\x"), tree={}),
    one("beneath-whiteout", file(".wh.d/x"), says="an entry beneath a whiteout"),
    one("beneath-whiteout-in-pax", file("x", pax={"path": ".wh.d/x/y"}), says="an entry beneath a"),
    stack("whiteout-is-a-directory", LOWER, (folder(".wh.d"),), tree=without("d", "d/f", "d/g")),
    stack("whiteout-is-a-link", LOWER, (symlink(".wh.top", OUT),), tree=without("top")),
    stack(
        "whiteout-is-a-device",
        LOWER,
        (device(".wh.top", tarfile.BLKTYPE, 8, 0),),
        tree=without("top"),
    ),
    stack(
        "whiteout-has-content",
        LOWER,
        (file(".wh.top", b"x" * 5000, mode=0o4755),),
        tree=without("top"),
    ),
    stack("whiteout-twice", LOWER, (file(".wh.top"), file(".wh.top")), tree=without("top")),
    stack(
        "whiteout-of-what-is-not-there",
        LOWER,
        (file(".wh.gone"), file("x/.wh.y")),
        tree=without(x="dir"),
    ),
    stack(
        "whiteout-through-lower-link",
        (symlink("s", OUT), file("keep")),
        (file("s/.wh.kept"),),
        tree={"keep": "file", "s": "dir"},
    ),
    stack(
        "whiteout-through-own-link",
        LOWER,
        (symlink("s", OUT), file("s/.wh.kept")),
        tree=lambda ground: ALL | beneath(ground, ("s", "-> " + OUT)),
    ),
    stack(
        "opaque-through-own-link",
        LOWER,
        (symlink("s", OUT + "/dir"), file("s/.wh..wh..opq")),
        tree=lambda ground: ALL | beneath(ground, ("s", f"-> {OUT}/dir"), path=OUT + "/dir"),
    ),
    stack(
        "whiteout-of-own-file",
        LOWER,
        (file("top", b"upper"), file(".wh.top")),
        tree=without() | {"top": "file upper"},
    ),
    stack(
        "whiteout-of-own-file-before",
        LOWER,
        (file(".wh.top"), file("top", b"upper")),
        tree=without() | {"top": "file upper"},
    ),
    stack(
        "whiteout-of-own-directory",
        LOWER,
        (file("d/new", b"upper"), file(".wh.d")),
        tree={"d": "dir", "d/new": "file upper", "top": "file lower"},
    ),
    stack(
        "whiteout-by-device", LOWER, (device("d/f", tarfile.CHRTYPE, 0, 0),), tree=without("d/f")
    ),
    stack(
        "whiteout-by-device-of-directory",
        LOWER,
        (device("d", tarfile.CHRTYPE, 0, 0),),
        tree=without("d", "d/f", "d/g"),
    ),
    stack(
        "whiteout-by-device-in-base",
        (device("f", tarfile.CHRTYPE, 0, 0), file("x")),
        tree={"x": "file"},
    ),
    one(
        "whiteout-by-device-of-root",
        device(".", tarfile.CHRTYPE, 0, 0),
        says="the root is no directory",
    ),
    one(
        "hard-link-to-fake-whiteout",
        device("w", tarfile.CHRTYPE, 0, 0),
        link("h", "w"),
        says="which is nowhere",
    ),
    stack(
        "no-whiteout-by-block-device",
        LOWER,
        (device("top", tarfile.BLKTYPE, 0, 0),),
        tree=without() | {"top": "block 0:0"},
    ),
    stack(
        "no-whiteout-by-attribute",
        LOWER,
        (file("top", pax={"SCHILY.xattr.trusted.overlay.whiteout": ""}),),
        tree=without() | {"top": "file trusted.overlay.whiteout="},
    ),
    stack("opaque", LOWER, (file("d/.wh..wh..opq"),), tree={"d": "dir", "top": "file lower"}),
    stack(
        "opaque-is-a-directory",
        LOWER,
        (folder("d/.wh..wh..opq"),),
        tree={"d": "dir", "top": "file lower"},
    ),
    stack(
        "opaque-has-content",
        LOWER,
        (file("d/.wh..wh..opq", b"x" * 1000),),
        tree={"d": "dir", "top": "file lower"},
    ),
    stack(
        "opaque-is-a-link",
        LOWER,
        (symlink("d/.wh..wh..opq", OUT),),
        tree={"d": "dir", "top": "file lower"},
    ),
    stack("opaque-beneath-opaque", LOWER, (file("d/.wh..wh..opq/x", b"1"),), tree=ALL),
    stack("opaque-root", LOWER, (file(".wh..wh..opq"), file("new", b"1")), tree={"new": "file 1"}),
    stack(
        "opaque-behind-its-files",
        LOWER,
        (file("d/new", b"1"), file("d/.wh..wh..opq")),
        tree={"d": "dir", "d/new": "file 1", "top": "file lower"},
    ),
    stack("opaque-of-a-file", LOWER, (file("top/.wh..wh..opq"),), tree=without() | {"top": "dir"}),
    stack(
        "opaque-and-a-file",
        LOWER,
        (file("top", b"1"), file("top/.wh..wh..opq")),
        tree=without() | {"top": "file 1"},
    ),
    one("opaque-to-parent", file("../.wh..wh..opq"), says="'..' in a path"),
    stack(
        "reserved-names",
        LOWER,
        (folder(".wh..wh.plnk"), file(".wh..wh.plnk/12.34", b"x"), file(".wh..wh.aufs")),
        tree=ALL,
    ),
    stack(
        "reserved-hard-link",
        LOWER,
        (file(".wh..wh.plnk/1", b"x"), link("h", ".wh..wh.plnk/1")),
        says="which is nowhere",
    ),
    stack("whiteout-of-a-whiteout", LOWER, (file(".wh..wh.top"),), tree=ALL),
    one(
        "nearly-a-whiteout",
        file(".wh", b"1"),
        file(".WH.x", b"1"),
        file("x.wh.y", b"1"),
        tree={".wh": "file 1", ".WH.x": "file 1", "x.wh.y": "file 1"},
    ),
    one(
        "nearly-a-whiteout-directory",
        Item("x.wh.d/.wh", tarfile.DIRTYPE, mode=0o755),
        tree={"x.wh.d": "dir", "x.wh.d/.wh": "dir"},
    ),
]
