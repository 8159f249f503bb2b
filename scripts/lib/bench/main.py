"""``scripts/bench``: which of the two measurements is wanted."""

import sys

from scripts.lib.bench import files, first_ls

_USAGE = """\
usage: scripts/bench [files] [OPTIONS]   a mount beside other union file systems
       scripts/bench images [OPTIONS]    from an image file to the first ls, beside umoci and podman

-h behind either tells the rest.
"""


def main(arguments: list[str]) -> int:
    """Runs one; gives the exit code."""
    match arguments:
        case ["images", *rest]:
            first_ls.main(rest)
            return 0
        case ["files", *rest]:
            return files.main(rest)
        case [word, *_] if word in ("-h", "--help"):
            print(_USAGE)
            return files.main(arguments)
        case [word, *_] if not word.startswith("-"):
            print(_USAGE, end="", file=sys.stderr)
            return 2
    return files.main(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
