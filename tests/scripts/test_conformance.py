"""How scripts/conformance reads and compares what the suites say; they are not here to be run."""

import subprocess
import sys
from pathlib import Path

import pytest

from scripts.lib.conformance import EXPLAINED, report
from scripts.lib.conformance_results import Comparison, Outcome, read_explained, tap, totals
from scripts.lib.conformance_suites import VARIANTS, Pjdfstest, Unionmount, find

ROOT = Path(__file__).parents[2]

# What a script of pjdfstest wrote, shortened, and with a failure put in.
RECORDED = """\
1..5
ok 1
not ok 2 - tried 'chmod name 0111', expected 0, got EPERM
not ok 3 # TODO a reason why this one may fail
ok 4 # SKIP not on this system
"""


def test_tap_counts_what_was_planned_and_excuses_what_says_so() -> None:
    found = tap("chmod/00.t", RECORDED, "exit code 1")
    assert totals(found) == (3, 2)
    assert found["chmod/00.t:2"] == (False, "tried 'chmod name 0111', expected 0, got EPERM")
    assert found["chmod/00.t:3"].passed
    assert found["chmod/00.t:4"].passed
    assert found["chmod/00.t:5"] == (False, "did not report exit code 1")


def test_a_script_without_a_plan_has_failed() -> None:
    assert tap("chmod/00.t", "ok 1\n", "timed out") == {
        "chmod/00.t:1": Outcome(True),
        "chmod/00.t": Outcome(False, "no plan timed out"),
    }
    assert tap("chmod/00.t", "") == {"chmod/00.t": Outcome(False, "no plan")}


def test_what_ours_alone_fails_is_told_in_order_with_its_reason() -> None:
    both = Comparison(
        kernel={name: Outcome(name != "a:3") for name in ("a:2", "a:3", "a:4", "a:9", "a:10")},
        ours={
            "a:2": Outcome(True),
            "a:3": Outcome(True),
            "a:4": Outcome(False, "four"),
            "a:10": Outcome(False, "ten"),
        },
    )
    explained = {"a:4": "no FUSE has it", "a:2": "a reason of the past"}
    assert [tuple(found) for found in both.differences(explained)] == [
        ("a:4", "four", "no FUSE has it"),
        ("a:9", "did not run", None),
        ("a:10", "ten", None),
    ]
    assert both.better() == ["a:3"]
    told = "\n".join(report("suite", both, explained))
    assert told.count("NOT EXPLAINED") == 2
    assert "explained: no FUSE has it" in told
    assert "explained, and passes: suite a:2" in told


def test_every_explanation_names_a_suite_a_test_and_a_reason() -> None:
    for suite, tests in read_explained(EXPLAINED).items():
        assert suite in (Pjdfstest.name, Unionmount.name)
        for test, reason in tests.items():
            assert suite != Unionmount.name or test.split("/")[0] in VARIANTS, test
            assert len(reason.split()) > 2, test


def test_checkouts_are_found_where_they_are(tmp_path: Path) -> None:
    for file in ("one/pjdfstest.c", "two/mount_union.py", "two/tests/rename-file.py", "three"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    assert [type(suite) for suite in find(tmp_path, [])] == [Pjdfstest, Unionmount]
    assert [type(suite) for suite in find(tmp_path / "two", [])] == [Unionmount]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(["{tmp}/none"], "{tmp}/none: no such directory", id="no-directory"),
        pytest.param(
            ["{tmp}"],
            "{tmp}: neither pjdfstest nor the unionmount-testsuite is there",
            id="no-suite",
        ),
        pytest.param([], "the following arguments are required: DIR", id="nothing"),
        pytest.param(["{tmp}", "-v", "x"], "invalid choice: 'x'", id="unknown-variant"),
    ],
)
def test_what_cannot_be_run_is_said_with_exit_code_2(
    arguments: list[str], said: str, tmp_path: Path
) -> None:
    done = subprocess.run(
        [
            *(sys.executable, ROOT / "scripts/lib/conformance.py"),
            *(word.format(tmp=tmp_path) for word in arguments),
        ],
        env={"PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert said.format(tmp=tmp_path) in done.stderr
    assert done.stdout == ""
