"""Paths that leave the layer, or would if somebody followed them."""

import tarfile

from tests.hostile.blocks import END, block, entry, extended, pax
from tests.hostile.case import OUT, UP, Ground, one, stack
from tests.support.layers import Item, file, folder, link, symlink


def beneath(ground: Ground, *more: tuple[str, str], path: str = OUT) -> dict[str, str]:
    """The directories of *path* as names inside the layer, and what is *more*."""
    names = ground.aimed(path).strip("/").split("/")
    tree = {"/".join(names[: depth + 1]): "dir" for depth in range(len(names))}
    return tree | {ground.aimed(name).strip("/"): what for name, what in more}


CASES = [
    one("path-parent", file("../x"), says="'..' in a path"),
    one("path-parent-absolute", file("/../x"), says="'..' in a path"),
    one("path-parent-far", file(UP + OUT + "/kept"), says="'..' in a path"),
    one("path-parent-within", file("a/../../x"), says="'..' in a path"),
    one("path-parent-that-stays-inside", file("a/b/../c"), says="'..' in a path"),
    one("path-parent-directory", folder("a/.."), says="'..' in a path"),
    one("path-parent-behind-dots", file("./.././x"), says="'..' in a path"),
    one("path-parent-behind-slashes", file("a//..//..//x"), says="'..' in a path"),
    one("path-parent-of-a-link", symlink("../x", OUT), says="'..' in a path"),
    one("path-parent-in-pax", file("x", pax={"path": UP + "x"}), says="'..' in a path"),
    stack(
        "path-parent-in-gnu-name",
        extended(b"L", b"../x\0") + entry(b"1") + END,
        says="'..' in a path",
    ),
    stack("path-parent-in-prefix", entry(b"1", name=b"x", prefix=b"../..") + END, says="'..' in a"),
    stack(
        "path-parent-split-by-prefix",
        entry(b"1", name=b"./x", prefix=b"a/.") + END,
        tree={"a": "dir", "a/x": "file 1"},
    ),
    one("path-absolute", file("/abs", b"1"), tree={"abs": "file 1"}),
    one("path-absolute-twice", file("//abs//x", b"1"), tree={"abs": "dir", "abs/x": "file 1"}),
    one(
        "path-absolute-to-decoy",
        file(OUT + "/kept", b"evil"),
        tree=lambda ground: beneath(ground, (OUT + "/kept", "file evil")),
    ),
    one(
        "path-dots",
        file("./a/./b/.//c", b"1"),
        folder("././d/."),
        tree={"a": "dir", "a/b": "dir", "a/b/c": "file 1", "d": "dir"},
    ),
    one("path-dots-only-file", file("."), says="the root is no directory"),
    one("path-dots-only-link", symlink("./", OUT), says="the root is no directory"),
    one("path-slash-file", file("/"), says="the root is no directory"),
    one("path-slash-device", Item("/", tarfile.CHRTYPE, device=(1, 3)), says="the root is no"),
    one("path-slash-directory", folder("/", 0o700, uid=7), tree={"": "dir mode=700 owner=7:0"}),
    stack("path-empty", entry(b"1", name=b"") + END, says="no name"),
    stack("path-empty-in-pax", pax((b"path", b"")) + entry(b"1") + END, says="no name"),
    one("path-file-with-slash", file("f/", b"1"), tree={"f": "file 1"}),
    one("path-three-dots", file(".../x", b"1"), tree={"...": "dir", ".../x": "file 1"}),
    one("path-backslash", file("..\\..\\x", b"1"), tree={"..\\..\\x": "file 1"}),
    one("path-encoded", file("%2e%2e%2fx", b"1"), tree={"%2e%2e%2fx": "file 1"}),
    one(
        "through-link-absolute",
        symlink("s", OUT),
        file("s/new", b"1"),
        tree=lambda ground: beneath(ground, (OUT + "/new", "file 1"), ("s", "-> " + OUT)),
    ),
    one(
        "through-link-relative",
        folder("d"),
        symlink("d/s", UP + OUT),
        file("d/s/new", b"1"),
        tree=lambda ground: beneath(
            ground, (OUT + "/new", "file 1"), ("d", "dir"), ("d/s", f"-> {UP}{OUT}")
        ),
    ),
    one(
        "through-link-to-link",
        symlink("one", "two"),
        symlink("two", OUT + "/dir"),
        file("one/kept", b"evil"),
        tree=lambda ground: beneath(
            ground,
            (OUT + "/dir/kept", "file evil"),
            ("one", "-> two"),
            ("two", f"-> {OUT}/dir"),
            path=OUT + "/dir",
        ),
    ),
    one(
        "through-link-up",
        symlink("s", ".."),
        file("s/s/x", b"1"),
        tree={"s": "-> ..", "x": "file 1"},
    ),
    one(
        "through-link-to-root",
        symlink("s", "/"),
        file("s/x", b"1"),
        tree={"s": "-> /", "x": "file 1"},
    ),
    one("through-link-to-itself", symlink("s", "s"), file("s/x"), says="Too many levels"),
    one(
        "through-link-in-a-ring",
        symlink("a", "b"),
        symlink("b", "a/."),
        file("a/x"),
        says="Too many",
    ),
    one(
        "through-link-to-a-file", file("f"), symlink("s", "f"), file("s/x"), says="Not a directory"
    ),
    one(
        "through-link-of-growing-length",
        *(symlink(f"l{at}", f"l{at + 1}/l{at + 1}") for at in range(30)),
        symlink("l30", "."),
        file("l0/x"),
        says="Too many levels",
    ),
    one(
        "through-link-directory",
        symlink("s", OUT),
        folder("s/dir", 0o777),
        tree=lambda ground: beneath(ground, (OUT + "/dir", "dir mode=777"), ("s", "-> " + OUT)),
    ),
    one("onto-link-file", symlink("s", OUT + "/kept"), file("s", b"1"), tree={"s": "file 1"}),
    one("onto-link-directory", symlink("s", OUT), folder("s", 0o777), tree={"s": "dir mode=777"}),
    one("onto-link-directory-slash", symlink("s", OUT), folder("s/"), tree={"s": "dir"}),
    one("onto-link-link", symlink("s", OUT), symlink("s", "x"), tree={"s": "-> x"}),
    one(
        "onto-link-fifo",
        symlink("s", OUT + "/kept"),
        Item("s", tarfile.FIFOTYPE),
        tree={"s": "pipe"},
    ),
    one(
        "onto-link-hard-link",
        symlink("s", OUT),
        file("f"),
        link("s", "f"),
        tree={"f": "file links=2", "s": "file links=2"},
    ),
    one(
        "swapped-directory",
        folder("d"),
        file("d/f"),
        symlink("d", OUT),
        file("d/kept", b"evil"),
        tree=lambda ground: beneath(ground, (OUT + "/kept", "file evil"), ("d", "-> " + OUT)),
    ),
    stack(
        "lower-link-upper-file",
        (symlink("s", OUT),),
        (file("s/kept", b"evil"),),
        tree={"s": "dir", "s/kept": "file evil"},
    ),
    stack(
        "lower-link-upper-link-through",
        (symlink("s", OUT),),
        (symlink("t", "s"), file("t/x", b"1")),
        tree={"s": "dir", "s/x": "file 1", "t": "-> s"},
    ),
    stack(
        "lower-link-upper-directory",
        (symlink("s", OUT),),
        (folder("s", 0o700),),
        tree={"s": "dir mode=700"},
    ),
    one(
        "link-away-is-only-shown",
        symlink("s", OUT + "/kept"),
        symlink("p", "/proc/self/environ"),
        tree={"s": f"-> {OUT}/kept", "p": "-> /proc/self/environ"},
    ),
    one("link-to-nothing", symlink("s", ""), says="a symbolic link to nothing"),
    one("link-with-nul", file("s", pax={"linkpath": "a\0b"}), tree={"s": "file"}),
    stack(
        "link-with-nul-in-target",
        pax((b"linkpath", b"a\0b")) + block(type=b"2") + END,
        says="a symbolic link to nothing",
    ),
    one("link-longer-than-a-path", symlink("s", "t" * 5000), says="a path of 5000 bytes"),
    one("link-as-long-as-a-path", symlink("s", "t/" * 2047), tree={"s": "-> 4094 bytes"}),
    one("link-with-newline", symlink("s", "a\nb\x1b[2J"), tree={"s": "-> a\nb\x1b[2J"}),
]
