"""Measures a mount beside fuse-overlayfs, unionfs-fuse and the kernel's overlayfs.

All mount the same layers, and each has an upper directory of its own on the same disk.  They take
turns, round after round, once as the kernel places client and daemon and once with both on one
processor; medians are shown.  Less is better in every row.

"A fresh mount" is one that the kernel has cached nothing of.  Files of the layers are in the page
cache, whose place is below all of the peers: what is measured is the file system, not the disk.
For the same reason all are told not to sync (volatile).
"""

import argparse
import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import FrameType

from scripts.lib.bench import catalogue
from scripts.lib.bench.goals import verdicts
from scripts.lib.bench.peers import Missing, all_peers, yardstick
from scripts.lib.bench.plot import draw
from scripts.lib.bench.report import as_json, machine, show
from scripts.lib.bench.results import Mode, Results
from scripts.lib.bench.rounds import Rounds
from scripts.lib.bench.rows import Settings
from scripts.lib.bench.workload import Size, Workload, prepared
from tests.support.images import run

MODES = {mode.value.replace(" ", "-"): mode for mode in Mode}
FULL = Size()
FULL_ROUNDS, QUICK_ROUNDS = 5, 2
FULL_CALLS, QUICK_CALLS = 20_000, 4_000


def say(line: str) -> None:
    """Tells how far it is."""
    print(line, file=sys.stderr, flush=True)


def parser(size: Size) -> argparse.ArgumentParser:
    """The command line; its help says what each row is."""
    rows = "\n".join(
        f"  {row.name} ({row.unit})\n      {row.what}"
        for row in catalogue.rows(catalogue.scenes(size))
    )
    found = argparse.ArgumentParser(
        prog="scripts/bench files",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"FUSE_OVERLAYFS=PATH[:PATH...] names the fuse-overlayfs to use.\n\nrows:\n{rows}",
    )
    found.add_argument(
        "--work",
        type=Path,
        default=_cache() / "pyoverlay-bench",
        help="where it all lies, on the disk to be used [%(default)s]",
    )
    found.add_argument("--keep", action="store_true", help="leave the work-load for the next run")
    found.add_argument("--rounds", type=int, help=f"how often [{FULL_ROUNDS}]")
    found.add_argument("--quick", action="store_true", help=f"{QUICK_ROUNDS} rounds of fewer calls")
    found.add_argument(
        "--only",
        nargs="+",
        action="extend",
        default=[],
        metavar="ROW",
        help="rows that begin so; may be given again",
    )
    found.add_argument("--mode", choices=MODES, help="only this one")
    found.add_argument("--json", type=Path, metavar="FILE", help="write all that was measured")
    found.add_argument("--plot", type=Path, metavar="FILE.svg", help="draw the ratios")
    found.add_argument(
        "--check", action="store_true", help="exit with 1 when a goal is missed, and say which"
    )
    return found


def _cache() -> Path:
    """XDG_CACHE_HOME, of the XDG Base Directory Specification."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def main(arguments: Sequence[str], size: Size = FULL, debian: Path | None = None) -> int:
    """Runs all; gives the exit code.  *debian* is a tar of a root that is there already."""
    words = parser(size)
    options = words.parse_args(arguments)
    try:
        names = catalogue.chosen(size, options.only)
        peers = all_peers()
    except (ValueError, Missing) as exc:
        words.error(str(exc))
    reference = yardstick(peer.name for peer in peers)
    if reference is None and options.check:
        words.error("the goals are about fuse-overlayfs 1.x, and FUSE_OVERLAYFS names none")
    if os.geteuid() != 0:
        words.error("owners, devices and mounts need root: run it with sudo")
    work = options.work.absolute()
    if any(letter in str(work) for letter in ",:\\"):
        words.error(f"{work}: options of a mount cannot name such a directory")
    rounds = options.rounds or (QUICK_ROUNDS if options.quick else FULL_ROUNDS)
    modes = [MODES[options.mode]] if options.mode else list(Mode)
    results = Results()
    interrupted = False
    with _alone(work):
        about = machine(work)
        try:
            workload = prepared(work, size, say, debian=debian)
            _read_all(workload)
            Rounds(
                settings=Settings(workload, calls=QUICK_CALLS if options.quick else FULL_CALLS),
                peers=peers,
                modes=modes,
                rows=frozenset(names),
                rounds=rounds,
                place=work / "runs",
                client=compiled_client(work),
                say=say,
            ).run(catalogue.scenes(size), results)
        except KeyboardInterrupt:
            interrupted = True
        finally:
            _clear(work, keep=options.keep)
    rows = catalogue.rows(catalogue.scenes(size))
    found = list(verdicts(results, names, modes, reference)) if reference else []
    show(results, rows, about, rounds)
    if options.json:
        asked = {"rounds": rounds, "quick": options.quick, "work_load": asdict(size)}
        text = json.dumps(as_json(results, rows, about, asked, found), indent=1)
        options.json.write_text(text + "\n")
    if options.plot:
        draw(results, rows, reference or peers[1].name, options.plot)
    if interrupted:
        say("interrupted: these are the figures until then")
        return 128 + signal.SIGINT
    if not options.check:
        return 0
    for verdict in found:
        print(verdict)
    missed = sum(not verdict.reached for verdict in found)
    print(f"{len(found)} goals, {missed} missed")
    return 1 if missed or not found else 0


@contextmanager
def _alone(work: Path) -> Iterator[None]:
    """Nobody else measures in *work*, and a request to end is a KeyboardInterrupt."""

    def end(_signal: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    work.mkdir(parents=True, exist_ok=True)
    with (work / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.exit(f"scripts/bench: {work}: another run is using it")
        before = signal.signal(signal.SIGTERM, end)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)


def compiled_client(work: Path) -> Path:
    """The program that makes the calls of the micro rows."""
    program = work / "client"
    run("cc", "-O2", "-o", program, Path(__file__).with_name("client.c"))
    return program


def _read_all(workload: Workload) -> None:
    """Has all files of all layers in the page cache."""
    command = ["bash", "-c", 'set -o pipefail; tar -cf - "$1" | cat >/dev/null', "tar", "."]
    subprocess.run(command, cwd=workload.folder, check=True)


def _clear(work: Path, *, keep: bool) -> None:
    shutil.rmtree(work / "runs", ignore_errors=True)
    if not keep:
        shutil.rmtree(work / "workloads", ignore_errors=True)
        for name in ("client", "lock"):
            (work / name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            work.rmdir()  # what somebody else has in it stays
