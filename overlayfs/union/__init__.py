"""The rules of the union: no system calls, no event loop, no FUSE."""
