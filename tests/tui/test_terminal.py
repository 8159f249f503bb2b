"""``pyoverlay explore`` as a process: on a terminal, and where there is none."""

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.command import PyOverlay
from tests.support.explored import write_sample
from tests.tui.test_pager import decoy

ROOT = Path(__file__).parents[2]
_PATIENCE = 60


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    return write_sample(tmp_path / "shop.tar")


class Terminal:
    """A program on a terminal of its own; *seen* is all that it has written."""

    def __init__(self, process: subprocess.Popen[bytes], fd: int) -> None:
        self.process = process
        self.fd = fd
        self.seen = b""

    def until(self, text: bytes) -> None:
        """Read until the program has written *text*, from now on."""
        begin = len(self.seen)
        while text not in self.seen[begin:]:
            assert self._more(), f"{text!r} was not written: {self.seen[begin:][-3000:]!r}"

    def rest(self) -> int:
        """Read to the end; the exit code."""
        while self._more():
            continue
        return self.process.wait(_PATIENCE)

    def send(self, keys: bytes) -> None:
        os.write(self.fd, keys)

    def _more(self) -> bool:
        if not select.select([self.fd], [], [], _PATIENCE)[0]:
            return False
        try:
            piece = os.read(self.fd, 1 << 16)
        except OSError:  # EIO: nobody has the other end any more
            return False
        self.seen += piece
        return bool(piece)


@contextmanager
def on_terminal(*arguments: str | Path, **environ: str) -> Iterator[Terminal]:
    """The command with a terminal of 100 columns and 30 lines for its three descriptors."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "overlayfs", "explore", *arguments],
        env={key: value for key, value in os.environ.items() if key not in ("PAGER", "NO_COLOR")}
        | {"PYTHONPATH": str(ROOT), "TERM": "xterm-256color", "COLORTERM": "truecolor"}
        | environ,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    try:
        yield Terminal(process, ours)
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def test_on_a_terminal_a_file_is_read_in_the_pager_and_the_terminal_comes_back(
    sample: Path, tmp_path: Path
) -> None:
    pager = decoy(tmp_path, "pager")
    with on_terminal(sample, PAGER=str(pager), TMPDIR=str(tmp_path)) as terminal:
        before = termios.tcgetattr(terminal.fd)
        terminal.until(b"56.7 %")
        assert b"\x1b[?1049h" in terminal.seen  # the alternate screen
        # To the tree, to /etc, into it, and to the first file that is left there.
        for keys, shown in (
            (b"\t", b"9.8 MB in it"),
            (b"\x1b[B", b"1.06 MB in it"),
            (b"\x1b[B", b"111 B in it"),
            (b"\r", b"os-release"),
            (b"\x1b[B", b"26 bytes"),
        ):
            terminal.send(keys)
            terminal.until(shown)
        terminal.send(b"\r")
        # For the pager, and again afterwards.
        terminal.until(b"\x1b[?1049l")
        terminal.until(b"\x1b[?1049h")
        assert (tmp_path / "seen").read_bytes() == b'NAME="Small"\nVERSION_ID=3\n'
        terminal.send(b"q")
        assert terminal.rest() == 0
        assert terminal.seen.count(b"\x1b[?1049l") == terminal.seen.count(b"\x1b[?1049h") == 2
        assert termios.tcgetattr(terminal.fd) == before
    assert list(tmp_path.glob("pyoverlay-*")) == []


def test_without_colours_there_are_none(sample: Path) -> None:
    with on_terminal(sample, NO_COLOR="1") as terminal:
        terminal.until(b"56.7 %")
        terminal.send(b"q")
        assert terminal.rest() == 0
        colours = _colours(terminal.seen)
    assert colours
    assert all(red == green == blue for red, green, blue in colours)


def _colours(seen: bytes) -> set[tuple[bytes, ...]]:
    """Every colour that is set by its parts."""
    found = set()
    for sequence in seen.split(b"\x1b[")[1:]:
        numbers = sequence.partition(b"m")[0].split(b";")
        for at in range(len(numbers) - 4):
            if numbers[at] in (b"38", b"48") and numbers[at + 1] == b"2":
                found.add(tuple(numbers[at + 2 : at + 5]))
    return found


@pytest.mark.parametrize("term", ["dumb", "", "unknown"])
def test_a_terminal_that_cannot_be_drawn_on_is_refused(sample: Path, term: str) -> None:
    with on_terminal(sample, TERM=term) as terminal:
        assert terminal.rest() == 1
        lines = terminal.seen.decode().splitlines()
    assert lines[0] == (
        f"pyoverlay: explore cannot draw on a terminal of the type {term or 'unknown'}"
    )
    assert lines[1].startswith("  hint: ")
    assert len(lines) == 2


def test_an_image_that_is_none_is_told_of_after_the_terminal_is_back(tmp_path: Path) -> None:
    broken = write_sample(tmp_path / "broken.tar")
    data = bytearray(broken.read_bytes())
    at = data.index(b"etc/passwd")
    data[at + 148 : at + 156] = b"!broken!"
    broken.write_bytes(data)
    with on_terminal(broken) as terminal:
        assert terminal.rest() == 1
        last = terminal.seen.decode().splitlines()[-1]
    assert "broken.tar: layer 1" in last
    assert "Traceback" not in last


def test_without_a_terminal_there_is_one_clear_line(pyoverlay: PyOverlay, sample: Path) -> None:
    done = pyoverlay("explore", sample)
    assert (done.returncode, done.stdout) == (1, "")
    first, hint = done.stderr.splitlines()
    assert first == "pyoverlay: explore needs a terminal for input, output and errors"
    assert "pyoverlay layers" in hint


def test_without_the_library_it_says_how_to_get_it(sample: Path, tmp_path: Path) -> None:
    # An installation in which nothing is called textual.
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['textual'] = None\n")
    done = subprocess.run(
        [sys.executable, "-m", "overlayfs", "explore", sample],
        env=os.environ | {"PYTHONPATH": f"{tmp_path}:{ROOT}"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "pyoverlay: explore needs the library textual, which is not installed",
        "  hint: pip install 'pyoverlayfs[tui]'",
    ]


def test_no_other_command_imports_what_draws(sample: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "overlayfs", "ls", sample],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
    )
    names = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "overlayfs.view.image" in names
    assert not {name for name in names if name.startswith(("textual", "overlayfs.tui"))}
