"""Unmounting, and what is mounted."""

import ctypes
import errno
import os
import re
from collections.abc import Collection
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
    # Seldom needed; a daemon has it, by way of its event loop, before its mount covers anything.
    import subprocess

    command = ["fusermount3", "-u", *(["-z"] if lazy else []), "--", str(mountpoint)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip()
        code = errno.EBUSY if "busy" in said.lower() else errno.EINVAL
        raise OSError(code, said or os.strerror(code), str(mountpoint))


# sys/mount.h, by the words of mount(8)
_FLAGS = {
    "ro": 1,
    "nosuid": 2,
    "nodev": 4,
    "noexec": 8,
    "sync": 16,
    "dirsync": 128,
    "nosymfollow": 256,
    "noatime": 1024,
    "nodiratime": 2048,
}
_MS_REMOUNT = 32


def remount(mountpoint: Path, options: Collection[str]) -> None:
    """Change the flags of what is mounted at *mountpoint* to *options*; mount(2)."""
    flags = _MS_REMOUNT
    for option in options:
        flags |= _FLAGS.get(option, 0)
    if _libc.mount(None, ctypes.c_char_p(os.fsencode(mountpoint)), None, flags, None):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), str(mountpoint))


class Mount(NamedTuple):
    """One line of /proc/self/mountinfo; see proc(5)."""

    mountpoint: Path
    device: str  # MAJOR:MINOR
    kind: str
    source: str
    options: frozenset[str]


_OCTAL = re.compile(r"\\([0-7]{3})")


def mounted() -> list[Mount]:
    """What is mounted in this mount namespace, in the order it was."""
    found = []
    # Only space, tab, newline and backslash are escaped: splitlines() would split too often.
    for line in Path("/proc/self/mountinfo").read_bytes().split(b"\n")[:-1]:
        fields, _, rest = os.fsdecode(line).partition(" - ")
        kind, source = rest.split(" ")[:2]
        words = fields.split(" ")
        options = frozenset(words[5].split(","))
        found.append(Mount(Path(_plain(words[4])), words[2], kind, _plain(source), options))
    return found


def read_ahead(mountpoint: Path, kib: int) -> None:
    """Let the kernel ask what is mounted at *mountpoint* for *kib* KiB ahead, if that is more.

    Root may do it: Documentation/ABI/testing/sysfs-class-bdi.  Raises OSError.
    """
    devices = [mount.device for mount in mounted() if mount.mountpoint == mountpoint]
    if not devices:
        raise FileNotFoundError(errno.ENOENT, "nothing is mounted there", str(mountpoint))
    setting = Path("/sys/class/bdi", devices[-1], "read_ahead_kb")
    if int(setting.read_text()) < kib:
        setting.write_text(str(kib))


def is_idmapped(path: Path) -> bool:
    """Whether *path*, absolute and free of links, lies on an idmapped mount."""
    found = [mount for mount in mounted() if path.is_relative_to(mount.mountpoint)]
    # The deepest mount point; of several there the last one covers the others.
    deepest = max(found, key=lambda mount: len(mount.mountpoint.parts), default=None)
    over = [m for m in found if deepest and m.mountpoint == deepest.mountpoint]
    return bool(over) and "idmapped" in over[-1].options


def _plain(field: str) -> str:
    raw = _OCTAL.sub(lambda match: chr(int(match[1], 8)), field)
    return os.fsdecode(raw.encode("latin-1")) if raw.isascii() else raw
