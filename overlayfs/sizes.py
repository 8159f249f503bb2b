"""Sizes for people."""


def size(count: float) -> str:
    """*count* bytes in three digits: ``1.98 MB``."""
    units = ["B", "kB", "MB", "GB", "TB"]
    while count >= 999.5 and len(units) > 1:
        count /= 1000
        del units[0]
    return (
        f"{count:.0f} {units[0]}" if count >= 100 or units[0] == "B" else f"{count:.3g} {units[0]}"
    )
