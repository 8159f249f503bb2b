"""The options of ``pyoverlayfs``: what the kernel's overlayfs and fuse-overlayfs know.

The option list is split as the kernel does it (fs/overlayfs/params.c): a backslash keeps
the next character from being a comma or a colon, and goes.
"""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from overlayfs.errors import OverlayError
from overlayfs.union.ids import IdMap, Ids, parse_id
from overlayfs.union.names import Format
from overlayfs.union.policy import PLAIN, Policy, WhiteoutKind
from overlayfs.union.presentation import AS_IT_IS, Presentation
from overlayfs.union.redirects import Redirects
from overlayfs.waiting import AS_IT_PAYS, Waiting

_HINT = "see pyoverlayfs -h"


SUBTYPE = "pyoverlayfs"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the options say; *format* None leaves it to what this process can write."""

    lowers: tuple[Path, ...] = ()
    upper: Path | None = None
    work: Path | None = None
    read_only: bool = False
    format: Format | None = None
    presentation: Presentation = AS_IT_IS
    policy: Policy = PLAIN
    remount: bool = False
    asked_read_only: bool = False
    allow_other: bool | None = None
    fsname: str | None = None
    subtype: str = SUBTYPE
    to_kernel: tuple[str, ...] = ()
    waiting: Waiting = AS_IT_PAYS


# Passed on: the kernel and libfuse know them.
_TO_KERNEL = {
    *("nosuid", "nodev", "noexec", "noatime", "sync", "dirsync"),
    *("nosymfollow", "allow_root", "auto_unmount", "debug"),
}
# What is so anyway, or says nothing to a file system: mount(8), systemd.mount(5).
_NOTHING = {
    *("rw", "suid", "dev", "exec", "atime", "async", "defaults"),
    *("diratime", "nodiratime"),  # the kernel keeps no access times of a FUSE file system
    *("relatime", "norelatime", "strictatime", "nostrictatime", "lazytime", "nolazytime"),
    *("auto", "noauto", "user", "nouser", "users", "owner", "group", "_netdev", "nofail"),
    *("silent", "loud", "mand", "nomand", "iversion", "noiversion", "symfollow"),
    # How the mount is shared with other namespaces: mount_namespaces(7).
    *("private", "rprivate", "shared", "rshared", "slave", "rslave", "unbindable", "runbindable"),
    *("default_permissions", "nonempty", "clone_fd", "big_writes"),
    # With whose rights the kernel reads layers; here those of the daemon, always.
    *("override_creds", "nooverride_creds"),
}
# Valued options that change nothing here, and why.
_NOTHING_VALUED = {
    "threaded": {"0", "1"},  # how fuse-overlayfs works inside
    "writeback": {"0", "1"},
    "fast_ino": {"0", "1"},  # numbers are always the right ones
    "xino": {"on", "off", "auto"},  # numbers of all layers differ anyway
    "uuid": {"on", "off", "null", "auto"},  # a FUSE file system has none
    "nfs_export": {"off"},
    "verity": {"off"},
    "context": None,  # SELinux labels are those of the layers
    "fscontext": None,
    "defcontext": None,
    "rootcontext": None,
    "comment": None,
    "uid": None,  # of a user in fstab; the owners are those of the layers
    "gid": None,
    "plugins": {""},
    # What /proc/mounts shows of a FUSE mount, and mount(8) repeats to change its flags.
    "user_id": None,
    "group_id": None,
    "max_read": None,
    "max_threads": None,  # of libfuse's own loop
    "max_idle_threads": None,
    "rootmode": None,
    "blksize": None,
}
_REFUSED = {
    "nfs_export": "file handles that survive the mount cannot be given by a FUSE file system",
    "verity": "fs-verity digests are not checked; the layers' digests are when they are unpacked",
    "datadir+": "data-only layers are not known here",
    "plugins": "plug-ins of fuse-overlayfs are not known here",
}


def parse(words: Iterable[str], *, sloppy: bool = False) -> Wanted:
    """What the option lists *words* (each after one ``-o``) want; OverlayError if it is wrong.

    *sloppy* passes over unknown options, as ``mount -s`` does.
    """
    found = _Options(sloppy=sloppy)
    for word in words:
        for option in _options(word):
            if option:  # podman doubles commas
                found.take(option)
    return found.wanted()


def parse_for_image(words: Iterable[str]) -> Wanted:
    """Like ``parse``, where an image gives the layers; OverlayError for what names others."""
    words = list(words)
    for word in words:
        for option in _options(word):
            name = option.partition("=")[0]
            if name in _OF_DIRECTORIES:
                raise OverlayError(f"{option}: not for an image", hint=_OF_DIRECTORIES[name])
    wanted = parse([*words, "lowerdir=/"])
    # All names of its hard-linked files are known, and whoever makes a layer of the upper
    # directory wants them there.
    return replace(wanted, policy=replace(wanted.policy, index=False))


_OF_DIRECTORIES = {
    "lowerdir": "the layers are those of the image; pyoverlayfs mounts directories",
    "lowerdir+": "the layers are those of the image; pyoverlayfs mounts directories",
    "upperdir": "use --upper",
    "workdir": "use --work",
    "ro": "use --read-only",
    "userxattr": "the format is the store's",
    "xattr_permissions": "the format is the store's",
    "fsname": "it is the name of the image",
    "subtype": "it is pyoverlay",
    "remount": "use mount -i -o remount",
}


def _options(word: str) -> list[str]:
    """The options in *word*; the label in ``context="..."`` has commas of its own."""
    joined: list[str] = []
    for option in split(word, ","):
        if joined and _OPEN_LABEL.fullmatch(joined[-1]):
            joined[-1] += f",{option}"
        else:
            joined.append(option)
    return joined


# As security_sb_eat_lsm_opts() of the kernel and mount(8) have it.
_OPEN_LABEL = re.compile(r'(?:fs|def|root)?context="[^"]*')


def split(text: str, mark: str) -> list[str]:
    """The parts of *text* between *mark*; backslashes stay where they are."""
    parts = [""]
    for piece in re.findall(r"\\.|.", text, re.DOTALL):
        if piece == mark:
            parts.append("")
        else:
            parts[-1] += piece
    return parts


def plain(text: str) -> str:
    """*text* without the backslashes that kept characters."""
    return re.sub(r"\\(.?)", r"\1", text, flags=re.DOTALL)


class _Options:
    """One option after the other; the last one of a name counts, as with the kernel."""

    def __init__(self, *, sloppy: bool) -> None:
        self._sloppy = sloppy
        self._given: dict[str, str] = {}
        self._flags: set[str] = set()
        self._single: list[str] = []
        self._to_kernel: list[str] = []

    def take(self, option: str) -> None:
        """Note *option* down, or refuse it."""
        name, equals, value = option.partition("=")
        if equals and name in _VALUED:
            self._given[name] = value
        elif equals and name == "lowerdir+":
            self._single.append(value)
        elif not equals and name in _PLAIN_FLAGS:
            self._flags.add(name)
            self._flags -= _OPPOSITES.get(name, set())
        elif not equals and name in _TO_KERNEL:
            self._to_kernel = [*(each for each in self._to_kernel if each != name), name]
        elif name in _REFUSED and value not in (_NOTHING_VALUED.get(name) or ()):
            raise OverlayError(f"{option}: {_REFUSED[name]}")
        elif equals and name in _NOTHING_VALUED:
            known = _NOTHING_VALUED[name]
            if known is not None and value not in known:
                raise _wrong(option, known)
        elif not (
            self._sloppy
            or (not equals and (name in _NOTHING or name == "xino"))
            or name.startswith(("x-", "X-"))
        ):
            raise OverlayError(f"{option}: unknown option", hint=_HINT)
        if name in _OPPOSITE_OF_KERNEL:
            undone = _OPPOSITE_OF_KERNEL[name]
            self._to_kernel = [each for each in self._to_kernel if each != undone]

    def wanted(self) -> Wanted:
        """All of it together."""
        given, flags = self._given, self._flags
        upper = given.get("upperdir") or None
        work = given.get("workdir") or None
        read_only = "ro" in flags or upper is None
        if upper and not work and not read_only:
            raise OverlayError("upperdir= needs workdir=", hint=_HINT)
        lowers = self._lowers()
        volatile, strict = self._waiting()
        redirects, metacopy = self._redirects()
        fsname, subtype = (plain(given.get(name, "")) for name in ("fsname", "subtype"))
        return Wanted(
            lowers=lowers,
            upper=Path(plain(upper)) if upper else None,
            work=Path(plain(work)) if work and not read_only else None,
            read_only=read_only,
            format=self._format(),
            presentation=self._presentation(volatile=volatile),
            policy=Policy(
                redirects=redirects,
                metacopy=metacopy,
                strict=strict,
                volatile=volatile,
                force="force" in flags,
                whiteouts=self._whiteouts(),
                index=self._index(),
            ),
            remount="remount" in flags,
            asked_read_only="ro" in flags,
            allow_other=True if "allow_other" in flags else None,
            fsname=fsname or None,
            subtype=subtype or SUBTYPE,
            to_kernel=tuple(self._to_kernel),
            waiting=self._waits(),
        )

    def _lowers(self) -> tuple[Path, ...]:
        text = self._given.get("lowerdir")
        if text is None and not self._single:
            if "remount" in self._flags:
                return ()
            raise OverlayError("the option lowerdir= is missing", hint=_HINT)
        if text is not None and self._single:
            raise OverlayError("lowerdir= and lowerdir+= cannot be mixed", hint=_HINT)
        if text is None:
            if "" in self._single:
                raise OverlayError("lowerdir+=: a name is missing", hint=_HINT)
            # One name needs no marks between names, so the kernel takes it as it is.
            return tuple(Path(each) for each in self._single)
        parts = split(text, ":")
        if "" in parts:
            raise OverlayError(
                f"lowerdir={text}: an empty name between colons",
                hint="data-only layers (::) are not known here; \\: is a colon in a name",
            )
        return tuple(Path(plain(part)) for part in parts)

    def _switch(self, name: str, *, default: bool) -> bool:
        value = self._given.get(name)
        if value is None:
            return default
        if value not in ("0", "1"):
            raise _wrong(f"{name}={value}", {"0", "1"})
        return value == "1"

    def _waiting(self) -> tuple[bool, bool]:
        """Whether nothing is waited for, and whether copies are, before they are seen."""
        sync = self._given.get("sync", "lazy")
        if sync not in ("strict", "lazy"):
            raise _wrong(f"sync={sync}", {"strict", "lazy"})
        fsync = self._given.get("fsync", "auto")
        if fsync not in _FSYNC:
            raise _wrong(f"fsync={fsync}", _FSYNC)
        volatile = "volatile" in self._flags or fsync == "volatile"
        against = [f"sync={sync}"] if sync == "strict" else []
        against += [f"fsync={fsync}"] if fsync in ("1", "strict") else []
        if volatile and against:
            raise OverlayError(f"volatile and {against[0]} contradict each other")
        return volatile, bool(against) and against != ["fsync=1"]

    def _format(self) -> Format | None:
        kept = self._given.get("xattr_permissions", "0")
        formats = {"0": None, "1": Format.PRIVILEGED, "2": Format.USER}
        if kept not in formats:
            raise _wrong(f"xattr_permissions={kept}", set(formats))
        if "userxattr" not in self._flags:
            return formats[kept]
        if kept == "1":
            raise OverlayError("userxattr and xattr_permissions=1 contradict each other")
        return formats[kept] or Format.USERXATTR

    def _redirects(self) -> tuple[Redirects, bool]:
        given = self._given
        value = given.get("redirect_dir", "off")
        if value not in _REDIRECTS:
            raise _wrong(f"redirect_dir={value}", set(_REDIRECTS))
        redirects = _REDIRECTS[value]
        copy = given.get("metacopy", "off")
        if copy not in ("on", "off"):
            raise _wrong(f"metacopy={copy}", {"on", "off"})
        metacopy = copy == "on"
        if metacopy and redirects is Redirects.IGNORE:
            raise OverlayError(
                f"metacopy=on and redirect_dir={value} contradict each other",
                hint="a copy of the attributes says by a redirect where its data is",
            )
        return redirects, metacopy

    def _index(self) -> bool:
        value = self._given.get("index", "off")
        if value not in ("on", "off"):
            raise _wrong(f"index={value}", {"on", "off"})
        return value == "on"

    def _whiteouts(self) -> WhiteoutKind:
        value = self._given.get("whiteouts", "auto")
        try:
            return WhiteoutKind(value)
        except ValueError:
            raise _wrong(f"whiteouts={value}", set(WhiteoutKind)) from None

    def _presentation(self, *, volatile: bool) -> Presentation:
        given, flags = self._given, self._flags
        timeout = given.get("timeout")
        try:
            seconds = AS_IT_IS.timeout if timeout is None else float(timeout)
            if not 0 <= seconds <= AS_IT_IS.timeout or "_" in (timeout or ""):
                raise ValueError(timeout)
        except ValueError:
            raise OverlayError(f"timeout={timeout}: not a number of seconds") from None
        return Presentation(
            ids=Ids(self._id_map("uid", os.geteuid()), self._id_map("gid", os.getegid())),
            timeout=seconds,
            one_link="static_nlink" in flags,
            narrow="ino32_t" in flags,
            xattrs=not self._switch("noxattrs", default=False),
            acl="noacl" not in flags,
            sync=not volatile and given.get("fsync") != "0",
        )

    def _waits(self) -> Waiting:
        loop = self._given.get("event_loop", "fast")
        if loop not in _EVENT_LOOPS:
            raise _wrong(f"event_loop={loop}", _EVENT_LOOPS)
        plain = loop == "plain"
        value = self._given.get("busy_poll", "auto")
        if value == "auto":
            return Waiting(plain=plain)
        if value == "off":
            return Waiting(plain=plain, busy_poll=0)
        # Nobody needs so many digits, and int() takes more than digits.
        if not re.fullmatch("[0-9]{1,4}", value) or int(value) > _LONGEST_POLL:
            raise OverlayError(
                f"busy_poll={value}: it must be auto, off or microseconds, up to {_LONGEST_POLL}",
                hint=_HINT,
            )
        if plain and int(value):
            raise OverlayError(f"busy_poll={value} and event_loop=plain contradict each other")
        return Waiting(plain=plain, busy_poll=int(value) / 1e6)

    def _id_map(self, what: str, ours: int) -> IdMap:
        squash = self._given.get(f"squash_to_{what}")
        if squash is None and "squash_to_root" in self._flags:
            squash = "0"
        text = self._given.get(f"{what}mapping")
        try:
            if squash is not None:
                return IdMap(squash=parse_id(squash), ours=ours)
        except ValueError:
            raise OverlayError(f"squash_to_{what}={squash}: not an id") from None
        try:
            return IdMap.parse(text) if text is not None else IdMap()
        except ValueError:
            raise OverlayError(
                f"{what}mapping={text}: not ids in threes",
                hint=f"{what}mapping=FIRST-IN-LAYERS:FIRST-SHOWN:HOW-MANY[:...]",
            ) from None


_VALUED = {
    *("lowerdir", "upperdir", "workdir", "fsname", "subtype", "timeout", "sync"),
    *("redirect_dir", "metacopy", "index", "whiteouts", "xattr_permissions"),
    *("noxattrs", "fsync"),
    *("uidmapping", "gidmapping", "squash_to_uid", "squash_to_gid"),
    *("busy_poll", "event_loop"),
}
_PLAIN_FLAGS = {
    *("ro", "rw", "allow_other", "userxattr", "volatile", "force", "remount"),
    *("squash_to_root", "static_nlink", "noacl", "ino32_t"),
}
_OPPOSITES = {"rw": {"ro"}, "ro": {"rw"}}
_OPPOSITE_OF_KERNEL = {
    **{name: f"no{name}" for name in ("suid", "dev", "exec", "atime", "symfollow")},
    "async": "sync",
}
# The kernel's words, and those of fuse-overlayfs.
_FSYNC = {"auto", "strict", "volatile", "0", "1"}
_EVENT_LOOPS = {"fast", "plain"}
_LONGEST_POLL = 1000
_REDIRECTS = {
    "on": Redirects.MAKE,
    "follow": Redirects.FOLLOW,
    "off": Redirects.OFF,
    "nofollow": Redirects.IGNORE,
}


def _wrong(option: str, known: set[str]) -> OverlayError:
    return OverlayError(f"{option}: it must be one of {', '.join(sorted(known))}", hint=_HINT)
