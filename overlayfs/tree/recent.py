"""What is kept of a few nodes only, since it can be had again and takes room."""

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from overlayfs.tree.node import Node

if TYPE_CHECKING:
    from overlayfs.tree.tree import Tree


class Recent:
    """The nodes of *tree* that something is kept of, *limit* at most, the newest."""

    def __init__(self, tree: "Tree", give_up: Callable[[Node], None], limit: int) -> None:
        """*give_up* lets go of what is kept of a node."""
        self._tree = tree
        self._give_up = give_up
        self._limit = limit
        # By number: a node that is gone must not stay for this.
        self._order: deque[int] = deque()

    def add(self, node: Node) -> None:
        """Note that something is kept of *node* from now on."""
        self._order.append(node.ino)
        if len(self._order) > self._limit:
            old = self._tree.nodes.get(self._order.popleft())
            if old is not None:
                self._give_up(old)
