"""What the directories of an image hold, added up."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from overlayfs.view.entry import Entry
from overlayfs.view.image import ImageView


@dataclass(slots=True)
class Branch:
    """A file and what is in it; *size* is that of all its files, a hard-linked one once."""

    name: bytes
    entry: Entry
    size: int
    children: "list[Branch]" = field(default_factory=list)


def branches(view: ImageView, top: bytes) -> Branch:
    """The tree at *top*, names sorted.

    Of a file with several names the first has the size, the others have none.
    """
    counted: set[tuple[int, int]] = set()
    # The directories that lead to the entry at hand, with how long their paths are.
    trail: list[tuple[int, Branch]] = []
    walk = view.walk(top)
    path, entry = next(walk)
    root = Branch(path.rpartition(b"/")[2], entry, _size(entry, counted))
    trail.append((path.count(b"/") if path else -1, root))
    for path, entry in walk:
        depth = path.count(b"/")
        while trail[-1][0] >= depth:
            _close(trail)
        branch = Branch(path.rpartition(b"/")[2], entry, _size(entry, counted))
        trail[-1][1].children.append(branch)
        if entry.is_dir:
            trail.append((depth, branch))
        else:
            trail[-1][1].size += branch.size
    while len(trail) > 1:
        _close(trail)
    return root


def _close(trail: list[tuple[int, Branch]]) -> None:
    _, done = trail.pop()
    trail[-1][1].size += done.size


def _size(entry: Entry, counted: set[tuple[int, int]]) -> int:
    if entry.is_dir:
        return 0
    if entry.nlink > 1:
        known = (entry.layer, entry.file)
        if known in counted:
            return 0
        counted.add(known)
    return entry.size


def largest_first(branch: Branch) -> None:
    """Sort all that is in *branch* by size."""
    for one in everything(branch):
        one.children.sort(key=lambda child: (-child.size, child.name))


def everything(branch: Branch) -> Iterator[Branch]:
    """*branch* and all beneath, in no order that matters."""
    left = [branch]
    while left:
        at = left.pop()
        yield at
        left += at.children
