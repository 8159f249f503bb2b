"""Hard links: to what is outside, to each other, to what is no file, over several layers."""

import tarfile

from tests.hostile.blocks import END, block, entry, octal
from tests.hostile.case import OUT, UP, one, stack
from tests.support.layers import Item, device, file, folder, link, symlink

CASES = [
    one("hard-link-to-decoy", link("h", OUT + "/kept"), says="which is nowhere"),
    one("hard-link-to-decoy-relative", link("h", UP + OUT + "/kept"), says="'..' in a path"),
    one("hard-link-through-link", symlink("s", OUT), link("h", "s/kept"), says="which is nowhere"),
    one(
        "hard-link-to-link",
        symlink("s", OUT + "/kept"),
        link("h", "s"),
        tree={"s": f"-> {OUT}/kept links=2", "h": f"-> {OUT}/kept links=2"},
    ),
    one(
        "hard-link-to-link-then-written",
        symlink("s", OUT + "/kept"),
        link("h", "s"),
        file("h", b"evil"),
        tree={"s": f"-> {OUT}/kept", "h": "file evil"},
    ),
    one("hard-link-to-root", link("h", "/"), says="a hard link with the root"),
    one("hard-link-to-dot", link("h", "./."), says="a hard link with the root"),
    one("hard-link-called-root", file("f"), link("/", "f"), says="a hard link with the root"),
    one("hard-link-to-directory", folder("d"), link("h", "d"), says="a hard link to a directory"),
    one("hard-link-to-implied", file("d/f"), link("h", "d"), says="a hard link to a directory"),
    one("hard-link-to-nothing", link("h", "gone"), says="which is nowhere"),
    one("hard-link-to-itself", link("h", "h"), says="which is nowhere"),
    one("hard-link-to-itself-a-file", file("h", b"1"), link("h", "h"), tree={"h": "file 1"}),
    one("hard-link-to-itself-by-dots", file("h", b"1"), link("./h", "/h"), tree={"h": "file 1"}),
    one("hard-link-forward", link("h", "f"), file("f", b"1"), says="which is nowhere"),
    one("hard-link-ring", link("a", "b"), link("b", "a"), says="which is nowhere"),
    one("hard-link-empty", link("h", ""), says="no name"),
    one("hard-link-beneath-a-file", file("f"), link("h", "f/x"), says="which is nowhere"),
    one("hard-link-named-beneath-a-file", file("f"), link("f/h", "f"), says="Not a directory"),
    one(
        "hard-link-chain",
        file("a", b"1"),
        *(link(f"l{at}", f"l{at - 1}" if at else "a") for at in range(5)),
        tree={"a": "file 1 links=6"} | {f"l{at}": "file 1 links=6" for at in range(5)},
    ),
    one(
        "hard-link-over-directory",
        file("f", b"1"),
        folder("d"),
        file("d/x"),
        link("d", "f"),
        tree={"f": "file 1 links=2", "d": "file 1 links=2"},
    ),
    one(
        "hard-link-of-removed-directory",
        file("d/f", b"1"),
        link("h", "d/f"),
        file("d", b"2"),
        tree={"h": "file 1", "d": "file 2"},
    ),
    one(
        "hard-link-to-device",
        device("n", tarfile.CHRTYPE, 1, 3),
        link("h", "n"),
        tree={"n": "char 1:3 links=2", "h": "char 1:3 links=2"},
    ),
    one(
        "hard-link-to-marker", file("f"), file(".wh.f"), link("h", ".wh.f"), says="which is nowhere"
    ),
    one(
        "hard-link-called-marker",
        file("f", b"1"),
        link(".wh.f", "f"),
        tree={"f": "file 1"},
    ),
    stack(
        "hard-link-with-a-size",
        entry(b"1", name=b"a") + block(name=b"b", type=b"1", link=b"a", size=octal(1 << 30)) + END,
        tree={"a": "file 1 links=2", "b": "file 1 links=2"},
    ),
    stack(
        "hard-link-with-data",
        entry(b"1", name=b"a") + entry(b"data" * 200, name=b"b", type=b"1", link=b"a") + END,
        says="not a readable tar",
    ),
    stack(
        "hard-link-to-lower",
        (file("f", b"1"),),
        (link("h", "f"),),
        tree={"f": "file 1 links=2", "h": "file 1 links=2"},
    ),
    stack(
        "hard-link-to-lower-then-written",
        (file("f", b"1"),),
        (link("h", "f"), file("h", b"2")),
        tree={"f": "file 1", "h": "file 2"},
    ),
    stack(
        "hard-link-to-lower-directory", (folder("d"),), (link("h", "d"),), says="to the directory d"
    ),
    stack(
        "hard-link-to-lower-link-outside",
        (symlink("s", OUT + "/kept"),),
        (link("h", "s"),),
        tree={"s": f"-> {OUT}/kept links=2", "h": f"-> {OUT}/kept links=2"},
    ),
    stack(
        "hard-link-through-lower-link",
        (symlink("s", OUT),),
        (link("h", "s/kept"),),
        says="which is nowhere",
    ),
    stack(
        "hard-link-to-hidden",
        (file("f", b"1"),),
        (file(".wh.f"),),
        (link("h", "f"),),
        says="which is nowhere",
    ),
    stack(
        "hard-link-to-what-the-same-layer-hides",
        (file("f", b"1"),),
        (file(".wh.f"), link("h", "f")),
        tree={"h": "file 1"},
    ),
    stack(
        "hard-link-to-opaque",
        (file("d/f", b"1"),),
        (folder("d"), file("d/.wh..wh..opq"), link("h", "d/f")),
        tree={"d": "dir", "h": "file 1"},
    ),
    stack(
        "hard-link-to-lower-fifo",
        (Item("p", tarfile.FIFOTYPE),),
        (link("h", "p"),),
        tree={"p": "pipe links=2", "h": "pipe links=2"},
    ),
    stack(
        "hard-link-to-lower-holes",
        (file("big", pax={"GNU.sparse.map": "0,0", "GNU.sparse.size": str(1 << 40)}),),
        (link("h", "big"),),
        tree={"big": f"file {1 << 40} bytes links=2", "h": f"file {1 << 40} bytes links=2"},
    ),
    stack(
        "hard-link-to-lower-deep-down",
        (file("d/" * 500 + "f", b"1"),),
        (file("d/x"), link("h", "d/" * 500 + "f")),
        tree={("d/" * depth).rstrip("/"): "dir" for depth in range(1, 501)}
        | {"d/x": "file", "d/" * 500 + "f": "file 1 links=2", "h": "file 1 links=2"},
    ),
    one(
        "hard-link-to-nothing-far-away",
        link("h", "d/" * 9000 + "f"),
        says="d/d/d/d/d/d/d/d/\u2026, which is nowhere",
    ),
    stack(
        "hard-links-to-lower-many-names",
        (file("f", b"1"),),
        tuple(link(f"h{at:03}", "f") for at in range(200)),
        tree=dict.fromkeys(["f", *(f"h{at:03}" for at in range(200))], "file 1 links=201"),
    ),
]
