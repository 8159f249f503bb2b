"""The command ``pyoverlay``: its subcommands, and the one place where errors become text."""

import gc
import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import click

from overlayfs.errors import OverlayError
from overlayfs.printable import printable
from overlayfs.version import VERSION

# What is loaded when it is used: drawing and mounting import much that `--help` and `ps` need not.
SECTIONS = {
    "Mounts": {
        "mount": "Mount an image.",
        "umount": "Unmount.",
        "ps": "List the mounts.",
        "diff": "List what was changed in a mount, or differs between two images.",
    },
    "What an image is": {
        "images": "List the images in the store.",
        "inspect": "Show all that is known of images.",
        "history": "Show how an image came to be.",
        "layers": "Tell what each layer of an image changes, and what is wasted.",
        "which-layer": "Tell which layers of an image have a file.",
        "explore": "Explore an image in the terminal.",
    },
    "What is in it": {
        "ls": "List a directory of an image.",
        "cat": "Print files of an image.",
        "stat": "Tell all about a file of an image.",
        "find": "Find files in an image.",
        "tree": "Draw the tree of an image, with sizes.",
        "cp": "Copy a file or directory of an image to this machine.",
        "extract": "Unpack an image, or a directory of it.",
    },
    "Names, and other places": {
        "load": "Put the images of an archive into the store.",
        "save": "Save images to an archive or a directory.",
        "import": "Make an image of a root file system in a tar or a directory.",
        "export": "Write the files of an image or a mount as a tar.",
        "tag": "Give an image another name.",
        "untag": "Take names from images.",
        "rmi": "Remove images.",
    },
    "The store, and this machine": {
        "system": "Show what takes how much of the disk, and prune.",
        "prune": "Remove what nothing uses.",
        "verify": "Look for damage in the store, and repair it.",
        "info": "Show what the store and this machine have.",
        "doctor": "Look for what is in the way of mounts.",
        "demo": "Build a small image, mount it, change it, and show what happens.",
        "image": "Commands for images, as docker spells them.",
        "completion": "Print the completion code for a shell.",
        "version": "Print the version.",
    },
}
COMMANDS = {name: line for section in SECTIONS.values() for name, line in section.items()}

# Commands that are called like no module can be, or otherwise than it.
_MODULES = {"import": "import_", "which-layer": "whichlayer"}
_SPELLINGS = {"unmount": "umount"}


class Commands(click.Group):
    """Subcommands by name, a line of help for each, in *sections*; imported when called.

    *modules* has those that are not called like their module, *spellings* what people type
    for a name as well.
    """

    def __init__(
        self,
        *args: Any,
        sections: Mapping[str, Mapping[str, str]],
        modules: Mapping[str, str],
        spellings: Mapping[str, str],
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self._sections = sections
        self._lines = {name: line for lines in sections.values() for name, line in lines.items()}
        self._modules = modules
        self._spellings = spellings

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._lines)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._lines:
            return None
        name = self._modules.get(cmd_name, cmd_name)
        command = importlib.import_module(f"overlayfs.cli.{name}").command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, lines in self._sections.items():
            with formatter.section(title):
                formatter.write_dl(list(lines.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args:
            args = [self._spellings.get(args[0], args[0]), *args[1:]]
        return super().resolve_command(ctx, args)


@click.group(
    cls=Commands,
    sections=SECTIONS,
    modules=_MODULES,
    spellings=_SPELLINGS,
    epilog="Examples:\n\n\b\n"
    "  pyoverlay mount image.tar /mnt/root\n"
    "  pyoverlay diff /mnt/root\n"
    "  pyoverlay umount /mnt/root\n"
    "  pyoverlay ls -l image.tar:/etc\n"
    "  pyoverlay which-layer image.tar /etc/passwd\n",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(VERSION, prog_name="pyoverlay", message="%(prog)s %(version)s")
def pyoverlay() -> None:
    """Container images without a daemon: mount them, look into them, keep and share them."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code follows mount(8).

    1 wrong usage, bad input or missing permission; 2 the system failed; 8 interrupted;
    32 the mount failed.
    """
    try:
        return _run(arguments)
    finally:
        # An interpreter that ends looks for cycles in all modules: a tenth of a short command.
        gc.freeze()


def _run(arguments: Sequence[str] | None) -> int:
    try:
        result = pyoverlay.main(
            args=None if arguments is None else list(arguments),
            prog_name="pyoverlay",
            standalone_mode=False,
        )
    except click.exceptions.Exit as exc:
        return exc.exit_code
    except click.Abort:
        return _interrupted()
    except click.ClickException as exc:
        exc.show()
        return 1
    except OverlayError as exc:
        _complain(exc.message, exc.hint)
        return exc.exit_code
    except BrokenPipeError:
        # The reader of our output has gone (`pyoverlay images | head -1`): nobody to tell.
        # Python would flush at exit, and fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return _interrupted()
    except OSError as exc:
        _complain(_reason(exc), "")
        return 2
    # Without standalone_mode click returns what `ctx.exit` was given.
    return result if isinstance(result, int) else 0


def _reason(exc: OSError) -> str:
    """One line for a system error, with the file it is about where there is one."""
    reason = exc.strerror or str(exc)
    if exc.filename is None:
        return reason
    name = exc.filename if isinstance(exc.filename, bytes | str) else str(exc.filename)
    return f"{printable(name)}: {reason}"


def _complain(message: str, hint: str) -> None:
    """The message and the way out, on stderr, without what a terminal would obey."""
    click.echo(f"pyoverlay: {_lines(message)}", err=True)
    if hint:
        click.echo(f"  hint: {_lines(hint)}", err=True)


def _lines(text: str) -> str:
    """*text* safe to print, its own line breaks kept (lists of choices have some)."""
    return "\n".join(printable(line) for line in text.split("\n"))


def _interrupted() -> int:
    _complain("interrupted", "")
    return 8
