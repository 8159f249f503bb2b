"""``pyoverlayfs``: mount directories, with the command line of fuse-overlayfs.

    pyoverlayfs [-f] -o lowerdir=A:B,upperdir=U,workdir=W [SOURCE] MOUNTPOINT

There is one option list, as mount(8) writes it, so this is parsed here and not by click.
Under the name ``mount.fuse.pyoverlayfs`` it is a helper of mount(8), which has a different
meaning for ``-f``.
"""

import logging
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from overlayfs.cli.mountoptions import Wanted, parse
from overlayfs.daemon import LOG_FORMAT, leave_behind
from overlayfs.errors import MountFailed, OverlayError
from overlayfs.printable import printable
from overlayfs.serving import Stack, fuse_options, native_format, remount, serve
from overlayfs.version import VERSION

_USAGE = """\
usage: pyoverlayfs [-f] [-d] [-s] -o OPTIONS [SOURCE] MOUNTPOINT

  -o lowerdir=A:B:C      directories to merge, the topmost first; \\: is a colon in a name
  -o lowerdir+=A         one more, below the others
  -o upperdir=DIR        takes the changes; without it the mount is read-only
  -o workdir=DIR         on the file system of upperdir
  -o userxattr           user.overlay.* instead of trusted.overlay.*
  -o redirect_dir=on     directories with lower parts can be renamed (off, follow, nofollow)
  -o metacopy=on         chmod, chown and the like copy no data
  -o index=on            untouched names of hard-linked files stay out of upperdir, kept
                         together by an index in workdir as the kernel has it
  -o whiteouts=auto      what hides a name: device, xattr, oci (.wh.NAME)
  -o sync=strict         a copy is on the disk before it is seen
  -o volatile            never wait for the disk, and note that down in workdir
  -o fsync=0             fsync(2) waits for nothing; an unmount syncs nevertheless
  -o force               mount after a crash of the machine amid volatile
  -o uidmapping=LAYER:SHOWN:COUNT[:...], gidmapping=...
  -o squash_to_root, squash_to_uid=UID, squash_to_gid=GID
  -o xattr_permissions=2 owner, mode and type in user.containers.override_stat
                         (1: in security.fuseoverlayfs.override_stat)
  -o busy_poll=auto      poll for the next request before sleeping: auto, off, or for so many
                         microseconds
  -o event_loop=fast     how requests are waited for; plain is pyfuse3's own way
  -o noxattrs=1, noacl, static_nlink, ino32_t, timeout=SECONDS
  -o ro, nosuid, nodev, noexec, noatime, allow_other, fsname=NAME, subtype=NAME, remount
  -f                     stay in the foreground
  -d                     as -f, and show every request
  -s                     pass over unknown options
  -h, -V                 this help, the version
"""


def main() -> None:
    """The command; exits with the codes of mount(8)."""
    try:
        _run(Path(sys.argv[0]).name, sys.argv[1:])
    except OverlayError as exc:
        print(f"pyoverlayfs: {printable(exc.message)}", file=sys.stderr)
        if exc.hint:
            print(f"  {printable(exc.hint)}", file=sys.stderr)
        sys.exit(exc.exit_code)


@dataclass(slots=True)
class _Line:
    """A command line."""

    options: list[str] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    flags: set[str] = field(default_factory=set)


def _run(name: str, arguments: list[str]) -> None:
    line = _read(iter(arguments))
    if "h" in line.flags:
        print(_USAGE, end="")
        return
    if "V" in line.flags:
        print(f"pyoverlayfs {VERSION}")
        return
    helper = name.startswith("mount.")
    if not 1 <= len(line.words) <= 2:
        raise OverlayError("one mount point is needed", hint="see pyoverlayfs -h")
    wanted = parse(line.options, sloppy="s" in line.flags)
    mountpoint = Path(line.words[-1])
    if helper and "f" in line.flags:
        return  # mount(8): --fake does everything but the mount
    if wanted.remount:
        # Whatever directories are named: they stay as they are.
        remount(mountpoint, [*wanted.to_kernel, *(["ro"] if wanted.asked_read_only else [])])
        return
    source = line.words[0] if len(line.words) > 1 else ""
    debug = "d" in line.flags
    foreground = debug or ("f" in line.flags and not helper)
    _mount(mountpoint, wanted, source=source, foreground=foreground, debug=debug)


def _read(rest: Iterator[str]) -> _Line:
    """Options may come before, between and behind the words, as getopt(3) has it."""
    line = _Line()
    for word in rest:
        if word == "--":
            line.words.extend(rest)
        elif word in _LONG:
            line.flags.add(_LONG[word])
        elif word.startswith("--") or not word.startswith("-") or word == "-":
            if word.startswith("--"):
                raise OverlayError(f"{word}: no such option", hint="see pyoverlayfs -h")
            line.words.append(word)
        else:
            _read_letters(word, rest, line)
    return line


def _read_letters(word: str, rest: Iterator[str], line: _Line) -> None:
    for at, letter in enumerate(word[1:], 2):
        if letter in "oNt":
            value = word[at:] or next(rest, None)
            if value is None:
                raise OverlayError(f"-{letter}: something must follow", hint="see pyoverlayfs -h")
            if letter == "o":
                line.options.append(value)
            return
        if letter not in "fdshVnv":
            raise OverlayError(f"-{letter}: no such option", hint="see pyoverlayfs -h")
        line.flags.add(letter)


_LONG = {"--help": "h", "--version": "V", "--debug": "d", "--foreground": "f"}


def _mount(mountpoint: Path, wanted: Wanted, *, source: str, foreground: bool, debug: bool) -> None:
    lowers = tuple(_directory(lower) for lower in wanted.lowers)
    upper = None
    if wanted.upper is not None and wanted.read_only:
        lowers = (_directory(wanted.upper), *lowers)
    elif wanted.upper is not None:
        upper = _directory(wanted.upper)
    stack = Stack(
        lowers=lowers,
        upper=upper,
        work=Path(os.path.realpath(wanted.work)) if wanted.work else None,
        format=wanted.format or native_format(),
        foreign=wanted.format is None,
        policy=wanted.policy,
        presentation=wanted.presentation,
    )
    where = _directory(mountpoint)
    stack.check(where)
    fsname = source if source and wanted.fsname is None else wanted.fsname or "pyoverlayfs"
    chosen = fuse_options(
        fsname,
        read_only=wanted.read_only,
        allow_other=wanted.allow_other,
        subtype=wanted.subtype,
        extra=(*wanted.to_kernel, *(["debug"] if debug else [])),
    )
    if foreground:
        level = logging.DEBUG if debug else logging.WARNING
        logging.basicConfig(level=level, format=LOG_FORMAT)
        serve(stack, where, chosen, waiting=wanted.waiting)
        return
    waiting = wanted.waiting
    leave_behind(lambda ready: serve(stack, where, chosen, ready, waiting=waiting), None)


def _directory(path: Path) -> Path:
    try:
        # Path.resolve() has a RuntimeError for links in a circle, before Python 3.13.
        found = Path(os.path.realpath(path, strict=True))
        if found.is_dir():
            return found
    except OSError as exc:
        raise MountFailed(f"{path}: {exc.strerror}") from exc
    raise MountFailed(f"{path}: not a directory")


if __name__ == "__main__":
    main()
