"""Gives hostile images, changed at random, to a store and to those who look into archives.

Until --runs of them or --minutes are over. An image is taken or refused in one line, in bounded
time and memory, and nothing outside is touched; whatever else happens is printed, with the
number that makes the image again (--seed N --runs 1), and the image is kept. Ends with 1 then.
With --atheris, if that is installed, the changes are chosen by what they reach.
"""

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

from tests.hostile.case import Ground
from tests.hostile.doors import untouched
from tests.hostile.mutation import image
from tests.hostile.trying import Failure, Trial

# After so many the decoys are looked at.
ROUND = 50


def main() -> int:
    """The exit code."""
    options = _options()
    with tempfile.TemporaryDirectory(prefix="pyoverlay-fuzz-", dir=options.work) as folder:
        base = Path(folder)
        if options.atheris:
            from tests.hostile.guided import guided

            return guided(Ground.make(base / "ground"), options.minutes)
        return _run(Ground.make(base / "ground"), options)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/fuzz archives", description=__doc__)
    number = random.SystemRandom().randrange(1 << 32)
    parser.add_argument("--runs", type=int, help="how many images (without end if not given)")
    parser.add_argument("--minutes", type=float, help="for how long")
    parser.add_argument("--seed", type=int, default=number, help="where to begin (at random)")
    parser.add_argument("--found", type=Path, default=Path(), help="where to keep what is found")
    parser.add_argument("--work", type=Path, help="where the store lies (a temporary folder)")
    parser.add_argument("--atheris", action="store_true", help="be guided by what is reached")
    return parser.parse_args()


def _run(ground: Ground, options: argparse.Namespace) -> int:
    began = time.monotonic()
    trial = Trial(ground)
    found: list[Failure] = []
    done = 0
    while (options.runs is None or done < options.runs) and (
        options.minutes is None or time.monotonic() - began < options.minutes * 60
    ):
        count = ROUND if options.runs is None else min(ROUND, options.runs - done)
        first = options.seed + done
        try:
            with untouched(ground):
                failures = trial.run(range(first, first + count))
        except AssertionError:
            failures = [Failure(first, f"one of {count} images from this one on touched a decoy")]
        for failure in failures:
            _report(ground, options.found, failure)
        found += failures
        done += count
        if sys.stderr.isatty():
            print(f"\r{done} images, {len(found)} failures", end="", file=sys.stderr, flush=True)
    took = time.monotonic() - began
    print(f"{done} images from seed {options.seed}, {len(found)} failures, {took:.0f} s")
    return 1 if found else 0


def _report(ground: Ground, folder: Path, failure: Failure) -> None:
    kept = folder / f"archive-{failure.number}.tar"
    kept.write_bytes(image(random.Random(failure.number), str(ground.outside)))
    print(f"image {failure.number}, kept as {kept}:\n{failure.reason}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
