"""Directories of lower layers that are renamed in place (redirect_dir=on)."""

import errno
import os
import stat
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from overlayfs.linux.files import RENAME_EXCHANGE, RENAME_NOREPLACE
from tests.support.callers import outcome, rename
from tests.support.operations import timeless
from tests.support.tree import Tree, assert_same, names, snapshot
from tests.support.union import Stack, is_whiteout, opaque, run, whiteout, write

if TYPE_CHECKING:
    from collections.abc import Callable

OPTIONS = ("redirect_dir=on", "metacopy=on")
MIB = 1 << 20
# Three of them and a name make a path that a redirect cannot hold; two do not.
LONG = "/".join(letter * 100 for letter in "xyz")


@pytest.fixture
def stack(tmp_path: Path, needs_root: None, needs_fuse: None) -> Stack:
    """Two empty lower directories and an upper one, with directories that can be renamed."""
    return Stack.make(tmp_path / "stack", lowers=2, options=OPTIONS)


# -- scenes ------------------------------------------------------------------------------

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


@pytest.fixture(scope="module")
def layers(tmp_path_factory: pytest.TempPathFactory, needs_root: None) -> tuple[Path, ...]:
    """The lower directories of all scenes, topmost first."""
    base = tmp_path_factory.mktemp("layers")
    for name in SCENES:
        make_scene(base / "top" / name, base / "base" / name)
    return base / "top", base / "base"


@pytest.fixture(scope="module")
def played(
    tmp_path_factory: pytest.TempPathFactory, layers: tuple[Path, ...], needs_kernel_overlay: None
) -> tuple[dict[str, object], Tree, Stack]:
    """What the kernel's overlayfs answers, the tree in the end, and the directories."""
    made = Stack.make(tmp_path_factory.mktemp("kernel") / "stack", options=OPTIONS)
    stack = Stack(made.base, layers, OPTIONS)
    told: dict[str, object] = {}
    with stack.by_kernel() as merged:
        for step in STEPS:
            told |= play(merged, step)
        tree = timeless(merged)
    return told, tree, stack


def fresh(base: Path, layers: tuple[Path, ...]) -> Stack:
    """Empty upper and work directories over *layers*."""
    return Stack(Stack.make(base, options=OPTIONS).base, layers, OPTIONS)


Played = tuple[dict[str, object], Tree, Stack]


def test_every_move_ends_as_in_the_kernel(
    tmp_path: Path, layers: tuple[Path, ...], played: Played, needs_fuse: None
) -> None:
    expected, tree, kernels = played
    stack = fresh(tmp_path / "stack", layers)
    before = [snapshot(layer, ignore=()) for layer in layers]
    with stack.mounted() as mnt:
        told: dict[str, object] = {}
        for step in STEPS:
            told |= play(mnt, step)
        assert told == expected
        live = timeless(mnt)
        assert_same(tree, live)
        assert names(stack.work / "work") == []
    with stack.mounted() as mnt:
        assert_same(live, timeless(mnt))
    with stack.by_kernel() as merged:
        assert_same(live, timeless(merged))
    with kernels.mounted() as mnt:
        assert_same(live, timeless(mnt))
    for layer, was in zip(layers, before, strict=True):
        assert_same(was, snapshot(layer, ignore=()))
    # Each way to end is among the scenes.
    ends = {"done", "EXDEV", "EEXIST", "ENOTEMPTY", "ENOTDIR", "EINVAL", "EISDIR"}
    assert ends <= {end for end in expected.values() if isinstance(end, str)}


@pytest.mark.parametrize("between", ["we", "we-with-attributes", "the-kernel"])
def test_a_mount_for_each_step(
    tmp_path: Path, layers: tuple[Path, ...], played: Played, needs_fuse: None, between: str
) -> None:
    """All that counts is on the disk, in a form that the kernel goes on with, and we with its."""
    expected, tree, _ = played
    stack = fresh(tmp_path / "stack", layers)
    told: dict[str, object] = {}
    for step in STEPS:
        if step % 2 and between == "the-kernel":
            mounted = stack.by_kernel()
        else:
            kind = "xattr" if between == "we-with-attributes" else "device"
            mounted = stack.mounted(f"whiteouts={kind}")
        with mounted as mnt:
            told |= play(mnt, step)
    assert told == expected
    with stack.mounted() as mnt:
        assert_same(tree, timeless(mnt))
    if between != "we-with-attributes":  # the kernel lists some of those
        with stack.by_kernel() as merged:
            assert_same(tree, timeless(merged))


# -- what it costs ------------------------------------------------------------------------


def bytes_read(pid: int) -> int:
    """How much process *pid* read and copied, by any call."""
    fields = Path(f"/proc/{pid}/io").read_text().split()
    return int(fields[fields.index("rchar:") + 1])


def test_mv_copies_nothing_and_looks_at_nothing_inside(stack: Stack) -> None:
    write(stack.lower / "dir/large", os.urandom(20 * MIB))
    for number in range(2000):
        write(stack.lower / f"dir/many/{number}")
    daemon = stack.start()
    try:
        mnt = stack.mountpoint
        assert names(mnt) == ["dir"]
        before = bytes_read(daemon.pid)
        run("mv", mnt / "dir", mnt / "moved")
        # Not even the names: the listing alone would be more.
        assert bytes_read(daemon.pid) - before < 20_000
        assert names(stack.upper) == ["dir", "moved"]
        assert is_whiteout(stack.upper / "dir")
        assert names(stack.upper / "moved") == []
        assert os.getxattr(stack.upper / "moved", "trusted.overlay.redirect") == b"/dir"
        assert len(names(mnt / "moved/many")) == 2000
        run("cmp", mnt / "moved/large", stack.lower / "dir/large")
        daemon.unmount()
    finally:
        if daemon.process.poll() is None:
            daemon.abandon()


def test_inode_numbers_stay(stack: Stack) -> None:
    write(stack.lower / "d/sub/file", "text")
    write(stack.lowers[0] / "d/sub/top", "text")

    def numbers(folder: Path) -> dict[str, int]:
        found = {str(path.relative_to(folder)): path.lstat().st_ino for path in folder.rglob("*")}
        for path in (folder, folder / "sub"):
            with os.scandir(path) as scan:
                for entry in scan:
                    assert entry.inode() == Path(entry.path).lstat().st_ino
        return found | {".": folder.stat().st_ino}

    with stack.mounted() as mnt:
        before = numbers(mnt / "d")
        (mnt / "d").rename(mnt / "moved")
        assert numbers(mnt / "moved") == before
    with stack.mounted() as mnt:
        assert numbers(mnt / "moved") == before
        (mnt / "moved/sub/file").write_text("changed")
        (mnt / "d").mkdir()
        assert (mnt / "d").stat().st_ino != before["."]
        assert numbers(mnt / "moved") == before
    with stack.mounted() as mnt:
        assert numbers(mnt / "moved") == before


def test_an_open_directory_and_an_open_file_go_along(stack: Stack) -> None:
    write(stack.lower / "d/sub/file", "text")
    with stack.mounted() as mnt, (mnt / "d/sub/file").open("r+") as file:
        fd = os.open(mnt / "d/sub", os.O_RDONLY)
        (mnt / "d").rename(mnt / "moved")
        os.mkdir("new", dir_fd=fd)
        assert os.listdir(fd) == ["file", "new"]  # noqa: PTH208 - a descriptor
        file.write("more")
        file.flush()
        assert (mnt / "moved/sub/file").read_text() == "more"
        os.close(fd)
    with stack.mounted() as mnt:
        assert (mnt / "moved/sub/file").read_text() == "more"


@pytest.mark.parametrize("again", ["in-one-mount", "after-a-remount"])
def test_names_of_one_file_in_moved_directories(stack: Stack, again: str) -> None:
    """A write through one shows through the others, wherever their directories went."""
    write(stack.lower / "a/one", "old")
    for name in ("a/two", "b/three", "c/four"):
        (stack.lower / name).parent.mkdir(exist_ok=True)
        (stack.lower / name).hardlink_to(stack.lower / "a/one")
    moved = [Path(name) for name in ("x/one", "x/two", "x/b/three", "c/four")]

    def begin(mnt: Path) -> None:
        (mnt / "a").rename(mnt / "x")
        (mnt / "b").rename(mnt / "x/b")

    def go_on(mnt: Path, text: str, name: Path) -> None:
        (mnt / name).write_text(text)
        assert [(mnt / each).read_text() for each in moved] == [text] * 4
        assert {(mnt / each).stat().st_nlink for each in moved} == {4}
        assert len({(mnt / each).stat().st_ino for each in moved}) == 1

    with stack.mounted() as mnt:
        begin(mnt)
        if again == "in-one-mount":
            go_on(mnt, "new", moved[0])
    for number, name in enumerate((moved[2], moved[3], moved[1])):
        with stack.mounted() as mnt:
            go_on(mnt, f"through {number}", name)
    with stack.mounted() as mnt:
        assert [(mnt / each).read_text() for each in moved] == ["through 2"] * 4


# -- options ------------------------------------------------------------------------------


@pytest.fixture
def moved(stack: Stack) -> Stack:
    """A directory that was moved, and one that has its old name."""
    write(stack.lower / "d/sub/file", "text")
    write(stack.lower / "other/file", "other")
    with stack.mounted() as mnt:
        (mnt / "d").rename(mnt / "moved")
        (mnt / "other").rename(mnt / "d")
        write(mnt / "moved/new", "new")
    return Stack(stack.base, stack.lowers)


@pytest.mark.parametrize("option", ["redirect_dir=off", "redirect_dir=follow", "metacopy=off"])
def test_what_was_moved_is_found_when_nothing_may_be_moved(moved: Stack, option: str) -> None:
    with moved.mounted(option) as mnt:
        assert {path.name for path in mnt.rglob("*")} == {"moved", "sub", "file", "new", "d"}
        assert (mnt / "moved/sub/file").read_text() == "text"
        assert names(mnt / "d") == ["file"]
        (mnt / "moved/sub/file").write_text("changed")
        (mnt / "moved/new").rename(mnt / "d/new")
        assert outcome(lambda: (mnt / "moved").rename(mnt / "again")) == "EXDEV"
        assert outcome(lambda: (mnt / "d/file").rename(mnt / "moved/file")) == "done"
    with moved.by_kernel() as merged:
        assert (merged / "moved/sub/file").read_text() == "changed"
        assert names(merged / "moved") == ["file", "sub"]


def test_nofollow_shows_that_there_is_a_directory_but_nothing_of_it(moved: Stack) -> None:
    """Without its lower parts it would be another directory; with those of its name, too."""
    before = snapshot(moved.upper, ignore=())
    with moved.mounted("redirect_dir=nofollow") as mnt:
        assert names(mnt) == ["d", "moved"]
        assert stat.S_ISDIR((mnt / "moved").stat().st_mode)
        for use in (
            lambda: names(mnt / "moved"),
            lambda: (mnt / "moved/new").read_text(),
            lambda: (mnt / "moved").rmdir(),
            lambda: (mnt / "moved").rename(mnt / "again"),
            lambda: (mnt / "moved/made").mkdir(),
        ):
            assert outcome(use) == "EPERM"
    assert_same(before, snapshot(moved.upper, ignore=()))
    with moved.by_kernel() as merged:
        assert (merged / "moved/new").read_text() == "new"
    told = run_refused(moved, "redirect_dir=nofollow", "metacopy=on")
    assert "metacopy=on and redirect_dir=nofollow contradict each other" in told


def run_refused(stack: Stack, *options: str) -> str:
    """What a mount with *options* complains about."""
    with pytest.raises(AssertionError, match=r"not mounted: 1\n") as caught:
        stack.start(*options)
    return str(caught.value)


def test_the_user_format_has_redirects_of_its_own(tmp_path: Path, needs_fuse: None) -> None:
    options = ("xattr_permissions=2", *OPTIONS)
    stack = Stack.make(tmp_path / "stack", options=options)
    write(stack.lower / "d/sub/file", "text" * 1000)
    with stack.mounted() as mnt:
        (mnt / "d").rename(mnt / "moved")
        os.chown(mnt / "moved/sub/file", 5, 6)
        (mnt / "moved/sub/file").rename(mnt / "file")
        live = timeless(mnt)
        assert live[b"file"].size == 4000
    assert os.getxattr(stack.upper / "moved", "user.overlay.redirect") == b"/d"
    assert os.getxattr(stack.upper / "file", "user.overlay.redirect") == b"/d/sub/file"
    assert (stack.upper / "file").read_bytes() == bytes(4000)
    with stack.mounted() as mnt:
        assert_same(live, timeless(mnt))
        assert (mnt / "file").read_text() == "text" * 1000


# -- layers that lie ----------------------------------------------------------------------


def test_what_lower_layers_say_is_not_obeyed(stack: Stack) -> None:
    """An image may bring such attributes; they are neither followed nor shown nor copied."""
    write(stack.lower / "secret/file", "secret")
    for layer in stack.lowers:
        write(layer / "dir/own", f"own {layer.name}")
        os.setxattr(layer / "dir", "trusted.overlay.redirect", b"/secret")
        (layer / "root").mkdir()
        os.setxattr(layer / "root", "trusted.overlay.redirect", b"/etc")
        write(layer / f"bare-{layer.name}", bytes(100))
        os.setxattr(layer / f"bare-{layer.name}", "trusted.overlay.metacopy", b"")
        os.setxattr(layer / f"bare-{layer.name}", "trusted.overlay.redirect", b"/secret/file")
    for _ in range(2):
        with stack.mounted() as mnt:
            assert names(mnt / "dir") == ["own"]
            assert names(mnt / "root") == []
            for layer in stack.lowers:
                assert (mnt / f"bare-{layer.name}").read_bytes() == bytes(100)
            os.chown(mnt / "bare-lower1", 5, 6)  # a copy without data
            assert (mnt / "bare-lower1").read_bytes() == bytes(100)
            with (mnt / "bare-lower2").open("r+b") as file:  # and one with it
                file.write(b"x")
            assert (mnt / "bare-lower2").read_bytes() == b"x" + bytes(99)
            (mnt / "bare-lower2").write_bytes(bytes(100))
            (mnt / "dir/new").touch()
            assert names(mnt / "dir") == ["new", "own"]
            (mnt / "dir").rename(mnt / "moved")
            assert names(mnt / "moved") == ["new", "own"]
            assert os.listxattr(mnt / "moved") == []
            (mnt / "moved").rename(mnt / "dir")
            (mnt / "dir/new").unlink()
    assert "trusted.overlay.redirect" not in os.listxattr(stack.upper / "bare-lower2")


LIES = {
    "above": (b"..", "EINVAL"),
    "far-above": (b"../..", "EINVAL"),
    "path-with-dots": (b"/dir/../dir", "EINVAL"),
    "dot": (b".", "EINVAL"),
    "root": (b"/", "EINVAL"),
    "slashes": (b"//", "EINVAL"),
    "double-slash": (b"/dir//sub", "EINVAL"),
    "last-slash": (b"/dir/", "EINVAL"),
    "relative-path": (b"dir/sub", "EINVAL"),
    "nothing": (b"", "EINVAL"),
    "nul": (b"/dir\0/sub", []),
    "only-nul": (b"\0", []),
    "host": (b"/etc", []),
    "long": (b"/" + b"x" * 255, []),
    "over-long-name": (b"/" + b"x" * 300, []),
    "over-long": (b"/" + b"/".join([b"x" * 100] * 39), []),
    "file": (b"/file", []),
    "beneath-a-file": (b"/file/sub", []),
    "symlink": (b"/link", []),
    "beneath-a-symlink": (b"/link/sub", []),
    "whiteout": (b"/gone", []),
    "hidden": (b"/gone/sub", []),
    "missing": (b"/missing", []),
    "upper-only": (b"/new", []),
    "not-utf-8": (b"/\xff", ["strange"]),
    "itself": (b"/lies/itself", []),
    "above-itself": (b"/lies", ["below"]),
    "beneath-itself": (b"/dir/sub", ["deep"]),
    "beside": (b"below", []),
    "beyond-256": (b"/" + LONG.encode(), ["far"]),
}


def test_what_the_upper_layer_says_never_leads_out(stack: Stack) -> None:
    """A path is one of the lower layers as they are together, or it is none."""
    top, base = stack.lowers
    write(base / "dir/sub/deep", "text")
    write(base / "file", "text")
    write(base / "gone/sub/file", "hidden")
    whiteout(top / "gone")
    (base / "link").symlink_to("/etc")
    write(base / "lies/below", "text")
    write(base / LONG / "far", "text")
    write(base / os.fsdecode(b"\xff") / "strange", "text")
    write(stack.upper / "new/file", "text")
    for name, (value, _) in LIES.items():
        (stack.upper / "lies" / name).mkdir(parents=True)
        os.setxattr(stack.upper / "lies" / name, "trusted.overlay.redirect", value)
    with stack.mounted() as mnt:
        assert names(mnt / "lies") == sorted([*LIES, "below"])
        told = {name: act(mnt, f"list lies/{name}") for name in LIES}
        assert told == {name: expected for name, (_, expected) in LIES.items()}
        for name, (_, expected) in LIES.items():
            path = mnt / "lies" / name
            made = outcome(lambda path=path: (path / "made").touch())  # type: ignore[misc]
            assert made == (expected if isinstance(expected, str) else "done")
        assert names(mnt / "dir/sub") == ["deep"]


def test_the_kernel_takes_the_same_lies_for_lies(stack: Stack, needs_kernel_overlay: None) -> None:
    """But it says EACCES of dots, and takes no directory to be in itself."""
    write(stack.lower / "dir/sub/deep", "text")
    write(stack.lower / "file", "text")
    write(stack.lower / "lies/below", "text")
    write(stack.lower / LONG / "far", "text")
    others = {"not-utf-8", "whiteout", "hidden", "symlink", "beneath-a-symlink"}
    others |= {"nul", "only-nul", "above-itself"}
    for name, (value, _) in LIES.items():
        (stack.upper / "lies" / name).mkdir(parents=True)
        os.setxattr(stack.upper / "lies" / name, "trusted.overlay.redirect", value)
    with stack.by_kernel() as merged:
        told = {name: act(merged, f"list lies/{name}") for name in LIES if name not in others}
    same = {"EACCES": "EINVAL", "ENAMETOOLONG": []}
    assert {name: same.get(str(end), end) for name, end in told.items()} == {
        name: expected for name, (_, expected) in LIES.items() if name not in others
    }


def test_a_directory_whose_lower_parts_are_gone(moved: Stack) -> None:
    """It shows what the upper layer has, can be used, and the layer may come back."""
    run("mv", moved.lower / "d", moved.base / "aside")
    with moved.mounted(*OPTIONS) as mnt:
        assert names(mnt / "moved") == ["new"]
        (mnt / "moved/more").touch()
        assert names(mnt / "moved") == ["more", "new"]
    run("mv", moved.base / "aside", moved.lower / "d")
    with moved.mounted(*OPTIONS) as mnt:
        assert names(mnt / "moved") == ["more", "new", "sub"]
        assert (mnt / "moved/sub/file").read_text() == "text"


def test_lower_parts_that_go_while_the_union_is_mounted(moved: Stack) -> None:
    with moved.mounted(*OPTIONS) as mnt:
        assert names(mnt / "moved/sub") == ["file"]
        run("rm", "-r", moved.lower / "d")
        assert outcome(lambda: (mnt / "moved/sub/file").read_text()) in ("ENOENT", "ESTALE", "EIO")
        assert (mnt / "moved/new").read_text() == "new"
        write(mnt / "moved/more", "more")
    with moved.mounted(*OPTIONS) as mnt:
        assert names(mnt / "moved") == ["more", "new"]


def test_opaque_counts_more_than_a_redirect(moved: Stack, needs_kernel_overlay: None) -> None:
    opaque(moved.upper / "moved")
    for mounted in (moved.by_kernel, moved.mounted):
        with mounted() as mnt:
            assert names(mnt / "moved") == ["new"]


def fill(path: Path) -> str:
    """Give *path* attributes until it takes no more; how that ends."""
    end, number = "done", 0
    while end == "done":
        end = outcome(partial(os.setxattr, path, f"user.{number:03}", b"x" * 8))
        number += 1
    return end


def test_a_disk_without_room_for_a_redirect_says_so(stack: Stack) -> None:
    """As the kernel: mv(1) copies then."""
    write(stack.lower / "d/file", "text")
    # ext4 keeps all attributes of a file in one block.
    os.setxattr(stack.lower / "d", "user.large", os.urandom(3900))
    with stack.by_kernel() as mnt:
        assert fill(mnt / "d") == "ENOSPC"
        assert outcome(lambda: (mnt / "d").rename(mnt / "moved")) == "EXDEV"
    with stack.mounted() as mnt:
        assert outcome(lambda: (mnt / "d").rename(mnt / "moved")) == "EXDEV"
        assert names(mnt) == ["d"]
        assert names(mnt / "d") == ["file"]
