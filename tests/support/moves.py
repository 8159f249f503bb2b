"""Moves of directories of lower layers, and what is done in them: the same on any file system."""

import errno
import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from overlayfs.linux.files import RENAME_EXCHANGE, RENAME_NOREPLACE
from tests.support.callers import outcome, rename
from tests.support.tree import names
from tests.support.union import opaque, run, whiteout, write

if TYPE_CHECKING:
    from collections.abc import Callable

# Three of them and a name make a path that a redirect cannot hold; two do not.
LONG = "/".join(letter * 100 for letter in "xyz")

SCENES: dict[str, list[str]] = {
    "lower": ["mv d moved", "list moved/sub", "cat moved/f"],
    "merged": ["write d/new", "write d/sub/new", "rm d/f", "mv d moved", "cat moved/f2"],
    "of-one-layer": ["mv base-only moved", "mv top-only again", "write moved/new"],
    "behind-a-lower-opaque-one": ["mv masked moved", "write moved/new", "mv moved/sub out"],
    "into-a-lower-one": ["mv d e/d", "write e/d/f", "list e/d"],
    "into-a-new-one": ["mkdir n", "mv d n/d", "write n/d/f", "mv n n2", "mv n2/d/sub n2/sub"],
    "into-a-moved-one": ["mv d moved", "mv e moved/e", "write moved/e/k", "list moved/e"],
    "onto-a-name-below-a-moved-one": ["mv d moved", "rm moved/sub", "mv e moved/sub"],
    "out-of-a-moved-one": ["mv d moved", "mv moved/sub out", "mkdir moved/sub", "list out"],
    "nested": ["mv d/sub d/other", "mv d moved", "mv moved/other/deep moved/deep", "rm moved/f"],
    "there-and-back": ["mv d moved", "write moved/new", "mv moved d", "rm d/f", "list d"],
    "there-and-back-deeper": ["mv d e/d", "mv e/d d", "mv e/sub d/e-sub", "mv d/e-sub e/sub"],
    "in-turn": ["mv d tmp", "mv e d", "mv tmp e", "write d/k", "write e/f"],
    "twice": ["mv d one", "mv one two", "mv two/sub two/three", "mv two/three/deep two/sub"],
    "the-old-name-anew": ["mv d moved", "mkdir d", "list d", "write d/f", "mkdir d/sub"],
    "the-old-name-anew-and-away": ["mv d moved", "mkdir d", "rmdir d", "mkdir d", "mv d dd"],
    "the-old-name-a-file": ["mv d moved", "write d", "rm d", "mkdir d", "list d"],
    "the-old-name-for-another": ["mv d moved", "mv e d", "mkdir e", "list d", "list e"],
    "exchange": ["mvx d e", "list d", "list e", "write d/k", "write e/f"],
    "exchange-merged": ["write d/new", "write e/new", "mvx d e", "mvx d e", "mvx e/sub d/sub"],
    "exchange-nested": ["mvx d/sub e", "write e/g", "write d/sub/k", "mvx e d"],
    "exchange-with-a-file": ["mvx d file", "list file", "mvx file d", "list d"],
    "exchange-with-a-new-one": ["mkdir n", "write n/n", "mvx d n", "list d", "list n", "rm d"],
    "exchange-with-one-beneath": ["mvx d d/sub"],
    "noreplace": ["mvn d e", "mvn d file", "mvn d moved", "mvn moved d", "mvn d empty"],
    "over-an-empty-one": ["mv d empty", "list empty", "mv empty d", "mkdir empty"],
    "over-a-full-one": ["mv d e", "mv e d/sub"],
    "over-an-emptied-one": ["rm e/k", "rm e/sub", "mv d e", "list e", "write e/k", "rm e/f"],
    "over-a-moved-and-emptied-one": ["mv e moved", "rm moved/k", "rm moved/sub", "mv d moved"],
    "over-a-file": ["mv d file", "mv file d"],
    "over-a-whiteout": ["rm e", "mv d e", "list e", "rm file", "mv e file", "list file"],
    "over-its-own-whiteout": ["mv d moved", "mv moved d", "mv d moved", "list moved"],
    "into-itself": ["mv d d/sub/d", "mv d moved", "mv moved moved/sub/d"],
    "removed": ["mv d moved", "rm moved", "mkdir moved", "list moved", "mkdir d", "list d"],
    "emptied": ["mv empty d/empty", "mv d e/d", "rmdir e/d/empty", "rmdir e/d", "list e/d"],
    "changed": ["mv d moved", "chmod moved", "chown moved/sub", "set moved", "chown moved"],
    "changed-before": ["chmod d", "chown d/sub", "set d", "mv d moved", "mv moved/sub sub"],
    "opaque": ["rm d", "mkdir d", "write d/own", "mv d moved", "list moved", "mkdir d"],
    "opaque-back": ["rm d", "mkdir d", "mv d moved", "mv moved d", "list d", "mv d e/d"],
    "whiteouts-inside": ["rm d/f", "mv d moved", "write moved/f", "rm moved/f", "mv moved e/d"],
    "long-in-its-place": [f"mv {LONG}/d {LONG}/moved", f"write {LONG}/moved/f", f"rm {LONG}/e"],
    "long-elsewhere": [f"mv {LONG}/d moved", f"mv {LONG}/d/sub {LONG}/sub", f"list {LONG}"],
    "long-beneath-a-moved-one": [
        f"mv {LONG[:100]} short",
        f"mv short/{LONG[101:]}/d short/d",
        f"mv short/{LONG[101:]}/d short/{LONG[101:]}/moved",
        f"mvx short/{LONG[101:]}/moved short/{LONG[101:]}/e",
    ],
    "not-so-long": [f"mv {LONG[:201]}/d moved", "list moved", f"mv {LONG[:100]} d/short"],
    "files-without-data": ["chown d/f", "mv d moved", "mv moved/f moved/g", "cat moved/g"],
    "files-without-data-out": ["chown d/f", "mv d/f f", "mv d moved", "write moved/f", "cat f"],
    "files-without-data-in": ["chown file", "mv d moved", "mv file moved/file", "cat moved/file"],
    "files-without-data-onto-another": ["chown d/f", "chown d/f2", "mv d/f d/f2", "cat d/f2"],
    "files-without-data-exchanged": ["chown d/f", "mvx d/f d/f2", "cat d/f2", "cat d/f", "rm d/f"],
    "files-without-data-linked": [
        "chown d/f",
        "link d/f e/f",
        "mv e moved",
        "rm d/f",
        "cat moved/f",
    ],
    "files-without-data-written": ["chown d/f", "mv d moved", "append moved/f", "cat moved/f"],
    "files-without-data-cut": ["chown d/f", "mv d/f f", "cut f", "cat f", "mkdir d/f"],
    "long-files-without-data": [
        f"chown {LONG}/d/f",
        f"mv {LONG}/d/f {LONG}/d/g",
        f"cat {LONG}/d/g",
        f"mv {LONG}/d {LONG}/moved",
        f"cat {LONG}/moved/g",
    ],
}


def make_scene(top: Path, base: Path) -> None:
    """Directories of both layers, for one scene."""
    for folder in ("d", "e", f"{LONG}/d", f"{LONG}/e", f"{LONG[:201]}/d"):
        write(base / folder / "f", f"base {folder}/f", mode=0o640)
        write(base / folder / "sub/g", "base g")
        write(base / folder / "sub/deep/h", "base h")
        write(top / folder / "f2", "top f2")
        write(top / folder / "sub/top", "top")
        os.setxattr(base / folder / "f", "user.note", b"v")
    for folder in ("e", f"{LONG}/e"):
        (base / folder / "f").rename(base / folder / "k")
        (top / folder / "f2").unlink()
    whiteout(top / "d/sub/g")
    write(base / "base-only/sub/file", "base only")
    write(top / "top-only/sub/file", "top only")
    write(base / "masked/hidden", "hidden")
    write(base / "masked/sub/hidden", "hidden")
    write(opaque(top / "masked") / "sub/file", "not hidden")
    (base / "empty").mkdir()
    write(base / "file", "file")
    (base / "d/link").symlink_to("sub/g")
    os.mkfifo(base / "d/fifo")
    (base / "d/sub").chmod(0o3750)


def act(root: Path, line: str) -> object:
    """Do what *line* says in *root*; what it tells, or the name of an errno."""
    verb, first, *more = line.split()
    path = root / first
    other = root / more[0] if more else path

    def cut() -> None:
        os.truncate(path, 3)

    actions: dict[str, Callable[[], object]] = {
        "mv": partial(rename, path, other),
        "mvn": partial(rename, path, other, RENAME_NOREPLACE),
        "mvx": partial(rename, path, other, RENAME_EXCHANGE),
        "mkdir": path.mkdir,
        "rmdir": path.rmdir,
        "rm": lambda: run("rm", "-r", path),
        "write": lambda: path.write_text(line),
        "append": lambda: append(path, line),
        "cut": cut,
        "chmod": lambda: path.chmod(0o700),
        "chown": lambda: os.chown(path, 5, 6),
        "set": lambda: os.setxattr(path, "user.set", b"v"),
        "link": lambda: other.hardlink_to(path),
        "list": lambda: names(path),
        "cat": lambda: path.read_text(),
    }
    try:
        return actions[verb]() if verb in ("list", "cat") else outcome(actions[verb])
    except OSError as exc:
        return errno.errorcode[exc.errno or 0]


def append(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


def play(root: Path, step: int) -> dict[str, object]:
    """The *step*th line of each scene, in its own directory of *root*."""
    return {
        f"{name}: {lines[step]}": act(root / name, lines[step])
        for name, lines in SCENES.items()
        if step < len(lines)
    }


STEPS = range(max(len(lines) for lines in SCENES.values()))
