"""What can go wrong is said in one line that names the thing, with the way out."""

import gzip
import os
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.command import PyOverlay


def complaint(done: subprocess.CompletedProcess[str]) -> str:
    """The message of a command that failed as it should: no traceback, stdout empty.

    It may follow the line that says what is being unpacked, and be followed by a list of
    choices, indented, and a hint.
    """
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    lines = done.stderr.strip().splitlines()
    if lines[0].startswith("pyoverlay: unpacking "):
        del lines[0]
    first, *rest = lines
    assert first.startswith("pyoverlay: "), done.stderr
    assert all(line.startswith("  ") for line in rest), done.stderr
    return "\n".join(lines)


def kept(store: Path) -> list[str]:
    """The blobs, layers and drafts in a store, which keeps room back besides."""
    if not store.exists():
        return []
    return [
        str(path.relative_to(store))
        for path in store.rglob("*")
        if path.is_file() and path.stat().st_size > 200 and path != store / "reserve"
    ]


def make_missing(path: Path, image: Path) -> None:
    """Leaves *path* absent."""


def make_text(path: Path, image: Path) -> None:
    path.write_text("no image\n" * 1000)


def make_empty(path: Path, image: Path) -> None:
    path.touch()


def make_folder(path: Path, image: Path) -> None:
    path.mkdir()


def make_truncated(path: Path, image: Path) -> None:
    path.write_bytes(image.read_bytes()[:-1_000_000])


def make_truncated_gzip(path: Path, image: Path) -> None:
    path.write_bytes(gzip.compress(image.read_bytes(), 1)[:-5000])


def make_flipped(path: Path, image: Path) -> None:
    content = bytearray(image.read_bytes())
    content[len(content) // 2] ^= 0x20
    path.write_bytes(content)


def make_socket(path: Path, image: Path) -> None:
    # The name of a socket has a short limit.
    here = Path.cwd()
    os.chdir(path.parent)
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(path.name)
    os.chdir(here)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        pytest.param(make_missing, "no such file", id="missing"),
        pytest.param(make_text, "", id="text"),
        pytest.param(make_empty, "", id="empty"),
        pytest.param(make_folder, "", id="folder"),
        pytest.param(make_truncated, "", id="truncated"),
        pytest.param(make_truncated_gzip, "", id="truncated-gzip"),
        pytest.param(make_flipped, "sha256", id="flipped-bit"),
        pytest.param(make_socket, "", id="socket"),
    ],
)
def test_what_is_no_image_is_refused_by_name(
    make: Callable[[Path, Path], None],
    says: str,
    pyoverlay: PyOverlay,
    image: Path,
    tmp_path: Path,
) -> None:
    source, root = tmp_path / "file", tmp_path / "root"
    root.mkdir()
    make(source, image)
    done = pyoverlay("mount", source, root)
    assert done.returncode == 1
    message = complaint(done)
    assert "file" in message
    assert says in message
    assert pyoverlay.json("images") == []
    assert kept(pyoverlay.store) == []
    assert list(root.iterdir()) == []


@pytest.mark.parametrize("source", ["nosuch", "nosuch:tag", "sha256:" + "0" * 64, "abcdef"])
def test_a_name_that_is_not_there(source: str, pyoverlay: PyOverlay, tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    done = pyoverlay("mount", source, tmp_path / "root", cwd=tmp_path)
    assert done.returncode == 1
    assert source in complaint(done)


def test_the_wrong_name_in_an_archive_lists_the_right_ones(
    pyoverlay: PyOverlay, image: Path, tmp_path: Path
) -> None:
    (tmp_path / "root").mkdir()
    done = pyoverlay("mount", f"{image}:other:1", tmp_path / "root")
    assert done.returncode == 1
    assert "@0 demo:latest" in complaint(done)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        pytest.param(lambda path: None, "mkdir", id="missing"),
        pytest.param(lambda path: path.write_text("x"), "not a directory", id="a-file"),
        pytest.param(lambda path: path.symlink_to("nowhere"), "no such", id="dangling-link"),
        pytest.param(lambda path: path.symlink_to(path.name), "Too many", id="link-to-itself"),
    ],
)
def test_a_mount_point_that_is_none(
    make: Callable[[Path], None],
    says: str,
    pyoverlay: PyOverlay,
    image: Path,
    tmp_path: Path,
) -> None:
    make(tmp_path / "root")
    done = pyoverlay("mount", image, tmp_path / "root")
    assert done.returncode == 32
    assert says in complaint(done)
    assert kept(pyoverlay.store) == []


def test_a_mount_point_in_use(
    needs_fuse: None, pyoverlay: PyOverlay, image: Path, tmp_path: Path
) -> None:
    with pyoverlay.mounted(image, tmp_path / "root") as root:
        again = pyoverlay("mount", image, root)
        assert again.returncode == 32
        assert "umount" in complaint(again)
        with (root / "etc/motd").open():
            busy = pyoverlay("umount", root)
        assert busy.returncode == 32
        assert "--lazy" in complaint(busy)


def test_a_mount_point_that_holds_the_store(
    pyoverlay: PyOverlay, image: Path, tmp_path: Path
) -> None:
    """Nobody could unmount it by the command, or find out what is mounted."""
    above = pyoverlay.store.parent
    done = pyoverlay("mount", image, above)
    assert done.returncode == 32
    assert f"{above}: the mount would hide the store {pyoverlay.store}" in complaint(done)
    assert not os.path.ismount(above)


def test_nothing_is_mounted_there(pyoverlay: PyOverlay, tmp_path: Path) -> None:
    for command in ("umount", "diff"):
        done = pyoverlay(command, tmp_path)
        assert done.returncode == 32
        assert "pyoverlay ps" in complaint(done)


def test_a_store_that_cannot_be(image: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "root").mkdir()
    done = PyOverlay(tmp_path / "file/store")("mount", image, tmp_path / "root")
    assert done.returncode in (1, 2)
    assert str(tmp_path / "file") in complaint(done)


@pytest.mark.parametrize(
    "words",
    [
        pytest.param([], id="nothing"),
        pytest.param(["frobnicate"], id="unknown-command"),
        pytest.param(["mount"], id="no-source"),
        pytest.param(["mount", "x"], id="no-mount-point"),
        pytest.param(["mount", "--nope", "x", "y"], id="unknown-option"),
        pytest.param(["mount", "-r", "--upper", "u", "x", "y"], id="options-that-exclude"),
        pytest.param(["mount", "--work", "w", "x", "y"], id="work-without-upper"),
        pytest.param(["completion", "tcsh"], id="unknown-shell"),
    ],
)
def test_wrong_usage_is_1_and_says_how(words: list[str], pyoverlay: PyOverlay) -> None:
    done = pyoverlay(*words)
    assert done.returncode == (0 if not words else 1) or not words
    assert "Usage: pyoverlay" in done.stderr + done.stdout
    assert "Traceback" not in done.stderr


def test_a_platform_that_is_none(pyoverlay: PyOverlay, image: Path, tmp_path: Path) -> None:
    done = pyoverlay("mount", "--platform", "a/b/c/d", image, tmp_path)
    assert done.returncode == 1
    assert "platform" in complaint(done)


@pytest.mark.parametrize(
    ("value", "shown"), [("often", "often"), ("auto,ro", "auto\\,ro"), ("1001", "1001"), ("", "")]
)
def test_a_polling_time_that_is_none(
    pyoverlay: PyOverlay, image: Path, tmp_path: Path, value: str, shown: str
) -> None:
    done = pyoverlay("mount", "--busy-poll", value, image, tmp_path)
    assert done.returncode == 1
    assert f"busy_poll={shown}: it must be auto, off or microseconds" in complaint(done)


def test_an_event_loop_that_is_none(pyoverlay: PyOverlay, image: Path, tmp_path: Path) -> None:
    done = pyoverlay("mount", "--event-loop", "slow", image, tmp_path)
    assert done.returncode == 1
    assert "'slow' is not one of 'fast', 'plain'" in done.stderr
    done = pyoverlay("mount", "--event-loop", "plain", "--busy-poll", "50", image, tmp_path)
    assert done.returncode == 1
    assert "busy_poll=50 and event_loop=plain contradict each other" in complaint(done)


def test_names_never_reach_the_terminal_raw(pyoverlay: PyOverlay, tmp_path: Path) -> None:
    evil = tmp_path / "\x1b]0;title\x07\x1b[31m\u202e.tar"
    evil.write_text("no image\n")
    for words in ([evil, tmp_path], ["\x1b[2J", tmp_path], [tmp_path / "no\x1b[2Jne", tmp_path]):
        done = pyoverlay("mount", *words)
        assert done.returncode in (1, 32)
        assert not {"\x1b", "\x07", "\u202e"} & set(done.stderr + done.stdout)
