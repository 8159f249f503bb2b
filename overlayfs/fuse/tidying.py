"""Giving memory back after the kernel has forgotten many files."""

import trio

from overlayfs.tree.tree import Tree

# So many dropped nodes are worth a look, some 6 MB; below it they are reused soon.
_MANY = 10_000
# The kernel forgets in long series: tidying amid one would have to be done again.
_PAUSE = 0.25
_PATIENCE = 20


class Tidying:
    """Tidies *tree* when much was dropped of it; costs nothing until then."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._due = trio.Event()

    def look(self) -> None:
        """See whether it is time; called after nodes may have been dropped."""
        dropped = self._tree.dropped
        if dropped > _MANY and dropped > len(self._tree.nodes) // 4:
            self._due.set()

    async def run(self) -> None:
        """Tidy whenever it is time, until cancelled."""
        while True:
            await self._due.wait()
            self._due = trio.Event()
            for _ in range(_PATIENCE):
                before = self._tree.dropped
                await trio.sleep(_PAUSE)
                if self._tree.dropped == before:
                    break
            self._tree.tidy()
