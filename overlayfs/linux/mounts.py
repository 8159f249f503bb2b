"""Unmounting, and what is mounted."""

import ctypes
import errno
import os
import re
import subprocess
from pathlib import Path
from typing import NamedTuple

_libc = ctypes.CDLL(None, use_errno=True)

MNT_DETACH = 2  # sys/mount.h
UMOUNT_NOFOLLOW = 8


def unmount(mountpoint: Path, *, lazy: bool = False) -> None:
    """Unmount *mountpoint*, through fusermount3 where umount2(2) is not allowed.

    *lazy* takes it out of the tree at once and leaves it to those who use it.  Raises
    OSError: EBUSY while something uses it, EINVAL when nothing is mounted there.
    """
    flags = UMOUNT_NOFOLLOW | (MNT_DETACH if lazy else 0)
    if not _libc.umount2(ctypes.c_char_p(os.fsencode(mountpoint)), flags):
        return
    code = ctypes.get_errno()
    if code != errno.EPERM:
        raise OSError(code, os.strerror(code), str(mountpoint))
    command = ["fusermount3", "-u", *(["-z"] if lazy else []), "--", str(mountpoint)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip()
        code = errno.EBUSY if "busy" in said.lower() else errno.EINVAL
        raise OSError(code, said or os.strerror(code), str(mountpoint))


class Mount(NamedTuple):
    """One line of /proc/self/mountinfo; see proc(5)."""

    mountpoint: Path
    kind: str
    source: str


_OCTAL = re.compile(r"\\([0-7]{3})")


def mounted() -> list[Mount]:
    """What is mounted in this mount namespace, in the order it was."""
    found = []
    # Only space, tab, newline and backslash are escaped: splitlines() would split too often.
    for line in Path("/proc/self/mountinfo").read_bytes().split(b"\n")[:-1]:
        fields, _, rest = os.fsdecode(line).partition(" - ")
        kind, source = rest.split(" ")[:2]
        found.append(Mount(Path(_plain(fields.split(" ")[4])), kind, _plain(source)))
    return found


def _plain(field: str) -> str:
    raw = _OCTAL.sub(lambda match: chr(int(match[1], 8)), field)
    return os.fsdecode(raw.encode("latin-1")) if raw.isascii() else raw
