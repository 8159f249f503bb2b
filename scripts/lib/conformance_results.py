"""What a suite said, and where two file systems differ."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

_LINE = re.compile(r"(?P<not>not )?ok\b *(?P<number>\d*)(?P<text>.*)")
_PLAN = re.compile(r"1\.\.(?P<count>\d+)")
_EXCUSED = re.compile(r"#\s*(todo|skip)", re.IGNORECASE)


class Outcome(NamedTuple):
    """How one test ended; *said* is what the suite says of a failure."""

    passed: bool
    said: str = ""


Outcomes = dict[str, Outcome]


def tap(script: str, output: str, ended: str = "") -> Outcomes:
    """The tests in *output*, which is in TAP, as ``SCRIPT:NUMBER``.

    A test that was planned and did not report has failed, and *ended* says how the script
    did.  Where there is no plan, the script as a whole has failed as well.
    """
    found: Outcomes = {}
    planned: int | None = None
    for line in output.splitlines():
        if plan := _PLAN.match(line):
            planned = int(plan["count"])
        elif told := _LINE.match(line):
            number = int(told["number"] or len(found) + 1)
            passed = not told["not"] or _EXCUSED.search(told["text"]) is not None
            found[f"{script}:{number}"] = Outcome(passed, told["text"].strip(" -"))
    for number in range(1, (planned or 0) + 1):
        found.setdefault(f"{script}:{number}", Outcome(False, f"did not report {ended}".strip()))
    if planned is None:
        found[script] = Outcome(False, f"no plan {ended}".strip())
    return found


class Difference(NamedTuple):
    """A test that fails on ours and not on the kernel's."""

    test: str
    said: str
    reason: str | None  # where it is explained


@dataclass(frozen=True, slots=True)
class Comparison:
    """One suite on both file systems."""

    kernel: Outcomes
    ours: Outcomes

    def differences(self, explained: Mapping[str, str]) -> Iterator[Difference]:
        """What only ours fails; a test that ran on one side only counts as failed on the other."""
        for test in sorted({*self.kernel, *self.ours}, key=_in_order):
            if self.kernel.get(test, _MISSING).passed:
                ours = self.ours.get(test, _MISSING)
                if not ours.passed:
                    yield Difference(test, ours.said, explained.get(test))

    def better(self) -> list[str]:
        """What only the kernel's fails."""
        passing = {test for test, outcome in self.ours.items() if outcome.passed}
        return sorted(
            (test for test in passing if not self.kernel.get(test, _MISSING).passed), key=_in_order
        )


_MISSING = Outcome(False, "did not run")


def totals(outcomes: Outcomes) -> tuple[int, int]:
    """How many passed, and how many failed."""
    passed = sum(outcome.passed for outcome in outcomes.values())
    return passed, len(outcomes) - passed


def read_explained(path: Path) -> dict[str, dict[str, str]]:
    """By suite and test the reason why it cannot pass: lines of SUITE TEST REASON."""
    explained: dict[str, dict[str, str]] = {}
    for line in path.read_text().splitlines():
        if line.strip() and not line.startswith("#"):
            suite, test, reason = line.split(maxsplit=2)
            explained.setdefault(suite, {})[test] = reason
    return explained


def _in_order(test: str) -> list[tuple[int, str]]:
    """Numbers by their value."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", test)]
