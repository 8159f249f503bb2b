"""The scripts that set everything up, on a copy of the source tree."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from overlayfs.version import VERSION

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The source tree as git would give it: without environments and caches."""
    target = tmp_path / "some where" / "pyoverlay"
    shutil.copytree(
        CHECKOUT,
        target,
        ignore=shutil.ignore_patterns(".git", ".venv", ".*_cache", "__pycache__", ".hypothesis"),
    )
    return target


def start(script: Path, *arguments: str, cwd: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [script, *arguments],
        cwd=cwd,
        # Not in the environment these tests run in.
        env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.timeout(280)
def test_the_first_runs_set_up_once_and_the_next_is_silent(copy: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(copy / "scripts/pyoverlay")
    both = [start(link, "version", cwd=tmp_path) for _ in range(2)]
    answers = [process.communicate() for process in both]
    for process, (stdout, stderr) in zip(both, answers, strict=True):
        assert process.returncode == 0, stderr
        assert stdout == f"pyoverlay {VERSION}\n"
    installs = [stderr for _, stderr in answers if "installing pyoverlay into .venv" in stderr]
    assert len(installs) == 1

    again = start(copy / "scripts/pyoverlay", "version", cwd=Path("/"))
    assert again.communicate() == (f"pyoverlay {VERSION}\n", "")

    # What is there for running is not enough for testing.
    script = (
        'checkout=$1; . "$1/scripts/lib/setup.sh"; quietly() { echo "$@"; }; install_project test'
    )
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script, "bash", copy],
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"--editable {copy}[test]" in done.stdout


def test_a_failing_step_shows_its_output_and_ends_the_script(copy: Path) -> None:
    script = (
        'checkout=$1; . "$1/scripts/lib/setup.sh"; quietly doing it -- sh -c "echo why >&2; exit 3"'
    )
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script, "bash", copy],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        "pyoverlay: doing it",
        "why",
        "pyoverlay: doing it: failed (exit code 3); the output is above",
    ]


def test_without_rights_the_missing_packages_are_named(copy: Path, tmp_path: Path) -> None:
    """As a user who may not become root, with apt-get there."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("bash", "id", "apt-get"):
        found = shutil.which(name)
        if found is None:
            found = "/bin/true"
        (tools / name).symlink_to(found)
    script = 'id() { echo 1000; }; checkout=$1; . "$1/scripts/lib/setup.sh"; apt_install gcc fuse3'
    done = subprocess.run(
        [tools / "bash", "-euo", "pipefail", "-c", script, "bash", copy],
        env={"PATH": str(tools)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "pyoverlay: system packages are missing: gcc fuse3",
        "  hint: as root: apt-get install --no-install-recommends gcc fuse3",
    ]
