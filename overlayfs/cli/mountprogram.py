"""``pyoverlayfs``: mount directories, with the command line of fuse-overlayfs.

    pyoverlayfs [-f] -o lowerdir=A:B,upperdir=U,workdir=W MOUNTPOINT

There is one option list, as mount(8) writes it, so this is parsed here and not by click.
"""

import re
import sys
from pathlib import Path

from overlayfs.cli.version import VERSION
from overlayfs.daemon import leave_behind
from overlayfs.errors import MountFailed, OverlayError
from overlayfs.printable import printable
from overlayfs.serving import Stack, fuse_options, native_format, serve
from overlayfs.union.names import Format

_USAGE = """\
usage: pyoverlayfs [-f] -o OPTIONS MOUNTPOINT

  -o lowerdir=A:B:C   directories to merge, the topmost first; \\: is a colon in a name
  -o upperdir=DIR     takes the changes; without it the mount is read-only
  -o workdir=DIR      on the file system of upperdir
  -o userxattr        layers in the format that needs no privilege
  -o ro, rw, suid, nosuid, dev, nodev, exec, noexec, noatime, allow_other, fsname=NAME
  -f                  stay in the foreground
  -h, -V              this help, the version
"""

_FLAGS = {"nosuid", "nodev", "noexec", "noatime", "sync", "dirsync"}
_DEFAULTS = {"rw", "suid", "dev", "exec", "atime", "async", "defaults", "relatime"}


def main() -> None:
    """The command; exits with the codes of mount(8)."""
    try:
        _run(sys.argv[1:])
    except OverlayError as exc:
        print(f"pyoverlayfs: {printable(exc.message)}", file=sys.stderr)
        if exc.hint:
            print(f"  {printable(exc.hint)}", file=sys.stderr)
        sys.exit(exc.exit_code)


def _run(arguments: list[str]) -> None:
    options: list[str] = []
    words: list[str] = []
    foreground = False
    rest = iter(arguments)
    for word in rest:
        if word in ("-h", "--help"):
            print(_USAGE, end="")
            return
        if word in ("-V", "--version"):
            print(f"pyoverlayfs {VERSION}")
            return
        if word == "-f":
            foreground = True
        elif word.startswith("-o"):
            # podman doubles commas.
            options.extend(filter(None, _split(word[2:] or next(rest, ""), ",")))
        elif word.startswith("-") and word != "-":
            raise OverlayError(f"{word}: no such option", hint="see pyoverlayfs -h")
        else:
            words.append(word)
    if len(words) != 1:
        raise OverlayError("one mount point is needed", hint="see pyoverlayfs -h")
    _mount(Path(words[0]), options, foreground=foreground)


def _split(text: str, mark: str) -> list[str]:
    """The parts of *text* between *mark*, where a backslash keeps the next character."""
    parts = [""]
    for piece in re.findall(r"\\.|.", text, re.DOTALL):
        if piece == mark:
            parts.append("")
        else:
            parts[-1] += piece
    return parts


def _plain(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text)


def _mount(mountpoint: Path, options: list[str], *, foreground: bool) -> None:
    given: dict[str, str] = {}
    extra: list[str] = []
    for option in options:
        name, equals, value = option.partition("=")
        if name in ("lowerdir", "upperdir", "workdir", "fsname") and equals:
            given[name] = value
        elif name in ("ro", "allow_other", "userxattr") and not equals:
            given[name] = ""
        elif name in _FLAGS and not equals:
            extra.append(name)
        elif name not in _DEFAULTS or equals:
            raise OverlayError(f"{option}: unknown option", hint="see pyoverlayfs -h")
    if "lowerdir" not in given:
        raise OverlayError("the option lowerdir= is missing", hint="see pyoverlayfs -h")
    writable = "upperdir" in given and "ro" not in given
    if writable and "workdir" not in given:
        raise OverlayError("upperdir= needs workdir=", hint="see pyoverlayfs -h")
    parts = _split(given["lowerdir"], ":")
    if "" in parts:
        raise OverlayError(
            f"lowerdir={given['lowerdir']}: an empty name between colons",
            hint="data-only layers (::) are not known here; \\: is a colon in a name",
        )
    lowers = tuple(_directory(part) for part in parts)
    if not writable and "upperdir" in given:
        lowers = (_directory(given["upperdir"]), *lowers)
    try:
        stack = Stack(
            lowers=lowers,
            upper=_directory(given["upperdir"]) if writable else None,
            work=Path(_plain(given["workdir"])).absolute() if writable else None,
            format=Format.USERXATTR if "userxattr" in given else native_format(),
            foreign=True,
        )
        where = mountpoint.resolve(strict=True)
    except OSError as exc:
        raise MountFailed(f"{exc.filename}: {exc.strerror}") from exc
    stack.check(where)
    chosen = fuse_options(
        given.get("fsname", "pyoverlayfs"),
        read_only=not writable,
        allow_other=True if "allow_other" in given else None,
        extra=tuple(extra),
    )
    if foreground:
        serve(stack, where, chosen, lambda: None)
        return
    leave_behind(lambda ready: serve(stack, where, chosen, ready), None)


def _directory(text: str) -> Path:
    path = Path(_plain(text))
    if not path.is_dir():
        raise MountFailed(f"{path}: no such directory")
    return path.resolve()


if __name__ == "__main__":
    main()
