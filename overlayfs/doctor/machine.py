"""What the machine has: the device, the helpers, what a plain user is allowed.

Where things are comes in as arguments; the defaults are where Linux has them.
"""

import os
import shutil
import stat
import time
from datetime import UTC, datetime
from pathlib import Path

from overlayfs.doctor.finding import Finding, fail, ok, warn
from overlayfs.doctor.person import Person

# Nobody's clock is before this software.
_RELEASED = datetime(2024, 1, 1, tzinfo=UTC).timestamp()
_NEEDS_NOT = "root does not need it"
# newuidmap(1): what rootless podman and buildah take at least.
_ENOUGH_IDS = 65536


def device(path: Path = Path("/dev/fuse")) -> Finding:
    """Whether the device of fuse(4) can be opened."""
    name = "FUSE device"
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CLOEXEC))
    except FileNotFoundError:
        return fail(
            name,
            f"{path} is not there",
            "load the module: modprobe fuse; into a container pass the device: --device /dev/fuse",
        )
    except PermissionError as exc:
        return fail(name, f"{path}: {exc.strerror}", f"let everybody use it: chmod 666 {path}")
    except OSError as exc:
        return fail(name, f"{path}: {exc.strerror}", "load the module: modprobe fuse")
    return ok(name, f"{path} can be opened")


def libraries(pyfuse3: str | None, libfuse: str | None) -> Finding:
    """Whether what serves mounts is there, by its versions; None for what is not."""
    name = "libraries"
    if pyfuse3 is None:
        return fail(name, "pyfuse3 is not installed", "pip install pyfuse3")
    if libfuse is None:
        return fail(name, "libfuse 3 is not there", "install it: apt install libfuse3-3")
    return ok(name, f"pyfuse3 {pyfuse3}, libfuse {libfuse}")


def fusermount(person: Person, path: str | None = None) -> Finding:
    """Whether a plain user has fusermount3(1), which mounts for him; *path* is as $PATH."""
    name = "fusermount3"
    found = shutil.which(name, path=path)
    if found is None:
        said = "not on the path"
        if person.rootlike:
            return ok(name, f"{said}; {_NEEDS_NOT}")
        return fail(name, said, "install it: apt install fuse3, dnf install fuse3")
    info = Path(found).stat()
    if not person.rootlike and not (info.st_mode & stat.S_ISUID and info.st_uid == 0):
        return fail(
            name,
            f"{found} has not the rights of root",
            f"give them back: chown root {found}; chmod u+s {found}",
        )
    return ok(name, found)


def allow_other(person: Person, path: Path = Path("/etc/fuse.conf")) -> Finding:
    """Whether a plain user may let others into his mounts (fuse(8), user_allow_other)."""
    name = "user_allow_other"
    if person.rootlike:
        return ok(name, _NEEDS_NOT)
    fix = f"as root: echo user_allow_other >> {path}"
    try:
        lines = path.read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return warn(name, f"{path} is not there, so --allow-other is refused", fix)
    except OSError as exc:
        return warn(name, f"{path}: {exc.strerror}", f"let everybody read it: chmod 644 {path}")
    if any(line.partition("#")[0].strip() == name for line in lines):
        return ok(name, f"set in {path}")
    return warn(name, f"not set in {path}, so --allow-other is refused", fix)


def user_namespaces(person: Person, settings: Path = Path("/proc/sys")) -> Finding:
    """Whether a plain user can be root of a user namespace, as rootless podman wants it.

    *settings* is where sysctl(8) has its tree.
    """
    name = "user namespaces"
    # Debian's own switch; the kernel's limit (user_namespaces(7)); Ubuntu's, from 23.10 on.
    for key, bad, fix in (
        ("kernel.unprivileged_userns_clone", "0", "sysctl -w kernel.unprivileged_userns_clone=1"),
        ("user.max_user_namespaces", "0", "sysctl -w user.max_user_namespaces=15000"),
        (
            "kernel.apparmor_restrict_unprivileged_userns",
            "1",
            "an AppArmor profile with `userns,` for the program that makes them, or "
            "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
        ),
    ):
        value = _setting(settings, key)
        if value == bad:
            said = f"{key} is {value}"
            if person.mighty:
                return ok(name, f"{said}; {_NEEDS_NOT}")
            return warn(name, f"{said}: plain users can make none", f"as root: {fix}")
    return ok(name, "allowed")


def _setting(settings: Path, key: str) -> str | None:
    try:
        return settings.joinpath(*key.split(".")).read_text().strip()
    except OSError:
        return None  # this kernel has no such switch


def id_ranges(
    person: Person,
    subuid: Path = Path("/etc/subuid"),
    subgid: Path = Path("/etc/subgid"),
    path: str | None = None,
) -> Finding:
    """Whether a plain user has ids to give to the users of images (subuid(5), newuidmap(1))."""
    name = "subordinate ids"
    if person.mighty:
        return ok(name, _NEEDS_NOT)
    lacking = [tool for tool in ("newuidmap", "newgidmap") if not shutil.which(tool, path=path)]
    if lacking:
        said = f"{' and '.join(lacking)}: not on the path"
        return warn(name, said, "install them: apt install uidmap, dnf install shadow-utils")
    counts = {file: _granted(file, person) for file in (subuid, subgid)}
    for file, count in counts.items():
        if count < _ENOUGH_IDS:
            has = f"{count} ids" if count else "no ids"
            return warn(
                name,
                f"{file}: {has} for {person.name}",
                "as root: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 "
                f"{person.name}",
            )
    return ok(name, ", ".join(f"{count} in {file}" for file, count in counts.items()))


def _granted(file: Path, person: Person) -> int:
    """How many ids *file* grants; a line that is none grants nothing."""
    try:
        lines = file.read_text(errors="replace").splitlines()
    except OSError:
        return 0
    fields = (line.split(":") for line in lines)
    counts = (
        field[2]
        for field in fields
        if len(field) == 3 and field[0] in (person.name, str(person.uid))
    )
    return sum(int(count) for count in counts if count.isascii() and count.isdigit())


def clock(store: Path, now: float | None = None) -> Finding:
    """Whether the clock goes: not before this software, nor before what the store has.

    *now* is in seconds since 1970.
    """
    name = "clock"
    seconds = time.time() if now is None else now
    shown = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    fix = "set it, or let it be set: timedatectl set-ntp true"
    if seconds < _RELEASED:
        return warn(name, f"{shown}: before this software was written", fix)
    for file in ("index.json", "store.json"):
        try:
            written = (store / file).stat().st_mtime
        except OSError:
            continue  # what is wrong with the store is said where that is looked at
        if written > seconds + 60:
            return warn(name, f"{shown}: before the store's {file} was written", fix)
    return ok(name, shown)
