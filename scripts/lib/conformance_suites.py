"""The two suites, run on either file system; each in directories of its own below a work folder."""

import os
import re
import shutil
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from scripts.lib.conformance_results import Outcome, Outcomes, tap

KERNEL, OURS = "kernel", "pyoverlayfs"
# Seconds for one script: something that hangs must fail.
_PATIENCE = 900


class Suite(ABC):
    """Runs on a file system; *name* is that of its lines in conformance-explained.txt."""

    name: str

    @abstractmethod
    def parts(self) -> list[str]:
        """The names of what can be run by itself."""

    @abstractmethod
    def run(self, side: str, part: str, work: Path) -> Outcomes:
        """How the tests of *part* ended on *side*, with files in *work* and a log beside."""


class Pjdfstest(Suite):
    """System calls of POSIX, in TAP: one shell script each."""

    name = "pjdfstest"

    def __init__(self, checkout: Path, only: list[str]) -> None:
        self._checkout = checkout
        self._only = only

    def parts(self) -> list[str]:
        return [""]

    def run(self, side: str, part: str, work: Path) -> Outcomes:
        built = self._build(work.parent / "pjdfstest-built")
        scripts = [
            path
            for path in sorted(built.glob("tests/*/*.t"))
            if not self._only or any(word in str(path.relative_to(built)) for word in self._only)
        ]
        outcomes: Outcomes = {}
        with _mounted(side, work) as place, work.with_suffix(".log").open("w") as log:
            for script in scripts:
                name = str(script.relative_to(built / "tests"))
                output, ended = _output(["sh", str(script)], place)
                print(f"{name}\n{output}", file=log, flush=True)
                outcomes |= tap(name, output, ended)
        return outcomes

    def _build(self, target: Path) -> Path:
        if not (target / "pjdfstest").exists():
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(self._checkout, target, ignore=shutil.ignore_patterns(".git"))
            for command in (["autoreconf", "-ifs"], ["./configure"], ["make", "pjdfstest"]):
                output, ended = _output(command, target)
                if ended:
                    raise SystemExit(f"pjdfstest: {' '.join(command)}: {ended}\n{output}")
        return target


class Variant(NamedTuple):
    """One way to run the unionmount-testsuite."""

    selector: str
    flags: tuple[str, ...]
    options: str = ""
    lower_on_tmpfs: bool = False


VARIANTS = {
    "plain": Variant("--ov", ("--xdev",)),
    "slashes": Variant("--ov", ("--ts=1", "--xdev")),
    "verify": Variant("--ov", ("--xdev", "--verify")),
    "two-disks": Variant("--ov", ("--xdev", "--verify"), lower_on_tmpfs=True),
    "layers": Variant("--ov=4", ("--xdev", "--verify")),
    "layers-on-tmpfs": Variant("--ov=4", ("--maxfs=2", "--xdev", "--verify")),
    "redirect": Variant("--ov", ("--verify",), "redirect_dir=on"),
    "redirect-layers": Variant("--ov=4", ("--verify",), "redirect_dir=on"),
}


class Unionmount(Suite):
    """What a union must show after each change: a Python script that stops at a failure."""

    name = "unionmount"

    def __init__(self, checkout: Path, only: list[str]) -> None:
        self._checkout = checkout
        self._tests = [
            path.stem
            for path in sorted(checkout.glob("tests/*.py"))
            if not only or any(word in path.stem for word in only)
        ]

    def parts(self) -> list[str]:
        return list(VARIANTS)

    def run(self, side: str, part: str, work: Path) -> Outcomes:
        variant = VARIANTS[part]
        outcomes: Outcomes = {}
        waiting = list(self._tests)
        with (
            _directories(variant, work) as environment,
            _installed(work / "bin"),
            work.with_suffix(".log").open("w") as log,
        ):
            while waiting:
                fuse = [f"--fuse={OURS}"] if side == OURS else []
                words = [self._checkout / "run", variant.selector, *fuse, *variant.flags, *waiting]
                command = [sys.executable, *map(str, words)]
                output, ended = _output(command, self._checkout, environment)
                print(f"{' '.join(command)}\n{output}", file=log, flush=True)
                started = re.findall(r"^\*\*\* \S+ --\S.* (\S+)$", output, re.MULTILINE)
                failed = started[-1] if ended and started else None
                if ended and failed is None:
                    raise SystemExit(f"unionmount-testsuite: {ended}\n{output}")
                done = waiting.index(failed) if failed else len(waiting)
                outcomes |= {f"{part}/{test}": Outcome(True) for test in waiting[:done]}
                if failed:
                    said = _last_words(output) or ended
                    outcomes[f"{part}/{failed}"] = Outcome(False, said)
                waiting = waiting[done + 1 :]
            _output([sys.executable, str(self._checkout / "run"), "--clean-up"], work, environment)
        return outcomes


def find(folder: Path, only: list[str]) -> list[Suite]:
    """The suites that *folder* is, or has in folders of their names."""
    found: list[Suite] = []
    for place in (folder, *sorted(folder.iterdir())):
        if (place / "pjdfstest.c").is_file():
            found.append(Pjdfstest(place, only))
        elif (place / "mount_union.py").is_file():
            found.append(Unionmount(place, only))
    return found


@contextmanager
def _mounted(side: str, work: Path) -> Iterator[Path]:
    """A directory that is merged from a lower and an upper one."""
    lower, upper, inner, top = (work / name for name in ("lower", "upper", "work", "mnt"))
    for path in (lower, lower / "place", upper, inner, top):
        path.mkdir(parents=True)
    options = f"lowerdir={lower},upperdir={upper},workdir={inner}"
    command = ["mount", "-t", "overlay", "overlay"] if side == KERNEL else ["pyoverlayfs"]
    subprocess.run([*command, "-o", options, top], check=True)
    try:
        yield top / "place"
    finally:
        subprocess.run(["umount", top], check=True)


@contextmanager
def _installed(folder: Path) -> Iterator[None]:
    """Let mount(8) find the mount program as if it were installed; it passes no PATH on."""
    program = shutil.which(OURS)
    assert program is not None
    folder.mkdir()
    (folder / OURS).symlink_to(program)
    where = "/usr/local/bin"
    options = f"lowerdir={folder}:{where}"
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, where], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", where], check=True)


@contextmanager
def _directories(variant: Variant, work: Path) -> Iterator[dict[str, str]]:
    """The suite's directories, in its words."""
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
    command: list[str], folder: Path, environment: dict[str, str] | None = None
) -> tuple[str, str]:
    """What *command* printed, and in words how it ended if not well."""
    given = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=given | {"PYTHONDONTWRITEBYTECODE": "1"} | (environment or {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            errors="replace",
            timeout=_PATIENCE,
            check=False,
            umask=0o022,
        )
    except subprocess.TimeoutExpired as exc:
        told = exc.stdout or b""
        return told.decode(errors="replace"), f"timed out after {_PATIENCE} s"
    return done.stdout, f"exit code {done.returncode}" if done.returncode else ""


def _last_words(output: str) -> str:
    lines = [line for line in output.splitlines() if line.strip()]
    return lines[-1] if lines else ""
