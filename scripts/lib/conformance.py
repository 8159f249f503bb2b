"""Runs pjdfstest and the unionmount-testsuite on pyoverlayfs and on the kernel's overlayfs.

Both lie on the same disk.  The suites are not part of pyoverlay: DIR is a checkout of one of
them, or has checkouts in folders; nothing is written into them.  Exit code 1 says that a test
fails on pyoverlayfs, not on the kernel's, and not for a reason in docs/semantics.md.
"""

import argparse
import os
import shutil
import sys
import time
from pathlib import Path

from scripts.lib.conformance_results import Comparison, read_explained, totals
from scripts.lib.conformance_suites import KERNEL, OURS, Suite, find

EXPLAINED = Path(__file__).with_name("conformance-explained.txt")


def compare(suite: Suite, part: str, work: Path) -> Comparison:
    """*part* of *suite* on both, one after the other; prints the totals."""
    title = f"{suite.name} {part}".strip()
    found = []
    for side in (KERNEL, OURS):
        folder = work / f"{title.replace(' ', '-')}-{side}"
        shutil.rmtree(folder, ignore_errors=True)
        started = time.monotonic()
        found.append(suite.run(side, part, folder))
        passed, failed = totals(found[-1])
        seconds = time.monotonic() - started
        print(f"{title:28} {side:12} {passed:6} passed {failed:5} failed  {seconds:5.0f} s")
        sys.stdout.flush()
    return Comparison(*found)


def report(suite: Suite, comparison: Comparison, explained: dict[str, str]) -> int:
    """Print what only one of the two passes; the number of unexplained differences."""
    unexplained = 0
    for test, said, reason in comparison.differences(explained):
        unexplained += reason is None
        print(f"  only {OURS} fails {suite.name} {test}: {said}")
        print(f"    {'explained: ' + reason if reason else 'NOT EXPLAINED'}")
    for test in comparison.better():
        print(f"  only the kernel's fails {suite.name} {test}: {comparison.kernel[test].said}")
    for test in explained:
        if test in comparison.ours and comparison.ours[test].passed:
            print(f"  explained, yet it passes: {suite.name} {test}")
    return unexplained


def main() -> None:
    """Runs all that is found and prints what came of it."""
    parser = argparse.ArgumentParser(prog="scripts/conformance", description=__doc__)
    parser.add_argument("dir", type=Path, metavar="DIR", help="where the checkouts are")
    parser.add_argument(
        *("--work", "-w"),
        type=Path,
        default=Path("/var/tmp/pyoverlay-conformance"),
        help="the place on the disk for builds, mounts and logs [%(default)s]",
    )
    parser.add_argument(
        *("--only", "-k"),
        action="append",
        default=[],
        metavar="WORD",
        help="tests with WORD in their name; again for more",
    )
    parser.add_argument(
        "--part", action="append", default=[], help="variants of the unionmount-testsuite"
    )
    options = parser.parse_args()
    if not options.dir.is_dir():
        parser.error(f"{options.dir}: no such directory")
    suites = find(options.dir.resolve(), options.only)
    if not suites:
        parser.error(f"{options.dir}: neither pjdfstest nor the unionmount-testsuite is there")
    if os.geteuid() != 0:
        parser.error("the suites make owners, devices and mounts: run it as root")
    work = options.work.absolute()
    work.mkdir(parents=True, exist_ok=True)
    explained = read_explained(EXPLAINED)
    unexplained = tests = 0
    for suite in suites:
        for part in suite.parts():
            if options.part and part and part not in options.part:
                continue
            comparison = compare(suite, part, work)
            tests += len(comparison.ours)
            unexplained += report(suite, comparison, explained.get(suite.name, {}))
    print(f"{tests} tests; {unexplained} fail on {OURS} alone and are not explained")
    sys.exit(1 if unexplained or not tests else 0)


if __name__ == "__main__":
    main()
