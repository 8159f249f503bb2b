"""Giving memory back."""

import ctypes

_libc = ctypes.CDLL(None)


def trim() -> None:
    """Give the pages that the allocator keeps free to the system; malloc_trim(3).

    Where the C library has no such function, as musl has not, nothing happens.
    """
    trim_heap = getattr(_libc, "malloc_trim", None)
    if trim_heap is not None:
        trim_heap(ctypes.c_size_t(0))
