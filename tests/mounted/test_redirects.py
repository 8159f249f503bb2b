"""Directories of lower layers that are renamed in place (redirect_dir=on)."""

import os
import stat
from functools import partial
from pathlib import Path

import pytest

from tests.support.callers import outcome
from tests.support.moves import LONG, SCENES, STEPS, act, make_scene, play
from tests.support.operations import timeless
from tests.support.tree import Tree, assert_same, names, snapshot
from tests.support.union import Stack, is_whiteout, opaque, run, whiteout, write

OPTIONS = ("redirect_dir=on", "metacopy=on")
MIB = 1 << 20


@pytest.fixture
def stack(tmp_path: Path, needs_root: None, needs_fuse: None) -> Stack:
    """Two empty lower directories and an upper one, with directories that can be renamed."""
    return Stack.make(tmp_path / "stack", lowers=2, options=OPTIONS)


# -- scenes ------------------------------------------------------------------------------


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


def test_what_layers_of_an_image_say_is_not_obeyed(tmp_path: Path, needs_fuse: None) -> None:
    """It may bring such attributes; they are neither followed nor shown nor copied."""
    stack = Stack.of_storage(tmp_path / "stack", options=OPTIONS)
    write(stack.lower / "secret/file", "secret")
    for number, layer in enumerate(stack.lowers):
        write(layer / "dir/own", f"own {number}")
        os.setxattr(layer / "dir", "trusted.overlay.redirect", b"/secret")
        (layer / "root").mkdir()
        os.setxattr(layer / "root", "trusted.overlay.redirect", b"/etc")
        bare = write(layer / f"bare{number}", bytes(100))
        os.setxattr(bare, "trusted.overlay.metacopy", b"")
        os.setxattr(bare, "trusted.overlay.redirect", b"/secret/file")
    for _ in range(2):
        with stack.mounted() as mnt:
            assert names(mnt / "dir") == ["own"]
            assert names(mnt / "root") == []
            for number in range(2):
                assert (mnt / f"bare{number}").read_bytes() == bytes(100)
            os.chown(mnt / "bare1", 5, 6)  # a copy without data
            assert (mnt / "bare1").read_bytes() == bytes(100)
            with (mnt / "bare0").open("r+b") as file:  # and one with it
                file.write(b"x")
            assert (mnt / "bare0").read_bytes() == b"x" + bytes(99)
            (mnt / "bare0").write_bytes(bytes(100))
            (mnt / "dir/new").touch()
            assert names(mnt / "dir") == ["new", "own"]
            (mnt / "dir").rename(mnt / "moved")
            assert names(mnt / "moved") == ["new", "own"]
            assert os.listxattr(mnt / "moved") == []
            (mnt / "moved").rename(mnt / "dir")
            (mnt / "dir/new").unlink()
    assert "trusted.overlay.redirect" not in os.listxattr(stack.upper / "bare0")


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
            made = outcome(lambda path=path: (path / "made").touch())  # type: ignore[misc]  # mypy infers no lambda with a default
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
