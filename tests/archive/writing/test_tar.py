"""The tar writer: what it writes is read as it was meant, by others and by this project."""

import io
import os
import subprocess
import tarfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from overlayfs.archive.writing.tar import TarEntry, TarWriter
from overlayfs.errors import OverlayError
from overlayfs.layers.writer import unpack
from overlayfs.union.attrs import Kind
from overlayfs.union.names import Format
from tests.support.layers import WHITEOUT, Shown, shown
from tests.support.tree import snapshot

WHEN = 1_600_000_000_123_456_789
ACL = bytes.fromhex("0200000001000700ffffffff04000500ffffffff20000500ffffffff")
ENTRIES = (
    TarEntry(b"", Kind.DIRECTORY, 0o751, mtime_ns=WHEN),
    TarEntry(b"a" * 99, Kind.DIRECTORY, 0o2755, 3, 4, mtime_ns=5_000_000_000),
    TarEntry(b"a" * 99 + b"/" + b"b" * 255, Kind.FILE, 0o4711, size=5, mtime_ns=0),
    TarEntry(b"big", Kind.FILE, 0o600, 12_345_678, 4_294_967_294, WHEN, size=700_000),
    TarEntry(b"broken-\xff", Kind.FILE, 0o644, size=4),
    TarEntry(b"disk", Kind.BLOCK, 0o660, 0, 6, rdev=os.makedev(4095, 1_048_575)),
    TarEntry(b"early", Kind.FILE, 0o644, mtime_ns=-315_619_199_500_000_000),
    TarEntry(b"fifo", Kind.FIFO, 0o620),
    TarEntry(b"late", Kind.SYMLINK, 0o777, target=b"x" * 4095, mtime_ns=10_413_792_000 * 10**9),
    TarEntry(b"link", Kind.SYMLINK, 0o777, target=b"nowhere-\xc3\xa9-\xff", mtime_ns=1),
    TarEntry(b"null", Kind.CHAR, 0o666, rdev=os.makedev(1, 3)),
    TarEntry(
        b"tagged", Kind.FILE, 0o644, size=1,
        xattrs={
            b"user.note": b"\0\n=\xff", b"user.empty": b"", b"user.a=b": b"equals",
            b"security.capability": bytes.fromhex("0100000200040000000000000000000000000000"),
        },
    ),
    TarEntry(b"\xc3\xa9", Kind.FILE, 0o644, linked=b"tagged"),
)  # fmt: skip


def body(entry: TarEntry) -> io.BytesIO | None:
    """Bytes of the right length."""
    data = (entry.path * (entry.size // len(entry.path) + 1))[: entry.size] if entry.path else b""
    return io.BytesIO(data) if entry.kind is Kind.FILE and entry.linked is None else None


def written(entries: Sequence[TarEntry]) -> bytes:
    """The tar of *entries*."""
    out = io.BytesIO()
    writer = TarWriter(out)
    for entry in entries:
        writer.add(entry, body(entry))
    writer.end()
    return out.getvalue()


def expected(entries: Sequence[TarEntry]) -> dict[bytes, Shown]:
    """What a layer directory shows of *entries*."""
    by_path = {entry.path: entry for entry in entries}
    others = {entry.linked for entry in entries if entry.linked is not None}
    found = {}
    for path, name in by_path.items():
        entry = name if name.linked is None else by_path[name.linked]
        data = body(entry)
        is_device = entry.kind in (Kind.CHAR, Kind.BLOCK)
        found[path] = Shown(
            entry.kind,
            entry.mode,
            entry.uid,
            entry.gid,
            entry.mtime_ns,
            2 if name.linked is not None or path in others else 1,
            (os.major(entry.rdev), os.minor(entry.rdev)) if is_device else (0, 0),
            data.getvalue() if data else entry.target,
            entry.xattrs,
        )
    return found


@pytest.mark.usefixtures("needs_root")
def test_every_kind_of_entry_comes_back_exactly(tmp_path: Path) -> None:
    unpack(io.BytesIO(written(ENTRIES)), tmp_path / "root", Format.KERNEL)
    found = shown(tmp_path / "root", Format.KERNEL)
    wanted = expected(ENTRIES)
    assert found.keys() == wanted.keys()
    for path, entry in wanted.items():
        if entry.kind is Kind.DIRECTORY:  # how many links one has is the file system's affair
            found[path] = Shown(**{**fields(found[path]), "nlink": entry.nlink})
        assert found[path] == entry, path


def fields(one: Shown) -> dict[str, object]:
    return {name: getattr(one, name) for name in Shown.__slots__}


@pytest.mark.usefixtures("needs_root")
def test_gnu_tar_reads_the_same(tmp_path: Path) -> None:
    known = [entry for entry in ENTRIES if entry.path != b"tagged" and entry.linked is None]
    tagged = TarEntry(b"tagged", Kind.FILE, 0o644, xattrs={b"user.note": b"\0\n=\xff"})
    (tmp_path / "gnu").mkdir()
    subprocess.run(
        ["tar", "--numeric-owner", "--xattrs", "--xattrs-include=*", "-xpf", "-"],
        cwd=tmp_path / "gnu", input=written([*known, tagged]), check=True, capture_output=True,
    )  # fmt: skip
    unpack(io.BytesIO(written([*known, tagged])), tmp_path / "ours", Format.KERNEL)
    assert snapshot(tmp_path / "gnu") == snapshot(tmp_path / "ours")


def test_python_reads_the_same() -> None:
    with tarfile.open(fileobj=io.BytesIO(written(ENTRIES)), errors="surrogateescape") as archive:
        members = {os.fsencode(member.name): member for member in archive}
        big = archive.extractfile("big")
        assert big is not None
        assert big.read() == b"big" * 233_333 + b"b"
    assert set(members) == {entry.path or b"." for entry in ENTRIES}
    for entry in ENTRIES:
        member = members[entry.path or b"."]
        assert (member.mode, member.uid, member.gid) == (entry.mode, entry.uid, entry.gid)
        assert os.fsencode(member.linkname) == (entry.linked or entry.target)
    assert members["é".encode()].islnk()


def test_equal_entries_make_equal_bytes_whatever_the_order_of_their_attributes() -> None:
    one, other = ({b"user.b": b"2", b"user.a": b"1"}, {b"user.a": b"1", b"user.b": b"2"})
    tars = {written([TarEntry(b"x", Kind.FILE, 0o644, xattrs=each)]) for each in (one, other)}
    assert len(tars) == 1


def test_a_plain_entry_takes_one_block_and_the_end_two() -> None:
    assert len(written([TarEntry(b"x", Kind.DIRECTORY, 0o755)])) == 3 * 512
    assert len(written([])) == 2 * 512


@pytest.mark.usefixtures("needs_root")
def test_whiteouts_and_opaque_directories(tmp_path: Path) -> None:
    out = io.BytesIO()
    writer = TarWriter(out)
    writer.add(TarEntry(b"d", Kind.DIRECTORY, 0o755))
    writer.opaque(b"d")
    writer.whiteout(b"e/gone")
    writer.whiteout(b"gone")
    writer.end()
    unpack(io.BytesIO(out.getvalue()), tmp_path / "root", Format.KERNEL)
    found = shown(tmp_path / "root", Format.KERNEL)
    assert found[b"d"].opaque
    assert found[b"gone"] == found[b"e/gone"] == WHITEOUT
    with tarfile.open(fileobj=io.BytesIO(out.getvalue())) as archive:
        assert archive.getnames() == ["d", "d/.wh..wh..opq", "e/.wh.gone", ".wh.gone"]


@pytest.mark.usefixtures("needs_root")
def test_an_opaque_root(tmp_path: Path) -> None:
    out = io.BytesIO()
    writer = TarWriter(out)
    writer.opaque(b"")
    writer.end()
    unpack(io.BytesIO(out.getvalue()), tmp_path / "root", Format.KERNEL)
    assert shown(tmp_path / "root", Format.KERNEL)[b""].opaque


def test_sizes_of_many_gigabytes() -> None:
    sizes = (0o77777777777, 0o100000000000)
    for size in sizes:
        out = io.BytesIO()
        writer = TarWriter(out)
        with pytest.raises(OverlayError, match="shorter"):
            writer.add(TarEntry(b"x", Kind.FILE, 0o644, size=size))
        writer.end()
        with tarfile.open(fileobj=io.BytesIO(out.getvalue())) as archive:
            member = archive.next()
            assert member is not None
            assert member.size == size


@pytest.mark.parametrize(
    ("entry", "data", "message"),
    [
        (TarEntry(b"s", Kind.SOCKET, 0o600), b"", "a socket, which no tar can hold"),
        (TarEntry(b"f\n", Kind.FILE, 0o600, size=3), b"12", r"f\\x0a: 1 bytes shorter than it was"),
        (TarEntry(b"f", Kind.FILE, 0o600, size=3), b"1234", "f: longer than it was"),
    ],
)
def test_what_no_tar_can_hold(entry: TarEntry, data: bytes, message: str) -> None:
    with pytest.raises(OverlayError, match=message):
        TarWriter(io.BytesIO()).add(entry, io.BytesIO(data))
