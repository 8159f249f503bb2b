"""``pyoverlay demo``: a tour on a small image, with nothing left behind."""

import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import click

from overlayfs.cli.demo_image import write_demo_image
from overlayfs.errors import OverlayError


@click.command(name="demo", epilog="Examples:\n\n\b\n  pyoverlay demo\n")
def command() -> None:
    """Build a small image, mount it, change it, and show what happens.

    Everything lies in a temporary directory, which is removed in the end.
    """
    with tempfile.TemporaryDirectory(prefix="pyoverlay-demo-") as name:
        folder = Path(name)
        (folder / "scratch").mkdir()
        (folder / "root").mkdir()
        write_demo_image(folder / "demo.tar", folder / "scratch")
        Tour(folder).walk()


class Tour:
    """Commands as a user types them, each shown before its output."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._env = os.environ | {
            "PYOVERLAY_ROOT": str(folder / "store"),
            # The commands run elsewhere, and this may not be installed.
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "LC_ALL": "C",
        }

    def walk(self) -> None:
        """Mounts, looks, changes, unmounts; unmounts as well when something fails."""
        self._say("An image of three layers: a base, one that deletes a file, one that starts")
        self._say("a directory afresh. No daemon, no registry, and nothing to install in it.")
        self._show("ls -l demo.tar")
        self._pyoverlay("mount demo.tar root")
        try:
            self._look()
            self._change()
        finally:
            self._pyoverlay("umount root")
        self._say("The upper layer stays, and so does the image: mounting it again is immediate.")
        self._pyoverlay("mount --read-only demo root")
        try:
            self._show("cat root/etc/motd")
        finally:
            self._pyoverlay("umount root")

    def _look(self) -> None:
        self._say("The tree that the layers make together. /etc/secret is gone (a whiteout in")
        self._say("layer 2), /srv/cache has only what layer 3 put there (an opaque directory).")
        self._show("ls -l root root/etc root/srv/cache")
        self._say("The layers, each unpacked once, whatever images it is part of:")
        self._pyoverlay("images")
        self._pyoverlay("ps")

    def _change(self) -> None:
        self._say("A change copies the file up into the upper layer; the layers stay as they are.")
        self._show("sh -c 'echo Changed by me. >> root/etc/motd'")
        self._show("rm root/srv/hello.txt")
        self._show("cat root/etc/motd")
        self._pyoverlay("diff root")
        if os.geteuid() == 0:
            self._say("And it is a root to run in:")
            self._show("chroot root /bin/sh -c 'uname -s; id; cat /etc/motd; echo x > /root/note'")
            self._pyoverlay("diff root")
        else:
            self._say("(Running a program in it with chroot needs root.)")

    def _say(self, text: str) -> None:
        click.secho(f"# {text}", fg="cyan")

    def _pyoverlay(self, words: str) -> None:
        self._run(f"pyoverlay {words}", [sys.executable, "-m", "overlayfs", *shlex.split(words)])

    def _show(self, words: str) -> None:
        self._run(words, shlex.split(words))

    def _run(self, shown: str, command: list[str]) -> None:
        click.secho(f"$ {shown}", bold=True)
        sys.stdout.flush()
        code = subprocess.run(command, cwd=self._folder, env=self._env, check=False).returncode
        if code != 0:
            raise OverlayError(f"the demo stops here: {shown!r} ended with exit code {code}")
        click.echo()
