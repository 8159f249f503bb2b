"""``scripts/fuzz``, without what installs things.  About 10 s."""

import subprocess
import sys
from pathlib import Path

import pytest

from scripts.lib.fuzz import report
from tests.support.comparison import Flavour
from tests.support.pieces import Piece
from tests.support.sequences import Failure, Plan
from tests.support.union import REPOSITORY

pytestmark = pytest.mark.usefixtures("needs_kernel_overlay", "needs_fuse")

# The kernel lists the whiteout, as nothing is merged where it lies.
BASE = (Piece(b"", "dir"), Piece(b"a", "file"))
TOP = (Piece(b"", "dir"), Piece(b"d", "dir"), Piece(b"d/w", "whiteout"))
DIFFERENT = Plan((BASE, TOP), (), Flavour.PLAIN)


def fuzz(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, REPOSITORY / "scripts/lib/fuzz.py", *arguments]
    environment = {"PYTHONPATH": str(REPOSITORY), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_where_there_is_no_difference(tmp_path: Path) -> None:
    done = fuzz("--runs", "3", "--seed", "5", "--work", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("3 sequences from seed 5, 0 differences")
    assert list(tmp_path.iterdir()) == []


def test_time_ends_it(tmp_path: Path) -> None:
    done = fuzz("--minutes", "0.02", "--work", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert " sequences from seed " in done.stdout


def test_bytes_and_crowds(tmp_path: Path) -> None:
    done = fuzz("--fsx", "600", "--stress", "400", "--seed", "5", "--work", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "fsx: 600 operations" in done.stdout
    assert "stress: 400 operations" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_difference_is_told_and_kept_and_shown_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report(tmp_path / "work", tmp_path, 17, Failure(DIFFERENT, "as found"))
    said = capsys.readouterr().out
    assert "seed 17: as found" in said
    assert "d/w" in said
    assert Plan.from_text((tmp_path / "fuzz-17").read_text()) == DIFFERENT
    again = fuzz("--replay", tmp_path / "fuzz-17", "--work", tmp_path)
    assert again.returncode == 1
    assert "d/w" in again.stdout
