"""Copies under way while others go on: nobody waits for long, and nothing is lost."""

import errno
import os
import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.support.tree import assert_same, snapshot
from tests.support.union import Stack, is_whiteout, run, write

MIB = 1 << 20


def test_openers_at_once_copy_once(stack: Stack) -> None:
    """Four write at four places, all having opened at once; no copy hides what one wrote."""
    write(stack.lower / "large", b"o" * (40 * MIB))
    together = threading.Barrier(4)

    def change(number: int) -> None:
        together.wait()
        with (stack.mountpoint / "large").open("r+b", buffering=0) as file:
            file.seek(number * MIB)
            file.write(b"%d" % number)

    with stack.mounted() as mnt:
        with ThreadPoolExecutor(4) as threads:
            for done in [threads.submit(change, number) for number in range(4)]:
                done.result()
        with (mnt / "large").open("rb") as file:
            for number in range(4):
                file.seek(number * MIB)
                assert file.read(2) == b"%do" % number
        assert list((stack.work / "work").iterdir()) == []
    assert (stack.upper / "large").stat().st_size == 40 * MIB


def test_truncating_during_a_copy_wins(stack: Stack) -> None:
    write(stack.lower / "large", b"o" * (100 * MIB))
    with stack.mounted() as mnt:
        opener = threading.Thread(target=lambda: (mnt / "large").open("r+b").close())
        opener.start()
        (mnt / "large").write_bytes(b"short")
        opener.join()
        assert (mnt / "large").read_bytes() == b"short"
        assert list((stack.work / "work").iterdir()) == []
    assert (stack.upper / "large").read_bytes() == b"short"


def test_a_large_copy_keeps_nobody_waiting(stack: Stack) -> None:
    with (stack.lower / "large").open("wb") as file:
        for _ in range(300):
            file.write(os.urandom(MIB))
    for number in range(50):
        write(stack.lower / f"dir{number}/file")
    with stack.mounted() as mnt:
        copied = threading.Event()

        def copy() -> None:
            (mnt / "large").open("r+b").close()
            copied.set()

        copier = threading.Thread(target=copy)
        copier.start()
        answered = 0
        # Each of these asks the daemon: nothing is known of a missing name's directory.
        for number in range(50):
            (mnt / f"dir{number}/file").stat()
            answered += not copied.is_set()
        copier.join()
        assert answered > 0
        run("cmp", mnt / "large", stack.lower / "large")


def test_a_file_unlinked_during_its_copy(stack: Stack) -> None:
    write(stack.lower / "large", b"o" * (100 * MIB))
    with stack.mounted() as mnt:
        with (mnt / "large").open("rb") as reader:
            opened = []
            opener = threading.Thread(target=lambda: opened.append((mnt / "large").open("r+b")))
            opener.start()
            while opener.is_alive() and not list((stack.work / "work").iterdir()):
                pass  # the draft appears within milliseconds
            (mnt / "large").unlink()
            opener.join()
            with opened[0] as writer:
                writer.write(b"new")
                writer.flush()
                assert os.fstat(writer.fileno()).st_nlink == 0
                assert reader.read(4) == b"newo"
        assert not (mnt / "large").exists()
        assert list((stack.work / "work").iterdir()) == []
    assert is_whiteout(stack.upper / "large")


def test_names_come_and_go_while_files_are_copied(stack: Stack) -> None:
    """Large lower files are changed, moved, linked and removed by several at once."""
    for number in range(24):
        folder = stack.lower / f"d{number % 3}"
        write(folder / f"f{number // 3}", b"o" * (70_000 << number % 7))
    for number in range(4):
        (stack.lower / f"d1/l{number}").hardlink_to(stack.lower / f"d0/f{number}")

    def stir(seed: int) -> set[str]:
        chance = random.Random(seed)
        met = set()
        for _ in range(120):
            one, two = (
                stack.mountpoint
                / f"d{chance.randrange(3)}"
                / f"{chance.choice('ffl')}{chance.randrange(8)}"
                for _ in range(2)
            )
            try:
                chance.choice(STIRS)(one, two)
            except OSError as exc:
                met.add(errno.errorcode[exc.errno or 0])
        return met

    with stack.mounted() as mnt:
        with ThreadPoolExecutor(6) as threads:
            for met in threads.map(stir, range(6)):
                assert met <= {"ENOENT", "EEXIST"}
        live = snapshot(mnt)
        assert list((stack.work / "work").iterdir()) == []
    with stack.mounted() as mnt:
        assert_same(live, snapshot(mnt), but=frozenset({"nlink"}))


def overwrite(path: Path, _: Path) -> None:
    with path.open("r+b", buffering=0) as file:
        file.seek(60_000)
        file.write(b"new")


def unlink_open(path: Path, _: Path) -> None:
    with path.open("rb") as file:
        path.unlink()
        file.read()
        os.fchmod(file.fileno(), 0o600)


STIRS: list[Callable[[Path, Path], object]] = [
    overwrite,
    unlink_open,
    lambda one, two: one.rename(two),
    lambda one, two: two.hardlink_to(one),
    lambda one, _: one.unlink(),
    lambda one, _: one.chmod(0o640),
    lambda one, _: os.truncate(one, 100),
    lambda one, _: one.write_bytes(b"q" * 100_000),
    lambda one, _: one.read_bytes(),
    lambda one, _: os.setxattr(one, "user.k", b"v"),
]
