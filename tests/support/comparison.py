"""One tree three times: served by us, by the kernel's overlayfs, and as a plain copy.

What is done to one is done to all, and everything that can be seen must be alike.  The known
exceptions are these and no others:

* The kernel's and ours are not like a plain directory where a directory with parts in a lower
  layer is renamed (EXDEV, overlayfs.rst, "renaming directories"), where a character device 0:0
  is made (EPERM: it would be a whiteout) and where a rename is to leave a whiteout (EINVAL).
  What they refuse so is not done to the plain copy.
* The kernel's alone shows old content in a mapping made through a handle that was opened for
  reading before the file was copied up (overlayfs.rst, "Non-standard behavior", b), or kills
  the process (SIGBUS).  There ours is compared with the plain copy.
* The kernel's alone answers ENODATA when an access list is removed that a lower file does not
  have, and nothing when it is the upper one that has none.
* The kernel's alone counts a link of an open lower file that has lost its only name, and cannot
  always copy such a file up (EEXIST).  The handle is closed then.
* The kernel's alone finds a directory not empty that has whiteouts made of an attribute in a
  lower layer.  It is not asked any more then.
* The kernel's alone dates a file anew when it is opened for writing and its data was left below
  (metacopy), and in an upper directory of ours tells other inode numbers at one time than at
  another, and by one name of a file than by another, as the notes are missing there that it
  makes of them (origin, impure).  Ours is compared with the plain copy then.
* The kernel's alone answers EXDEV where a file whose data was left below is linked or moved and
  the path of that data takes more than 256 bytes: ours copies the data then.  The kernel is not
  asked any more.
* Where a directory cannot be moved for two reasons, the length of its path and what is in the
  way, ours tells the first (EXDEV) and the kernel the second (ENOTEMPTY).
* Ours may give another inode number after a remount to a file that the kernel copied up without
  its data and ours gave the data to: it is a new file on the disk then, and the number of the
  old one, which nothing else notes down there, may have come to another.
* Ours alone keeps the sgid bit of a file that its group may not execute when somebody else
  writes to it: FUSE does not ask for that, nor say who writes.  The bit is taken by hand then.
* The number of links of a directory is not compared: overlayfs and ours say 1, not counted.
"""

import contextlib
import os
import stat
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path

from overlayfs.linux.files import RENAME_WHITEOUT
from tests.support.actions import Glance, Known, Operation, Side, places, without
from tests.support.operations import timeless
from tests.support.pieces import Layer, write_layer
from tests.support.served import served
from tests.support.tree import differences
from tests.support.union import Stack, run

# Done to the mounts, among the operations that are done in them.
REMOUNT = Operation("remount", ())
SWAP = Operation("swap", ())

Answer = tuple[object, ...]


class Divergence(AssertionError):
    """Two trees that should be alike are not."""


class Flavour(StrEnum):
    """What is special about the layers or the mounts."""

    PLAIN = "plain"
    # Lower files have several names, and the kernel keeps an index of them.
    LINKS = "links"
    # As that, and ours keeps an index of the kernel's kind (``index=on``).
    INDEX = "index"
    # Directories with lower parts can be renamed, and attributes change without data.
    MOVES = "moves"


HARD_LINKED = (Flavour.LINKS, Flavour.INDEX)
_OPTIONS = {Flavour.MOVES: ("redirect_dir=on", "metacopy=on"), Flavour.INDEX: ("index=on",)}


class Comparison:
    """The three trees over *layers* in the empty directory *base*, mounted and alike."""

    def __init__(self, base: Path, layers: Sequence[Layer], flavour: Flavour) -> None:
        self._flavour = flavour
        # After a remount ours counts the names that are hidden again; the kernel notes it down.
        self._counts = True
        self._swapped = False
        self._first: frozenset[bytes] = frozenset()
        self._met: set[bytes] = set()
        self._judges = ["kernel", "plain"]
        self._has_white = any(piece.kind == "white" for layer in layers for piece in layer)
        self._mounts = contextlib.ExitStack()
        options = _OPTIONS.get(flavour, ())
        self._ours = Stack.make(base / "ours", lowers=len(layers), options=options)
        for path, layer in zip(reversed(self._ours.lowers), layers, strict=True):
            write_layer(os.fsencode(path), layer)
        twin = Stack.make(base / "twin")
        self._kernel = Stack(twin.base, self._ours.lowers, options)
        self.plain = base / "plain"
        self._sides: dict[str, Side] = {}
        try:
            self._mount()
            run("cp", "-a", self._kernel_root, self.plain)
            self._open()
            self.compare("when mounted")
        except BaseException:
            self.abandon()
            raise

    # -- mounts ------------------------------------------------------------------------

    def _mount(self) -> None:
        index = self._flavour in HARD_LINKED
        shared = self._flavour is Flavour.INDEX
        merged = self._kernel.by_kernel(index=index, shared=shared)
        self._kernel_root = self._mounts.enter_context(merged)
        self._our_root = self._mounts.enter_context(served(self._ours))

    def _open(self) -> None:
        roots = {"kernel": self._kernel_root, "ours": self._our_root, "plain": self.plain}
        self._sides = {name: Side(root) for name, root in roots.items()}

    def _unmount(self) -> None:
        self._let_go()
        self._mounts.close()
        left = list((self._ours.work / "work").iterdir())
        if left:
            raise Divergence(f"left in the work directory: {left}")

    def _let_go(self) -> None:
        for side in self._sides.values():
            side.close()
        self._sides = {}

    def remount(self) -> None:
        """Both again, and nothing has changed."""
        self.compare("before a remount")
        before = _numbers(self._our_root)
        self._unmount()
        self._counts = self._flavour is not Flavour.LINKS
        self._mount()
        self._open()
        self.compare("after a remount")
        after = _numbers(self._our_root)
        moved = [path for path, number in before.items() if after.get(path) != number]
        if moved and not (self._swapped and self._flavour is Flavour.MOVES):
            raise Divergence(f"other inode numbers after a remount: {moved}")

    def swap(self) -> None:
        """The kernel's on our upper directory from now on, and ours on the kernel's.

        Not with hard links in the layers, unless both keep the index of the kernel's kind.
        """
        if "kernel" not in self._judges or self._flavour is Flavour.LINKS:
            return
        self.compare("before a swap")
        self._unmount()
        self._swapped = True
        ours, kernel, options = self._ours, self._kernel, self._ours.options
        self._ours = Stack(kernel.base, ours.lowers, options)
        self._kernel = Stack(ours.base, ours.lowers, options)
        self._mount()
        self._open()
        self.compare("each on the upper directory of the other")

    def close(self) -> None:
        """Compare once more, after a remount, and unmount for good."""
        self.remount()
        self._unmount()

    def abandon(self) -> None:
        """Take away whatever is left after a failure."""
        self._let_go()
        with contextlib.suppress(Exception):
            self._mounts.close()

    # -- doing and looking -------------------------------------------------------------

    def known(self) -> Known:
        """What there is, and what there was."""
        side = self._sides["plain"]
        paths, folders = side.known()
        self._first = self._first or frozenset(paths)
        self._met.update(paths)
        gone = sorted(self._met.difference(paths))
        fresh = [path for path in paths if path not in self._first]
        return Known(paths, folders, gone, sorted(side.paths.values()), fresh)

    def compare(self, when: str) -> None:
        """Compare the whole trees."""
        ours = timeless(self._our_root)
        for name in self._judges:
            root = self._kernel_root if name == "kernel" else self.plain
            but = self._uncompared(name)
            if name == "kernel" and self._swapped and self._flavour is not Flavour.INDEX:
                but |= {"same_as"}
            found = differences(timeless(root), ours, but=but)
            if found:
                raise Divergence("\n".join([f"{when}, ours beside {name}:", *found[:20]]))

    def _uncompared(self, judge: str) -> frozenset[str]:
        """Fields in which *judge* is not asked."""
        but = set()
        if not self._counts or (self._flavour in HARD_LINKED and judge == "plain"):
            # A copy has no links to names that lower layers hide from one another.
            but.add("nlink")
        if self._flavour is Flavour.MOVES and (judge == "kernel" or self._swapped):
            but.add("mtime_ns")
        return frozenset(but)

    def step(self, operation: Operation) -> None:
        """Do *operation* everywhere; Divergence unless it comes out alike."""
        if operation == REMOUNT:
            self.remount()
        elif operation == SWAP:
            self.swap()
        else:
            self._act(operation)

    def _act(self, operation: Operation) -> None:
        ours = self._sides["ours"].apply(operation)
        if "kernel" in self._judges and not self._is_stale_mapping(operation):
            kernel = self._sides["kernel"].apply(operation)
            if (kernel[0] == "ENOTEMPTY" != ours[0] and self._has_white) or (
                self._flavour is Flavour.MOVES and kernel[0] == "EXDEV" != ours[0]
            ):
                self._judges = ["plain"]
            elif (kernel[0], ours[0]) == ("ENOTEMPTY", "EXDEV") and self._flavour is Flavour.MOVES:
                return
            elif kernel[0] == "EEXIST" and self._is_on_lost_file(operation, ours):
                self._close_everywhere(operation)
                return
            else:
                ours = self._without_sgid(operation, kernel, ours)
                self._judge(operation, ours, kernel=kernel)
        if not _is_refused_by_overlays(operation, ours):
            self._judge(operation, ours, plain=self._sides["plain"].apply(operation))

    def _judge(self, operation: Operation, ours: Answer, **judge: Answer) -> None:
        ((name, expected),) = judge.items()
        but = self._uncompared(name)
        answers = (expected, ours)
        if name == "kernel":
            if any(isinstance(each, Glance) and each.nlink == 0 for each in ours):
                but |= {"nlink"}
            if self._swapped:
                answers = (_without_numbers(expected), _without_numbers(ours))
            if operation.action == "remove_acl" and expected[0] == "ENODATA":
                return
        if without(answers[0], but) == without(answers[1], but):
            return
        lines = [f"    {who}: {_short(each)}" for who, each in ((name, expected), ("ours", ours))]
        raise Divergence("\n".join([repr(operation), *lines]))

    # -- exceptions --------------------------------------------------------------------

    def _is_stale_mapping(self, operation: Operation) -> bool:
        slot = operation.argument("slot")
        return operation.action == "map_and_read" and slot in self._sides["kernel"].readers

    @staticmethod
    def _is_on_lost_file(operation: Operation, ours: Answer) -> bool:
        seen = ours[2]
        return operation.action.endswith("_open") and isinstance(seen, Glance) and not seen.nlink

    def _close_everywhere(self, operation: Operation) -> None:
        for side in self._sides.values():
            side.apply(Operation("close_file", (operation.argument("slot"),)))

    def _without_sgid(self, operation: Operation, kernel: Answer, ours: Answer) -> Answer:
        if not operation.who or kernel[0] != ours[0]:
            return ours
        settled = list(ours[:2])
        for place, theirs, found in zip(places(operation), kernel[2:], ours[2:], strict=True):
            if isinstance(theirs, Glance) and isinstance(found, Glance):
                mode = int(theirs.mode, 8)
                if int(found.mode, 8) == mode | stat.S_ISGID and not mode & stat.S_IXGRP:
                    self._sides["ours"].set_mode(place, mode)
                    found = found._replace(mode=theirs.mode)
            settled.append(found)
        return tuple(settled)


def _numbers(root: Path) -> dict[str, int]:
    """The inode numbers below *root*, but for those that are of one mount only.

    Such a one has a symbolic link or device whose inode on the disk was that of a removed one
    which the kernel still knew (``Tree.add``).
    """
    # Not rglob(), which follows symbolic links before Python 3.11.4: some have no end.
    paths = [Path(top, name) for top, *names in os.walk(root) for each in names for name in each]
    found = {str(path.relative_to(root)): path.lstat().st_ino for path in paths}
    return {path: number for path, number in found.items() if number >> 48 != 0x7FFE}


def _is_refused_by_overlays(operation: Operation, answer: Answer) -> bool:
    if operation.action == "replace_directory":
        return answer[0] == "EXDEV"
    if operation.action in ("rename", "rename_known"):
        flags = operation.argument("rename_flags")
        return answer[0] == "EXDEV" or (answer[0] == "EINVAL" and flags == RENAME_WHITEOUT)
    return operation.action == "make_node" and answer[0] == "EPERM"


def _without_numbers(answer: Answer) -> Answer:
    """*answer* without what it says of inode numbers."""
    shown, _, *seen = answer
    if isinstance(shown, list):
        shown = [each[:2] for each in shown if isinstance(each, tuple)]
    elif isinstance(shown, bool):
        shown = None
    return shown, None, *seen


def _short(answer: object) -> str:
    text = repr(answer)
    return text if len(text) < 600 else f"{text[:400]}... {len(text)} characters {hash(text):x}"
