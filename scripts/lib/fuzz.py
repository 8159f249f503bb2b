"""Looks for differences between pyoverlay, the kernel's overlayfs and a plain directory.

Random sequences of operations over random layers, until --runs of them or --minutes are over.
What is found is made smaller, printed and kept in a file for --replay. With --fsx and --stress
one file after another is exercised instead, and a tree by several processes at once. Ends with
1 when a difference was found.
"""

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

from tests.support import crowd, exerciser
from tests.support.sequences import Failure, Plan, run_plan, run_random, shrunk


def main() -> int:
    """The exit code."""
    options = _options()
    with tempfile.TemporaryDirectory(prefix="pyoverlay-fuzz-", dir=options.work) as folder:
        base = Path(folder)
        base.chmod(0o755)
        if options.replay:
            failure = run_plan(base / "replay", Plan.from_text(options.replay.read_text()))
            if failure is None:
                print("no difference")
                return 0
            print(failure.reason)
            return 1
        if options.fsx or options.stress:
            return _exercise(base, options)
        return _compare(base, options)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    number = random.SystemRandom().randrange(1 << 32)
    parser.add_argument("--runs", type=int, help="how many sequences (without end if not given)")
    parser.add_argument("--minutes", type=float, help="for how long")
    parser.add_argument("--seed", type=int, default=number, help="where to begin (at random)")
    parser.add_argument("--fsx", type=int, metavar="N", help="N operations on the bytes of files")
    parser.add_argument("--stress", type=int, metavar="N", help="N operations by four processes")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="what was found before")
    parser.add_argument("--found", type=Path, default=Path(), help="where to keep what is found")
    parser.add_argument("--work", type=Path, help="where to make the layers (a temporary folder)")
    return parser.parse_args()


def _exercise(base: Path, options: argparse.Namespace) -> int:
    code = 0
    kinds = (("fsx", options.fsx, exerciser.run), ("stress", options.stress, crowd.run))
    for name, count, run in kinds:
        if not count:
            continue
        began = time.monotonic()
        try:
            said = run(base / name, count, options.seed)
        except AssertionError as exc:
            print(f"{name}: seed {options.seed}: {exc}")
            code = 1
        else:
            print(f"{name}: {said}, {time.monotonic() - began:.0f} s, seed {options.seed}")
    return code


def _compare(base: Path, options: argparse.Namespace) -> int:
    began = time.monotonic()
    found = 0
    runs = 0
    while (options.runs is None or runs < options.runs) and (
        options.minutes is None or time.monotonic() - began < options.minutes * 60
    ):
        seed = options.seed + runs
        failure = run_random(base / f"{seed}", seed)
        runs += 1
        if failure is not None:
            found += 1
            report(base, options.found, seed, failure)
        if sys.stderr.isatty():
            print(f"\r{runs} sequences, {found} differences", end="", file=sys.stderr, flush=True)
    took = time.monotonic() - began
    print(f"{runs} sequences from seed {options.seed}, {found} differences, {took:.0f} s")
    return 1 if found else 0


def report(base: Path, folder: Path, seed: int, failure: Failure) -> None:
    """Tell of *failure*, and keep in *folder* the smallest plan that was found for it."""
    tries = 0

    def fails(plan: Plan) -> bool:
        nonlocal tries
        tries += 1
        return run_plan(base / f"{seed}-{tries}", plan) is not None

    print(f"seed {seed}: {failure.reason}", flush=True)
    smaller = shrunk(failure.plan, fails)
    again = run_plan(base / f"{seed}-again", smaller)
    path = folder / f"fuzz-{seed}"
    path.write_text(smaller.text())
    print(f"made smaller: {again.reason if again else 'it comes and goes'}")
    print(f"{smaller.text()}kept for --replay {path}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
