"""Many files, many changes, several processes."""

import random
import subprocess
import sys
from functools import partial

from tests.support.callers import outcome
from tests.support.tree import assert_same, names, snapshot
from tests.support.union import Stack, is_whiteout, run, write


def test_rm_removes_thousands_of_files(stack: Stack) -> None:
    for number in range(1500):
        write(stack.lower / f"dir/lower{number}")
    with stack.mounted() as mnt:
        for number in range(1500):
            (mnt / f"dir/upper{number}").touch()
        run("rm", "-rf", mnt / "dir")
        assert names(mnt) == []
    assert is_whiteout(stack.upper / "dir")
    assert list((stack.work / "work").iterdir()) == []


WORKER = """
import os, random, sys
from pathlib import Path

top, seed = Path(sys.argv[1]), int(sys.argv[2])
chance = random.Random(seed)
mine = {}  # what this process knows: its own names, with their contents
for step in range(250):
    folder = f"shared{chance.randrange(3)}"
    name = f"{folder}/{seed}-{chance.randrange(12)}"
    path = top / name
    match chance.randrange(7):
        case 0 | 1:
            path.write_text(f"{seed} {step}")
            mine[name] = f"{seed} {step}"
        case 2 if name in mine:
            path.unlink()
            del mine[name]
        case 3 if name in mine:
            other = f"shared{chance.randrange(3)}/{seed}-{chance.randrange(12)}"
            path.rename(top / other)
            mine[other] = mine.pop(name)
        case 4 if name in mine:
            with path.open("a") as file:
                file.write(" more")
            mine[name] += " more"
        case 5:
            # A file of the lower layer that all processes write to, a byte of its own each.
            with (top / "lower/common").open("r+b", buffering=0) as file:
                file.seek(seed)
                file.write(bytes([65 + seed]))
        case 6:
            assert set(mine) >= {
                f"{each}/{entry}"
                for each in ("shared0", "shared1", "shared2")
                for entry in os.listdir(top / each)
                if entry.startswith(f"{seed}-") and not entry.endswith("lower")
            }
for name, text in mine.items():
    assert (top / name).read_text() == text, name
    print(name, text, sep="=")
"""


def test_several_processes_at_work_in_the_same_directories(stack: Stack) -> None:
    workers = 4
    (stack.lower / "lower").mkdir()
    write(stack.lower / "lower/common", "." * 100_000)
    for number in range(3):
        for seed in range(workers):
            write(stack.lower / f"shared{number}/{seed}-lower", "lower")
    with stack.mounted() as mnt:
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", WORKER, mnt, str(seed)],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for seed in range(workers)
        ]
        said = [process.communicate()[0] for process in processes]
        assert [process.returncode for process in processes] == [0] * workers, said
        expected = dict(line.split("=") for words in said for line in words.splitlines())
        for number in range(3):
            for seed in range(workers):
                expected[f"shared{number}/{seed}-lower"] = "lower"

        def shown() -> dict[str, str]:
            return {str(path.relative_to(mnt)): path.read_text() for path in mnt.glob("shared*/*")}

        assert shown() == expected
        assert (mnt / "lower/common").read_bytes()[:5] in {b"ABCD.", b"ABCD"}
        before = snapshot(mnt)
    with stack.mounted() as mnt:
        assert shown() == expected
        assert_same(before, snapshot(mnt))


def test_random_names_leave_no_descriptor_and_no_draft(stack: Stack) -> None:
    chance = random.Random(7)
    for number in range(20):
        write(stack.lower / f"d{number % 4}/f{number}")
    daemon = stack.start()
    try:
        mnt = stack.mountpoint

        def stir(rounds: int) -> None:
            for _ in range(rounds):
                one, two = (
                    mnt / f"d{chance.randrange(4)}/f{chance.randrange(20)}" for _ in range(2)
                )
                outcome(chance.choice([one.touch, one.unlink, partial(one.rename, two)]))

        stir(200)
        before = daemon.descriptors()
        stir(600)
        assert daemon.descriptors() <= before
        assert list((stack.work / "work").iterdir()) == []
        daemon.unmount()
    finally:
        if daemon.process.poll() is None:
            daemon.abandon()
