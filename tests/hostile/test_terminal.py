"""Whatever an image says of itself, no command gives a terminal anything to obey."""

import contextlib
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.archives import Made, from_1_10, write_tar
from tests.support.command import PyOverlay
from tests.support.layers import file, folder, symlink, tar

ESCAPE = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202e\r\n\x08"
LAYERS = (
    tar(
        file(f"a{ESCAPE}", b"1"),
        folder(f"d{ESCAPE}"),
        file(f"d{ESCAPE}/b", b"2", uid=7),
        symlink("s", f"to{ESCAPE}"),
        file("f", b"3", pax={f"SCHILY.xattr.user.x{ESCAPE}": ESCAPE}),
    ),
    tar(file("f", b"4"), file(f".wh.a{ESCAPE}"), file(f"n{ESCAPE}", b"5", mode=0o4755)),
)
SAID = {
    "author": ESCAPE,
    "created": ESCAPE,
    "config": {
        "Env": [f"A={ESCAPE}"],
        "Cmd": [ESCAPE],
        "Entrypoint": [ESCAPE],
        "User": ESCAPE,
        "WorkingDir": ESCAPE,
        "Labels": {f"l{ESCAPE}": ESCAPE},
        "Volumes": {ESCAPE: {}},
        "ExposedPorts": {ESCAPE: {}},
        "StopSignal": ESCAPE,
    },
    "history": [{"created_by": ESCAPE, "comment": ESCAPE, "created": ESCAPE}] * 2,
}
COMMANDS = [
    "ls -lR {image}:/",
    "ls -lR --json {image}:/",
    "ls {image}:/gone{escape}",
    "find {image}:/",
    "tree {image}:/",
    "tree --du {image}:/",
    "stat {image}:/s",
    "stat {image}:/f",
    "layers {image}",
    "layers --json {image}",
    "which-layer {image} /f",
    "which-layer {image} /a{escape}",
    "diff {other} {image}",
    "diff --stat {other} {image}",
    "inspect {image}",
    "history {image}",
    "history --no-trunc {image}",
    "verify",
    "load {image}",
    "images",
    "images --no-trunc",
    "tag hostile:1 x{escape}",
    "rmi x{escape}",
    "extract --no-owner {image} out",
    "cat {image}:/d{escape}",
    "cp {image}:/gone{escape} out2",
]
_OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


@pytest.fixture(scope="module")
def pyoverlay(tmp_path_factory: pytest.TempPathFactory) -> PyOverlay:
    """The command, with a store that has the image."""
    base = tmp_path_factory.mktemp("terminal")
    write_tar(base / "image.tar", from_1_10([(Made(LAYERS, SAID), ["hostile:1", ESCAPE])]))
    other = Made((tar(file("f", b"0")),))
    write_tar(base / "other.tar", from_1_10([(other, ["other:1"])]))
    pyoverlay = PyOverlay(base / "store")
    pyoverlay.ok("load", base / "image.tar")
    return pyoverlay


@pytest.mark.parametrize("line", COMMANDS)
def test_nothing_is_given_to_obey(line: str, pyoverlay: PyOverlay) -> None:
    base = pyoverlay.store.parent
    words = [
        word.format(image=base / "image.tar", other=base / "other.tar", escape=ESCAPE)
        for word in line.split()
    ]
    shown = on_a_terminal(pyoverlay, words, base)
    # The terminal itself has made line ends of two characters.
    assert _OBEYED.findall(shown.replace("\r\n", "\n")) == []
    assert "Traceback" not in shown


def on_a_terminal(pyoverlay: PyOverlay, words: list[str], folder: Path) -> str:
    """What the command shows on a terminal that knows no colours."""
    ours, its = pty.openpty()
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "overlayfs", *words],
            cwd=folder,
            env=os.environ
            | {
                "PYOVERLAY_ROOT": str(pyoverlay.store),
                "PYTHONPATH": str(Path(__file__).parents[2]),
                "TERM": "dumb",
                "NO_COLOR": "1",
            },
            stdin=subprocess.DEVNULL,
            stdout=its,
            stderr=its,
        )
    finally:
        os.close(its)
    shown = b""
    with contextlib.suppress(OSError):  # EIO, when the last who has it open closes it
        while piece := os.read(ours, 1 << 16):
            shown += piece
    os.close(ours)
    process.wait(20)
    return shown.decode("utf-8", "surrogateescape")


def test_the_tree_is_there_all_the_same(pyoverlay: PyOverlay, tmp_path: Path) -> None:
    target = tmp_path / "out"
    pyoverlay.ok("extract", "hostile:1", target)
    assert (target / f"d{ESCAPE}/b").read_bytes() == b"2"
    assert not (target / f"a{ESCAPE}").exists()
