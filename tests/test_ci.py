"""In CI a test that is skipped is a test that fails."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCE = """
import pytest

def test_needs_something():
    pytest.skip("not here")

@pytest.mark.skip(reason="never")
def test_never():
    pass

@pytest.mark.xfail(reason="known")
def test_known():
    raise AssertionError
"""


@pytest.mark.parametrize(("ci", "code"), [("true", 1), ("", 0)])
def test_skipping(ci: str, code: int, tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(SOURCE)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "tests.conftest", "--rootdir", tmp_path, tmp_path],
        cwd=ROOT,
        env=os.environ | {"CI": ci, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stdout
    assert ("1 failed, 1 xfailed, 1 error" if ci else "2 skipped, 1 xfailed") in done.stdout
