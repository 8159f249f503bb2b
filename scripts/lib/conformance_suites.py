"""The two suites, run on either file system, each in directories of its own."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from scripts.lib.conformance_results import Outcome, Outcomes, tap

KERNEL, OURS = "kernel", "pyoverlayfs"


class Suite(ABC):
    """Runs on a file system; *name* is that of its lines in conformance-explained.txt."""

    name: str

    @abstractmethod
    def parts(self) -> list[str]:
        """The names of what can be run by itself."""

    @abstractmethod
    def run(self, side: str, part: str, work: Path) -> Outcomes:
        """How the tests of *part* ended on *side*; uses *work*, and writes a log beside it."""


class Pjdfstest(Suite):
    """What POSIX says of system calls: shell scripts that write TAP."""

    name = "pjdfstest"

    def __init__(self, checkout: Path, only: list[str]) -> None:
        self._checkout = checkout
        self._only = only

    def parts(self) -> list[str]:
        return [""]

    def run(self, side: str, part: str, work: Path) -> Outcomes:
        tests = self._build(work.with_name("pjdfstest-built")) / "tests"
        outcomes: Outcomes = {}
        with _mounted(side, work) as place, work.with_suffix(".log").open("w") as log:
            for script in sorted(tests.glob("*/*.t")):
                name = str(script.relative_to(tests))
                if _chosen(name, self._only):
                    output, ended = _output(["sh", str(script)], place, patience=600)
                    print(f"{name}\n{output}", file=log, flush=True)
                    outcomes |= tap(name, output, ended)
        return outcomes

    def _build(self, target: Path) -> Path:
        """A copy of the checkout, compiled."""
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(self._checkout, target, ignore=shutil.ignore_patterns(".git"))
        for command in (["autoreconf", "-ifs"], ["./configure"], ["make", "pjdfstest"]):
            output, ended = _output(command, target, patience=600)
            if ended:
                raise SystemExit(f"pjdfstest: {' '.join(command)}: {ended}\n{output}")
        return target


class Variant(NamedTuple):
    """One way to run the unionmount-testsuite; *options* are mount options."""

    selector: str
    flags: tuple[str, ...]
    options: str = ""
    lower_on_tmpfs: bool = False


# In those with 4 the upper directory becomes a lower one after every other change.  With
# `--verify` the suite itself gives the kernel `index=on`, and a FUSE file system nothing.
VARIANTS = {
    "plain": Variant("--ov", ("--xdev",)),
    "slashes": Variant("--ov", ("--ts=1", "--xdev")),
    "verify": Variant("--ov", ("--xdev", "--verify"), "index=on"),
    "two-disks": Variant("--ov", ("--xdev", "--verify"), "index=on", lower_on_tmpfs=True),
    "layers": Variant("--ov=4", ("--xdev", "--verify"), "index=on"),
    "layers-on-tmpfs": Variant("--ov=4", ("--maxfs=2", "--xdev", "--verify"), "index=on"),
    "redirect": Variant("--ov", ("--verify",), "index=on,redirect_dir=on"),
    "metacopy": Variant("--ov", ("--verify",), "index=on,redirect_dir=on,metacopy=on"),
    "redirect-layers": Variant("--ov=4", ("--verify",), "index=on,redirect_dir=on"),
}


class Unionmount(Suite):
    """What a union shows, and keeps where, after each change; stops at a failure."""

    name = "unionmount"

    def __init__(self, checkout: Path, only: list[str]) -> None:
        self._checkout = checkout
        names = [path.stem for path in sorted(checkout.glob("tests/*.py"))]
        self._tests = [name for name in names if _chosen(name, only)]

    def parts(self) -> list[str]:
        return list(VARIANTS)

    def run(self, side: str, part: str, work: Path) -> Outcomes:
        variant = VARIANTS[part]
        fuse = [f"--fuse={OURS}"] if side == OURS else []
        script = [sys.executable, str(self._checkout / "run")]
        outcomes: Outcomes = {}
        waiting = self._tests
        with (
            _directories(variant, work) as places,
            _installed(work) as tools,
            work.with_suffix(".log").open("w") as log,
        ):
            environment = places | tools
            while waiting:
                command = [*script, variant.selector, *fuse, *variant.flags, *waiting]
                output, ended = _output(command, work, environment, patience=3600)
                print(f"{' '.join(command)}\n{output}", file=log, flush=True)
                done = len(waiting)
                if ended:
                    started = re.findall(r"^\*\*\* \S+ --\S.* (\S+)$", output, re.MULTILINE)
                    if not started:
                        raise SystemExit(f"unionmount-testsuite: {ended}\n{output}")
                    done = waiting.index(started[-1])
                    said = (output.strip().splitlines() or [ended])[-1]
                    outcomes[f"{part}/{started[-1]}"] = Outcome(False, said)
                outcomes |= {f"{part}/{test}": Outcome(True) for test in waiting[:done]}
                waiting = waiting[done + 1 :]
            _output([*script, "--clean-up"], work, environment, patience=600)
        return outcomes


def find(folder: Path, only: list[str]) -> list[Suite]:
    """The suites that *folder* is, or has in folders; of their tests those that are chosen."""
    found: list[Suite] = []
    for place in (folder, *sorted(folder.iterdir())):
        if (place / "pjdfstest.c").is_file():
            found.append(Pjdfstest(place, only))
        elif (place / "mount_union.py").is_file():
            found.append(Unionmount(place, only))
    return found


def _chosen(name: str, only: list[str]) -> bool:
    return not only or any(word in name for word in only)


@contextmanager
def _mounted(side: str, work: Path) -> Iterator[Path]:
    """A directory that came from a lower one, in a union."""
    lower, upper, inner, top = (work / name for name in ("lower", "upper", "work", "mnt"))
    for path in (lower, lower / "place", upper, inner, top):
        path.mkdir(parents=True)
    options = f"lowerdir={lower},upperdir={upper},workdir={inner}"
    command = ["mount", "-t", "overlay", "overlay"] if side == KERNEL else [OURS]
    subprocess.run([*command, "-o", options, top], check=True)
    try:
        yield top / "place"
    finally:
        subprocess.run(["umount", top], check=True)


_HELPER = f"mount.fuse.{OURS}"
# The kernel lets umount(2) return while the daemon has the layers open yet, and the suite goes
# on to unmount those.  A process is known by 15 bytes of its name.
_UMOUNT = f"""\
#!/bin/sh
type=$(findmnt --noheadings --output=FSTYPE --mountpoint "$1")
serving=$(pgrep -x {_HELPER[:15]})
{shutil.which("umount")} "$@" || exit
[ "$type" = fuse.{OURS} ] || exit 0
for pid in $serving; do
    while [ -e "/proc/$pid" ]; do sleep 0.02; done
done
"""


@contextmanager
def _installed(work: Path) -> Iterator[dict[str, str]]:
    """The helper of mount(8), where only this command sees it, and the PATH of a patient umount."""
    program = shutil.which(OURS)
    assert program is not None
    helpers, tools = work / "helpers", work / "tools"
    for folder in (helpers, tools):
        folder.mkdir()
    (helpers / _HELPER).symlink_to(program)
    (tools / "umount").write_text(_UMOUNT)
    (tools / "umount").chmod(0o755)
    where = Path("/sbin").resolve()
    options = f"lowerdir={helpers}:{where}"
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, where], check=True)
    try:
        yield {"PATH": f"{tools}:{os.environ['PATH']}"}
    finally:
        subprocess.run(["umount", "--lazy", where], check=True)


@contextmanager
def _directories(variant: Variant, work: Path) -> Iterator[dict[str, str]]:
    """Where the suite shall work, as it wants to be told."""
    base, lower = work / "base", work / "lower"
    base.mkdir(parents=True)
    environment = {"UNIONMOUNT_BASEDIR": str(base)}
    if variant.options:
        environment["UNIONMOUNT_MNTOPTIONS"] = variant.options
    if not variant.lower_on_tmpfs:
        yield environment
        return
    lower.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "lower", lower], check=True)
    try:
        yield environment | {"UNIONMOUNT_LOWERDIR": str(lower)}
    finally:
        subprocess.run(["umount", "--lazy", lower], check=True)


def _output(
    command: list[str], folder: Path, environment: dict[str, str] | None = None, *, patience: int
) -> tuple[str, str]:
    """What *command* printed, and in words how it ended if not well; killed after *patience* s."""
    given = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    python = {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1"}
    # A file: daemons that it leaves would keep a pipe open.
    with tempfile.TemporaryFile() as printed:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=given | python | (environment or {}),
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            umask=0o022,
        )
        try:
            code = process.wait(patience)
            ended = f"exit code {code}" if code else ""
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            ended = f"timed out after {patience} s"
        printed.seek(0)
        return printed.read().decode(errors="replace"), ended
