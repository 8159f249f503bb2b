"""Mounting, looking and unmounting from the command line."""

import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import pytest

from overlayfs.cli.main import COMMANDS
from overlayfs.version import VERSION
from tests.support.command import PyOverlay, completed
from tests.support.images import run
from tests.support.tree import names


def test_mount_prints_one_line_and_keeps_stderr_for_the_rest(
    needs_fuse: None, pyoverlay: PyOverlay, image: Path, tmp_path: Path
) -> None:
    root = tmp_path / "root"
    root.mkdir()
    done = pyoverlay("mount", image, root)
    assert done.returncode == 0, done.stderr
    try:
        assert re.fullmatch(
            rf"{re.escape(str(root))}: demo:latest \([0-9a-f]{{12}}, 3 layers\), .*\n", done.stdout
        )
        assert done.stderr.startswith("pyoverlay: unpacking ")
        assert names(root / "etc") == ["motd", "passwd"]
        assert names(root / "srv/cache") == ["new"]
    finally:
        pyoverlay.ok("umount", root)
    assert names(root) == []


def test_stored_layers_are_mounted_by_name_and_by_id_without_unpacking(
    needs_fuse: None, pyoverlay: PyOverlay, image: Path, tmp_path: Path
) -> None:
    with pyoverlay.mounted(image, tmp_path / "root"):
        pass
    (stored,) = pyoverlay.json("images")
    for source in (image, "demo", "demo:latest", stored["id"], stored["id"][7:19]):
        done = pyoverlay("mount", "--read-only", source, tmp_path / "root")
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        pyoverlay.ok("umount", tmp_path / "root")


def test_lists_say_the_same_to_people_and_to_programs(
    needs_fuse: None, pyoverlay: PyOverlay, image: Path, tmp_path: Path
) -> None:
    root = tmp_path / "root"
    root.mkdir()
    mounted = pyoverlay.json("mount", image, root)
    try:
        (listed,) = pyoverlay.json("ps")
        assert listed == mounted
        assert listed["mountpoint"] == str(root)
        assert listed["image"] == "demo:latest"
        assert listed["state"] == "live"
        assert listed["read_only"] is False
        assert datetime.fromisoformat(listed["since"]).tzinfo is not None
        assert Path(listed["log"]).is_file()
        os.kill(listed["pid"], 0)
        table = pyoverlay.ok("ps").splitlines()
        assert table[0].split()[:2] == ["IMAGE", "MOUNT"]
        for value in ("demo:latest", str(root), str(listed["pid"]), listed["upper"]):
            assert value in table[1]

        (stored,) = pyoverlay.json("images")
        assert stored["names"] == ["demo:latest"]
        assert [Path(layer["path"]).is_dir() for layer in stored["layers"]] == [True] * 3
        assert stored["id"][7:19] in pyoverlay.ok("images")

        (root / "etc/motd").write_text("changed")
        (root / "etc/new\nline").write_text("")
        (root / "srv/hello.txt").unlink()
        wanted = {
            ("modified", "/etc"),
            ("modified", "/etc/motd"),
            ("added", "/etc/new\nline"),
            ("modified", "/srv"),
            ("deleted", "/srv/hello.txt"),
        }
        assert {(each["kind"], each["path"]) for each in pyoverlay.json("diff", root)} == wanted
        assert set(pyoverlay.ok("diff", root).splitlines()) == {
            "C /etc",
            "C /etc/motd",
            r"A /etc/new\x0aline",
            "C /srv",
            "D /srv/hello.txt",
        }
    finally:
        pyoverlay.ok("umount", root)
    assert pyoverlay.json("ps") == []


def test_changes_stay_in_upper_and_are_found_again(
    needs_fuse: None, pyoverlay: PyOverlay, image: Path, tmp_path: Path
) -> None:
    upper = tmp_path / "upper"
    with pyoverlay.mounted(image, tmp_path / "root", "--upper", upper) as root:
        (root / "etc/motd").write_text("mine")
    assert (upper / "etc/motd").read_text() == "mine"
    with pyoverlay.mounted("demo", tmp_path / "root", "--upper", upper) as root:
        assert (root / "etc/motd").read_text() == "mine"


def test_several_images_are_listed_and_one_is_chosen(
    needs_fuse: None, pyoverlay: PyOverlay, image: Path, tmp_path: Path
) -> None:
    several = tmp_path / "layout"
    for name in ("one:1", "two:2"):
        run("skopeo", "copy", "--quiet", f"oci-archive:{image}", f"oci:{several}:{name}")
        run("umoci", "config", "--image", f"{several}:{name}", f"--author={name}")
    (tmp_path / "root").mkdir()
    done = pyoverlay("mount", several, tmp_path / "root")
    assert done.returncode == 1
    assert "one:1" in done.stderr
    assert "two:2" in done.stderr
    for choice in (":two:2", "@1"):
        with pyoverlay.mounted(f"{several}{choice}", tmp_path / "root"):
            assert "two:2" in pyoverlay.json("ps")[0]["image"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "fast, busy poll: auto"),
        (["--busy-poll", "auto", "--event-loop", "fast"], "fast, busy poll: auto"),
        (["--busy-poll", "off"], "fast, busy poll: off"),
        (["--busy-poll=25"], "fast, busy poll: 25 µs"),
        (["-o", "busy_poll=25"], "fast, busy poll: 25 µs"),
        (["-o", "busy_poll=25", "--busy-poll", "off"], "fast, busy poll: off"),
        (["--event-loop", "plain"], "plain"),
        (["-o", "event_loop=plain"], "plain"),
    ],
)
def test_the_daemon_waits_for_requests_as_it_is_told(
    needs_fuse: None,
    pyoverlay: PyOverlay,
    image: Path,
    tmp_path: Path,
    options: list[str],
    said: str,
) -> None:
    with pyoverlay.mounted(image, tmp_path / "root", *options) as root:
        assert (root / "etc/motd").exists()
        log = Path(pyoverlay.json("ps")[0]["log"]).read_text()
        assert log.splitlines()[0].endswith(f" event loop: {said}")


def test_foreground_stays_until_it_is_told_to_end(
    needs_fuse: None, pyoverlay: PyOverlay, image: Path, tmp_path: Path
) -> None:
    root = tmp_path / "root"
    root.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "overlayfs", "mount", "--foreground", image, root],
        env=os.environ | {"PYOVERLAY_ROOT": str(pyoverlay.store)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(f"{root}: demo:latest")
        assert (root / "etc/motd").read_text() == "Layer 1 wrote this.\n"
        process.terminate()
        _, stderr = process.communicate()
    assert process.returncode == 0, stderr
    assert names(root) == []


@contextmanager
def terminal() -> Iterator[tuple[int, int]]:
    """The two ends of one."""
    ours, theirs = pty.openpty()
    try:
        yield ours, theirs
    finally:
        os.close(ours)


def test_a_terminal_gets_a_bar_and_stdout_stays_clean(
    needs_fuse: None, pyoverlay: PyOverlay, image: Path, tmp_path: Path
) -> None:
    (tmp_path / "root").mkdir()
    with terminal() as (ours, theirs):
        done = subprocess.run(
            [sys.executable, "-m", "overlayfs", "mount", "--json", image, tmp_path / "root"],
            env=os.environ | {"PYOVERLAY_ROOT": str(pyoverlay.store), "TERM": "xterm"},
            stdout=subprocess.PIPE,
            stderr=theirs,
            check=False,
        )
        os.close(theirs)
        drawn = os.read(ours, 1 << 16).decode()
    pyoverlay.ok("umount", tmp_path / "root")
    assert done.returncode == 0, drawn
    assert json.loads(done.stdout)["image"] == "demo:latest"
    assert "demo.tar" in drawn
    assert "MB" in drawn


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_each_command_has_help_with_an_example(name: str, pyoverlay: PyOverlay) -> None:
    text = pyoverlay.ok(name, "--help")
    assert text.startswith(f"Usage: pyoverlay {name}")
    assert name == "version" or f"  pyoverlay {name}" in text or f"pyoverlay {name} " in text


def test_help_needs_neither_drawing_nor_mounting() -> None:
    code = (
        "import sys, overlayfs.cli.main as m; m.main(['--help']); "
        "print(sorted({'rich', 'pyfuse3', 'trio', 'isal'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_version(pyoverlay: PyOverlay) -> None:
    assert pyoverlay.ok("version") == pyoverlay.ok("--version") == f"pyoverlay {VERSION}\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_code_calls_us_back(shell: str, pyoverlay: PyOverlay) -> None:
    assert f"_PYOVERLAY_COMPLETE={shell}_complete" in pyoverlay.ok("completion", shell)


def test_bash_completes_commands_images_and_mount_points(
    needs_fuse: None, pyoverlay: PyOverlay, image: Path, tmp_path: Path
) -> None:
    store, root = pyoverlay.store, tmp_path / "root"
    assert completed(store, "pyoverlay um") == ["plain,umount"]
    assert completed(store, "pyoverlay mount d") == ["file,d"]
    assert not store.exists()
    with pyoverlay.mounted(image, root):
        assert completed(store, "pyoverlay mount d") == ["file,d", "plain,demo:latest"]
        assert completed(store, "pyoverlay umount ") == [f"plain,{root}"]
        beneath = f"{tmp_path}/r"
        assert completed(store, f"pyoverlay diff {beneath}") == [f"file,{beneath}", f"plain,{root}"]
        assert completed(store, "pyoverlay diff d") == ["file,d", "plain,demo:latest"]
    assert completed(store, "pyoverlay umount ") == []


def test_a_reader_that_goes_away_is_no_error(pyoverlay: PyOverlay) -> None:
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", '"$0" -m overlayfs images --json | true', sys.executable],
        env=os.environ | {"PYOVERLAY_ROOT": str(pyoverlay.store)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
