"""The stacks of ``tests/mounted``."""

from tests.mounted.conftest import mnt, open_stack, stack

__all__ = ["mnt", "open_stack", "stack"]
