"""The source passes the tools that the project agreed on."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PYTHON_SOURCES = ["overlayfs", "tests", "scripts"]


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(["ruff", "check", *PYTHON_SOURCES], id="ruff-check"),
        pytest.param(["ruff", "format", "--check", "--diff", *PYTHON_SOURCES], id="ruff-format"),
        pytest.param(["mypy"], id="mypy-strict"),
    ],
)
def test_tools_have_no_complaint(command: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    "script",
    [
        "scripts/pyoverlay",
        "scripts/test",
        "scripts/conformance",
        "scripts/fuzz",
        "scripts/bench",
        "scripts/lib/setup.sh",
        ".ci/run",
    ],
)
def test_shell_scripts_parse(script: str) -> None:
    bash = shutil.which("bash")
    assert bash is not None
    subprocess.run([bash, "-n", ROOT / script], check=True)
