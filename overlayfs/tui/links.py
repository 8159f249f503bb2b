"""Where a symbolic link leads in a tree that is shown."""

from overlayfs.tui.node import Node
from overlayfs.tui.scope import Scope
from overlayfs.union.attrs import Kind

# What path_resolution(7) allows.
_MOST_LINKS = 40


def destination(root: Node, scope: Scope, link: Node) -> Node | None:
    """What the symbolic link *link* leads to; None when that is nowhere, or a loop.

    Looked for in the tree up to the last layer that *scope* sees, as a layer alone has few of
    the directories on the way.
    """
    assert link.parent is not None, "the root is a directory"
    target = scope.entry(link).target
    at = root if target.startswith(b"/") else link.parent
    left = _names(target)
    links = 1
    while left:
        name = left.pop()
        if name == b"..":
            at = at.parent or root
            continue
        found = at.children.get(name)
        version = found.at(scope.seen) if found is not None else None
        if found is None or version is None or version.entry is None:
            return None
        if version.entry.kind is not Kind.SYMLINK:
            at = found
            continue
        links += 1
        if links > _MOST_LINKS:
            return None
        if version.entry.target.startswith(b"/"):
            at = root
        left += _names(version.entry.target)
    return at


def _names(path: bytes) -> list[bytes]:
    """The names of *path*, last first."""
    return [name for name in reversed(path.split(b"/")) if name not in (b"", b".")]
