"""Runs pjdfstest and the unionmount-testsuite on pyoverlayfs and on the kernel's overlayfs.

Both lie on the same disk.  The suites are no part of pyoverlay: DIR is a checkout of one of
them, or has checkouts in folders; nothing is written there.  Exit code 1 says that a test
fails on pyoverlayfs alone, and not for a reason that docs/semantics.md gives.
"""

import argparse
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from scripts.lib.conformance_results import Comparison, read_explained, totals
from scripts.lib.conformance_suites import KERNEL, OURS, VARIANTS, Suite, find

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
        seconds = time.monotonic() - started
        passed, failed = totals(found[-1])
        print(
            f"{title:28} {side:12} {passed:6} passed {failed:5} failed {seconds:6.0f} s", flush=True
        )
    return Comparison(*found)


def report(suite: str, comparison: Comparison, explained: dict[str, str]) -> Iterator[str]:
    """Lines on what only one of the two passes."""
    for test, said, reason in comparison.differences(explained):
        yield f"  only {OURS} fails {suite} {test}: {said}"
        yield f"    explained: {reason}" if reason else "    NOT EXPLAINED"
    for test in comparison.better():
        yield f"  only the kernel's fails {suite} {test}: {comparison.kernel[test].said}"
    for test in explained:
        if test in comparison.ours and comparison.ours[test].passed:
            yield f"  explained, and passes: {suite} {test}"


def main() -> None:
    """Runs all that is found, and prints what came of it."""
    parser = argparse.ArgumentParser(prog="scripts/conformance", description=__doc__)
    parser.add_argument("dir", type=Path, metavar="DIR", help="where the checkouts are")
    parser.add_argument(
        *("--work", "-w"),
        type=Path,
        default=Path("/var/tmp/pyoverlay-conformance"),
        help="where mounts, builds and logs lie, on the disk to be used [%(default)s]",
    )
    parser.add_argument(
        *("--only", "-k"),
        action="append",
        default=[],
        metavar="WORD",
        help="only tests with WORD in their name; may be given again",
    )
    parser.add_argument(
        *("--variant", "-v"),
        action="append",
        choices=VARIANTS,
        help="only this way to run the unionmount-testsuite; may be given again",
    )
    options = parser.parse_args()
    if not options.dir.is_dir():
        parser.error(f"{options.dir}: no such directory")
    suites = find(options.dir.resolve(), options.only)
    if not suites:
        parser.error(f"{options.dir}: neither pjdfstest nor the unionmount-testsuite is there")
    if os.geteuid() != 0:
        parser.error("owners, devices and mounts need root: run it with sudo")
    work = options.work.absolute()
    work.mkdir(parents=True, exist_ok=True)
    print(f"Linux {platform.release()}, {_file_system(work)}", flush=True)
    explained = read_explained(EXPLAINED)
    tests = unexplained = 0
    for suite in suites:
        for part in suite.parts():
            if options.variant and part in VARIANTS and part not in options.variant:
                continue
            reasons = explained.get(suite.name, {})
            comparison = compare(suite, part, work)
            for line in report(suite.name, comparison, reasons):
                print(line, flush=True)
            tests += len(comparison.ours)
            unexplained += sum(not found.reason for found in comparison.differences(reasons))
    print(f"{tests} tests; {unexplained} fail on {OURS} alone and are not explained")
    sys.exit(1 if unexplained or not tests else 0)


def _file_system(path: Path) -> str:
    command = ["findmnt", "--noheadings", "--output=FSTYPE", "--target", path]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    main()
