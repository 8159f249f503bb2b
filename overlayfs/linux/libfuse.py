"""Which libfuse there is."""

import ctypes

# The soname changed with 3.17.
_NAMES = ("libfuse3.so.4", "libfuse3.so.3")


def version() -> str | None:
    """The version of libfuse 3 that programs find here (fuse_pkgversion); None for none."""
    for name in _NAMES:
        try:
            library = ctypes.CDLL(name)
        except OSError:
            continue
        library.fuse_pkgversion.restype = ctypes.c_char_p
        said = library.fuse_pkgversion()
        assert isinstance(said, bytes)
        return said.decode("ascii", "replace")
    return None
