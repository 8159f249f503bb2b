"""Random changes of a union, beside the kernel's overlayfs on the same layers.

``PYOVERLAY_SEEDS=200:100`` tries a hundred other seeds, beginning with 200.
"""

import json
import os
import random
import stat
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.operations import CLOCK, Flavour, apply, make_layer, operations, timeless
from tests.support.tree import Tree, assert_same
from tests.support.union import REPOSITORY, Stack, run

FIRST, _, COUNT = os.environ.get("PYOVERLAY_SEEDS", "0:12").partition(":")
SEEDS = range(int(FIRST), int(FIRST) + int(COUNT or "1"))
STEPS = 60

KERNEL = Flavour()
LINKED = Flavour(links=True)
MOVING = Flavour(options=("redirect_dir=on", "metacopy=on"))
LINKED_MOVING = replace(MOVING, links=True)
# Symbolic links and fifos on a disk have neither owners nor attributes in the user format.
USER = Flavour(prefix="user", owners=False, without=frozenset({"set trusted attribute"}))
PLAIN = Flavour(
    prefix="user",
    owners=False,
    plain=True,
    without=frozenset({"chown", "set trusted attribute"}),
)


def random_stack(base: Path, chance: random.Random, flavour: Flavour) -> tuple[Stack, Stack]:
    """A stack of random layers, and another on the same ones."""
    options = (*(("userxattr",) if flavour.prefix == "user" else ()), *flavour.options)
    own = options if flavour.owners else ("xattr_permissions=2",)
    ours = Stack.make(base / "ours", lowers=chance.choice([1, 2, 3]), options=own)
    below: list[Path] = []
    for layer in reversed(ours.lowers):
        make_layer(chance, layer, below, flavour)
        below.insert(0, layer)
    twin = Stack.make(base / "twin", options=options)
    return ours, Stack(twin.base, ours.lowers, options)


def undated(kernel: Tree, ours: Tree) -> Tree:
    """The *kernel*'s tree without the one time that it sets too often.

    When a file that was copied up without its data is opened for writing, bringing the data
    counts as a change there, though nobody may write.
    """
    return {
        path: replace(entry, mtime_ns=ours[path].mtime_ns)
        if entry.kind == "file" and entry.mtime_ns == CLOCK and path in ours
        else entry
        for path, entry in kernel.items()
    }


@pytest.mark.parametrize("flavour", [KERNEL, MOVING], ids=["plain", "moving"])
@pytest.mark.parametrize("seed", SEEDS)
def test_random_changes_end_as_in_the_kernel(
    tmp_path: Path, needs_kernel_overlay: None, needs_fuse: None, seed: int, flavour: Flavour
) -> None:
    chance = random.Random(seed)
    stack, twin = random_stack(tmp_path, chance, flavour)
    with twin.by_kernel() as merged, stack.mounted() as mnt:
        assert_same(timeless(merged), timeless(mnt))
        for step, operation in enumerate(operations(chance, STEPS, flavour)):
            expected = apply(merged, operation)
            assert apply(mnt, operation) == expected, f"seed {seed}, step {step}: {operation}"
        live = timeless(mnt)
        assert_same(undated(timeless(merged), live), live)
        assert list((stack.work / "work").iterdir()) == []
    with stack.mounted() as mnt:
        assert_same(live, timeless(mnt))
    # The upper directory that we wrote, read by the kernel.
    with stack.by_kernel() as merged:
        assert_same(live, timeless(merged))
    # And the one that the kernel wrote, read by us.
    with twin.mounted() as mnt:
        assert_same(live, undated(timeless(mnt), live))


@pytest.mark.parametrize("flavour", [LINKED, LINKED_MOVING], ids=["plain", "moving"])
@pytest.mark.parametrize("seed", SEEDS[:4] if len(SEEDS) < 13 else SEEDS)
def test_random_changes_of_hard_linked_files(
    tmp_path: Path, needs_kernel_overlay: None, needs_fuse: None, seed: int, flavour: Flavour
) -> None:
    """Through several mounts; nothing stays in memory from one to the next."""
    chance = random.Random(seed)
    stack, twin = random_stack(tmp_path, chance, flavour)
    steps = operations(chance, STEPS, flavour)
    # A name that is hidden is counted again after the next mount; the kernel notes it down.
    uncounted = frozenset({"nlink"})
    with twin.by_kernel(index=True) as merged:
        for part in range(0, STEPS, STEPS // 3):
            with stack.mounted() as mnt:
                for operation in steps[part : part + STEPS // 3]:
                    expected = apply(merged, operation)
                    assert apply(mnt, operation) == expected, f"seed {seed}: {operation}"
                live = timeless(mnt)
                assert_same(undated(timeless(merged), live), live, but=uncounted)
            with stack.mounted() as mnt:
                assert_same(live, timeless(mnt), but=uncounted)


@pytest.mark.parametrize("seed", SEEDS[:4] if len(SEEDS) < 13 else SEEDS)
def test_random_changes_in_the_user_format(
    tmp_path: Path, needs_kernel_overlay: None, needs_fuse: None, seed: int
) -> None:
    chance = random.Random(seed)
    stack, twin = random_stack(tmp_path, chance, USER)
    with twin.by_kernel() as merged, stack.mounted() as mnt:
        assert_same(timeless(merged), timeless(mnt))
        for step, operation in enumerate(operations(chance, STEPS, USER)):
            expected = apply(merged, operation)
            assert apply(mnt, operation) == expected, f"seed {seed}, step {step}: {operation}"
        live = timeless(mnt)
        # The kernel forgets there that two fifos are one when they are copied up.
        assert_same(timeless(merged), live, but=frozenset({"same_as"}))
    with stack.mounted() as mnt:
        assert_same(live, timeless(mnt))


def texts(tree: Tree) -> dict[str, str]:
    """*tree* for JSON, without the one thing that the kernel's overlayfs gets wrong here."""
    return {os.fsdecode(path): repr(replace(each, same_as=b"")) for path, each in tree.items()}


# Becomes a plain user, mounts as that user, works in the mount, and unmounts: all in one
# process and its mount namespace, as nobody else may look into the mount.
AS_A_USER = """
import ctypes, fcntl, json, os, random, subprocess, sys
import encodings.idna, runpy  # what is imported late must lie where the user may read
import overlayfs.fuse.session
from overlayfs.cli import mountprogram
from pathlib import Path
from tests.mounted.test_against_kernel import PLAIN, STEPS, texts
from tests.support.operations import apply, operations, timeless
from tests.support.tree import differences

base, seed, lowers = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
mnt = base / "ours/mnt"
os.setgroups([])
os.setresgid(65534, 65534, 65534)
os.setresuid(65534, 65534, 65534)
ctypes.CDLL(None).prctl(4, 1)  # PR_SET_DUMPABLE: /proc/self belongs to the user then
os.umask(0o022)


def mount():
    upper, work = base / "ours/upper", base / "ours/work"
    options = f"lowerdir={lowers},upperdir={upper},workdir={work}"
    sys.argv = ["pyoverlayfs", "-o", options, str(mnt)]
    mountprogram.main()


def unmount():
    subprocess.run(["fusermount3", "-u", mnt], check=True)
    fd = os.open(base / "ours/upper", os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)  # the daemon's for as long as it lives
    os.close(fd)


mount()
chance = random.Random(seed)
answers = [apply(mnt, operation) for operation in operations(chance, STEPS, PLAIN)]
live = timeless(mnt, owner=65534)
unmount()
mount()
again = timeless(mnt, owner=65534)
unmount()
told = {"answers": answers, "tree": texts(live), "remount": differences(live, again)}
print(json.dumps(told))
"""


@pytest.mark.parametrize("seed", SEEDS[:2] if len(SEEDS) < 13 else SEEDS)
def test_random_changes_by_a_plain_user(
    tmp_path: Path, needs_kernel_overlay: None, needs_fuse: None, seed: int
) -> None:
    """The same tree comes about as in root's; only the owners differ."""
    stack, twin = random_stack(tmp_path, random.Random(seed), PLAIN)
    with twin.by_kernel() as merged:
        expected = [apply(merged, each) for each in operations(random.Random(seed), STEPS, PLAIN)]
        tree = timeless(merged)
    for folder in (*tmp_path.parents, tmp_path):
        if folder.is_relative_to("/tmp/") and folder != Path("/tmp"):
            folder.chmod(folder.stat().st_mode | 0o011)
    run("chown", "-R", "-h", "65534:65534", stack.base)
    node = tmp_path / "fuse"
    os.mknod(node, stat.S_IFCHR, Path("/dev/fuse").stat().st_rdev)
    node.chmod(0o666)
    prepare = f'mount --bind "{node}" /dev/fuse && exec "$@"'
    lowers = ":".join(str(layer) for layer in stack.lowers)
    said = run(
        *("env", f"PYTHONPATH={REPOSITORY}"),
        *("unshare", "--mount", "sh", "-c", prepare, "sh"),
        *(sys.executable, "-c", AS_A_USER, tmp_path, str(seed), lowers),
    )
    told = json.loads(said)
    assert told["answers"] == expected
    assert told["tree"] == texts(tree)
    assert told["remount"] == []
