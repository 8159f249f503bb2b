"""A file of an image in the pager: which program, which bytes, and who can read them."""

import io
import os
import subprocess
from pathlib import Path
from threading import Event

import pytest

from overlayfs.errors import OverlayError
from overlayfs.tui.pager import Pager, Stopped, name_for, visible, write_copy

HOSTILE = b"plain\n\ttab\n\x1b]0;title\x07\x1b[2J\xc2\x9b31m\r\xff \xe2\x80\xae\xc3\xa9\n"


def decoy(folder: Path, name: str) -> Path:
    """A program that writes down how it was called, and what it was given."""
    program = folder / name
    program.write_text(
        "#!/bin/sh\n"
        f'printf "%s\\n" "$@" > "{folder}/arguments"\n'
        "for file; do :; done\n"
        f'cp "$file" "{folder}/seen"\n'
        f'stat -c "%a %h" "$file" "$(dirname "$file")" > "{folder}/modes"\n'
    )
    program.chmod(0o755)
    return program


def copied(body: bytes, target: Path, *, as_it_is: bool) -> bytes:
    write_copy(
        io.BytesIO(body),
        len(body),
        target,
        as_it_is=as_it_is,
        stop=Event(),
        tell=lambda done: None,
    )
    return target.read_bytes()


def test_without_a_choice_it_is_less_without_raw_bytes_and_programs(tmp_path: Path) -> None:
    decoy(tmp_path, "less")
    pager = Pager({"PATH": f"{tmp_path}:{os.environ['PATH']}"})
    assert pager.takes_bytes
    (tmp_path / "file").write_bytes(HOSTILE)
    pager.show(tmp_path / "file")
    arguments = (tmp_path / "arguments").read_text().splitlines()
    assert arguments == ["-+R", "-+r", "-L", str(tmp_path / "file")]
    assert (tmp_path / "seen").read_bytes() == HOSTILE


def test_less_is_not_talked_into_raw_bytes(tmp_path: Path) -> None:
    """The real less, with all that can ask it for control sequences and for a filter program."""
    (tmp_path / "file").write_bytes(b"\x1b[31mred\x1b[0m\n")
    environ = {
        **os.environ,
        "PAGER": "less -r -R -X",
        "LESS": "-R -r",
        "LESSOPEN": "|echo filtered",
        "TERM": "xterm",
    }
    words = Pager(environ).command(tmp_path / "file")
    # It shows without a keyboard what it would on a terminal: -E and -F leave at the end.
    done = subprocess.run(
        ["script", "-qec", " ".join([*words[:-1], "-E", "-F", words[-1]]), "/dev/null"],
        env=environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=True,
    )
    assert b"\x1b[31mred" not in done.stdout
    assert b"filtered" not in done.stdout
    assert b"ESC" in done.stdout
    assert b"[31mred" in done.stdout


def test_another_pager_gets_its_words_and_no_control_characters(tmp_path: Path) -> None:
    program = decoy(tmp_path, "show it")
    pager = Pager({"PATH": os.environ["PATH"], "PAGER": f"'{program}' -n --x=y"})
    assert not pager.takes_bytes
    (tmp_path / "file").write_bytes(b"")
    pager.show(tmp_path / "file")
    assert (tmp_path / "arguments").read_text().splitlines()[:-1] == ["-n", "--x=y"]


@pytest.mark.parametrize("name", ["no-such-pager", "'", "''"])
def test_a_pager_that_is_not_there_is_told_of(name: str, tmp_path: Path) -> None:
    with pytest.raises(OverlayError):
        Pager({"PATH": str(tmp_path), "PAGER": name})


def test_a_copy_is_for_its_owner_alone_and_has_the_bytes(tmp_path: Path) -> None:
    body = os.urandom(1 << 20)
    assert copied(body, tmp_path / "copy", as_it_is=True) == body
    assert (tmp_path / "copy").stat().st_mode & 0o777 == 0o600
    with pytest.raises(FileExistsError):
        copied(b"", tmp_path / "copy", as_it_is=True)


def test_what_a_terminal_would_obey_is_written_out(tmp_path: Path) -> None:
    text = copied(HOSTILE, tmp_path / "copy", as_it_is=False).decode()
    assert text == ("plain\n\ttab\n\\x1b]0;title\\x07\\x1b[2J\\x9b31m\\x0d\\xff \\u202eé\n")


def test_a_letter_may_lie_across_two_pieces(tmp_path: Path) -> None:
    body = b"x" * ((1 << 18) - 1) + "é".encode() * 10
    assert copied(body, tmp_path / "copy", as_it_is=False) == body
    assert visible("a\x1b") == b"a\\x1b"


def test_a_copy_can_be_stopped_and_tells_how_far_it_is(tmp_path: Path) -> None:
    stop, told = Event(), []

    def tell(done: int) -> None:
        told.append(done)
        stop.set()

    body = io.BytesIO(bytes(20 << 20))
    with pytest.raises(Stopped):
        write_copy(body, 20 << 20, tmp_path / "copy", as_it_is=True, stop=stop, tell=tell)
    assert told == [8 << 20]
    assert body.tell() < 9 << 20


def test_a_file_larger_than_the_disk_is_refused_before_it_is_read(tmp_path: Path) -> None:
    body = io.BytesIO(b"x")
    with pytest.raises(OverlayError, match="are free"):
        write_copy(
            body, 1 << 60, tmp_path / "copy", as_it_is=True, stop=Event(), tell=lambda done: None
        )
    assert body.tell() == 0
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize(
    ("path", "name"),
    [
        (b"etc/passwd", "passwd"),
        (b"a/-x", "-x"),
        (b"a/\x1b[2J", "\\x1b[2J"),
        (b"a/not-utf8-\xff", "not-utf8-\\xff"),
        (b"n" * 255, "n" * 200),
    ],
)
def test_the_copy_is_called_like_the_file(path: bytes, name: str) -> None:
    assert name_for(path) == name
