"""The time since the machine was started."""

from functools import cache
from pathlib import Path


@cache
def this_boot() -> str:
    """The kernel's name for the time since it was started (random(4), boot_id)."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
