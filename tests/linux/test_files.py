"""Copying bytes and renaming with flags."""

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from overlayfs.linux import files
from tests.support.union import REPOSITORY, is_whiteout, run

MIB = 1 << 20


@pytest.fixture(params=["same-file-system", "another-file-system"])
def target_folder(
    request: pytest.FixtureRequest, tmp_path: Path, needs_root: None
) -> Iterator[Path]:
    """Where copies go: copy_file_range(2) works in one of the two only."""
    folder = tmp_path / "target"
    folder.mkdir()
    if request.param == "same-file-system":
        yield folder
        return
    run("mount", "-t", "tmpfs", "none", folder)
    yield folder
    run("umount", folder)


@contextmanager
def copied(source: Path, target: Path, size: int) -> Iterator[Path]:
    """*target*, a copy of the first *size* bytes of *source*."""
    with source.open("rb") as reading, target.open("xb") as writing:
        files.copy_data(reading.fileno(), writing.fileno(), size)
    yield target


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 4097, 3 * MIB + 1])
def test_a_copy_is_equal(tmp_path: Path, target_folder: Path, size: int) -> None:
    source = tmp_path / "source"
    source.write_bytes(os.urandom(size))
    with copied(source, target_folder / "copy", size) as copy:
        assert copy.read_bytes() == source.read_bytes()


@pytest.mark.parametrize("size", [0, 1, 4096, 5000, MIB])
def test_a_copy_is_cut_to_the_size(tmp_path: Path, target_folder: Path, size: int) -> None:
    source = tmp_path / "source"
    source.write_bytes(os.urandom(2 * MIB))
    with copied(source, target_folder / "copy", size) as copy:
        assert copy.read_bytes() == source.read_bytes()[:size]


def sparse(path: Path, size: int, *places: int) -> Path:
    """A file of *size* bytes that is a hole but for a few bytes at *places*."""
    with path.open("xb") as file:
        file.truncate(size)
        for place in places:
            file.seek(place)
            file.write(b"data")
    return path


@pytest.mark.parametrize(
    "places",
    [
        pytest.param((), id="nothing-but-a-hole"),
        pytest.param((0,), id="data-first"),
        pytest.param((100 * MIB - 4,), id="data-last"),
        pytest.param((0, 7 * MIB, 50 * MIB + 1), id="data-in-between"),
    ],
)
def test_holes_stay_holes(tmp_path: Path, target_folder: Path, places: tuple[int, ...]) -> None:
    source = sparse(tmp_path / "source", 100 * MIB, *places)
    with copied(source, target_folder / "copy", 100 * MIB) as copy:
        assert copy.stat().st_size == 100 * MIB
        assert copy.stat().st_blocks * 512 <= 16384 * len(places)
        with copy.open("rb") as file:
            for place in places:
                file.seek(place)
                assert file.read(4) == b"data"
        done = subprocess.run(["cmp", source, copy], check=False)
        assert done.returncode == 0


def test_a_copy_of_more_than_there_is_ends_with_zeros(tmp_path: Path, target_folder: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"12345")
    with copied(source, target_folder / "copy", 10) as copy:
        assert copy.read_bytes() == b"12345" + bytes(5)


def test_a_full_disk_is_an_error(tmp_path: Path, needs_root: None) -> None:
    source = tmp_path / "source"
    source.write_bytes(os.urandom(3 * MIB))
    small = tmp_path / "small"
    small.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=1m", "none", small)
    try:
        with (
            pytest.raises(OSError, match=r".+") as caught,
            copied(source, small / "copy", 3 * MIB),
        ):
            pass
        assert caught.value.errno == errno.ENOSPC
    finally:
        run("umount", small)


LIMITED_WRITES = """
import errno, os, resource, signal, sys
from overlayfs.linux.files import write_at

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000))
fd = os.open(sys.argv[1], os.O_CREAT | os.O_RDWR)
print(write_at(fd, bytes(9000), 0), os.fstat(fd).st_size)
try:
    write_at(fd, bytes(3000), 6000)
except OSError as exc:
    print(errno.errorcode[exc.errno])
"""


def test_a_write_that_stops_midway_says_how_far_it_came(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIMITED_WRITES, tmp_path / "file"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["6000", "6000", "EFBIG"]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[int]:
    """A directory with the files one and two."""
    (tmp_path / "one").write_text("1")
    (tmp_path / "two").write_text("2")
    fd = os.open(tmp_path, os.O_RDONLY)
    yield fd
    os.close(fd)


def test_rename_replaces(folder: int, tmp_path: Path) -> None:
    files.renameat2(folder, b"one", folder, b"two")
    assert (tmp_path / "two").read_text() == "1"
    assert not (tmp_path / "one").exists()


def test_rename_without_replacing(folder: int) -> None:
    with pytest.raises(FileExistsError):
        files.renameat2(folder, b"one", folder, b"two", files.RENAME_NOREPLACE)


def test_exchange(folder: int, tmp_path: Path) -> None:
    files.renameat2(folder, b"one", folder, b"two", files.RENAME_EXCHANGE)
    assert ((tmp_path / "one").read_text(), (tmp_path / "two").read_text()) == ("2", "1")


def test_rename_leaves_a_whiteout(folder: int, tmp_path: Path, needs_root: None) -> None:
    files.renameat2(folder, b"one", folder, b"two", files.RENAME_WHITEOUT)
    assert is_whiteout(tmp_path / "one")


def test_names_need_not_be_text(folder: int, tmp_path: Path) -> None:
    files.renameat2(folder, b"one", folder, b"\xff\n")
    assert sorted(os.listdir(os.fsencode(tmp_path))) == [b"two", b"\xff\n"]  # noqa: PTH208


def test_syncfs_refuses_what_is_no_descriptor(folder: int) -> None:
    files.syncfs(folder)
    with pytest.raises(OSError, match=r".+") as caught:
        files.syncfs(1 << 20)
    assert caught.value.errno == errno.EBADF
