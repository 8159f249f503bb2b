"""Kills the processes of a store at random, and looks whether anything is lost or left.

Commands that load, name, remove, prune and mount end at some step, one after the other over one
store, until --kills of them have died or --minutes are over. After every hundred the store is
pruned and compared with a fresh one that has the same images. Ends with 1 when something is
wrong.
"""

import argparse
import random
import sys
import tempfile
import time
import traceback
from pathlib import Path

from tests.support.accidents import World, archives

ROUND = 100


def main() -> int:
    """The exit code."""
    options = _options()
    until = time.monotonic() + 60 * options.minutes if options.minutes else float("inf")
    killed = 0
    with tempfile.TemporaryDirectory(prefix="pyoverlay-fuzz-", dir=options.work) as folder:
        base = Path(folder)
        known = archives(base)
        for seed in range(options.seed, sys.maxsize):
            if time.monotonic() > until or (options.kills and killed >= options.kills):
                break
            world = World.empty(base / f"world{seed}", known, random.Random(seed))
            try:
                while world.kills.total() < ROUND:
                    world.accident()
                world.settle_accounts()
            except AssertionError:
                traceback.print_exc()
                print(f"with --seed {seed}, after:", *world.log[-10:], sep="\n  ")
                return 1
            finally:
                world.unmount()
            killed += world.kills.total()
            print(f"seed {seed}: {dict(world.kills)}, nothing lost, nothing left", flush=True)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/fuzz store", description=__doc__)
    number = random.SystemRandom().randrange(1 << 32)
    parser.add_argument("--kills", type=int, help="how many (without end if not given)")
    parser.add_argument("--minutes", type=float, help="for how long")
    parser.add_argument("--seed", type=int, default=number, help="where to begin (at random)")
    parser.add_argument("--work", type=Path, help="where to make the store (a temporary folder)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
