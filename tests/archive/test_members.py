"""The members of a tar are files, and no tar reaches out of itself."""

import gzip
import os
import struct
import subprocess
import tarfile
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from overlayfs.archive.files import DirectoryFiles, Files
from overlayfs.archive.members import TarFiles
from overlayfs.errors import InvalidImage
from tests.support.archives import (
    Link,
    Member,
    Members,
    Special,
    tar_bytes,
    write_directory,
    write_tar,
)

Open = Callable[[Members], Files]


def tar_files(path: Path) -> TarFiles:
    return TarFiles(os.open(path, os.O_RDONLY | os.O_CLOEXEC), "here")


@pytest.fixture(params=["tar", "directory"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    """Opens the same files as members of a tar and as files below a directory."""

    def open_(members: Members) -> Files:
        if request.param == "tar":
            return tar_files(write_tar(tmp_path / "x.tar", members))
        return DirectoryFiles(write_directory(tmp_path / "x", members), "here")

    return open_


@pytest.fixture
def only_tar(tmp_path: Path) -> Open:
    """Opens what a directory cannot hold."""
    return lambda members: tar_files(write_tar(tmp_path / "x.tar", members))


def test_files_are_read_in_place(opened: Open) -> None:
    big = bytes(range(256)) * 5000
    with opened([("a", b"first"), ("d/e/f", big), ("empty", b"")]) as files:
        assert files.read("a", 100) == b"first"
        assert files.read("./d//e/./f", 1 << 24) == big
        assert files.read("empty", 0) == b""
        assert files.size("d/e/f") == len(big)
        assert sorted(files.top()) == ["a", "d", "empty"]
        assert not files.has("d/e/nothing")
        assert not files.has("a/below-a-file")


def test_what_is_open_outlives_the_archive_and_stands_alone(opened: Open) -> None:
    data = bytes(range(256)) * 5000
    files = opened([("a", data), ("b", data[::-1])])
    one, two, other = files.open("a"), files.open("a"), files.open("b")
    files.close()
    with one, two, other:
        assert one.read(1000) == data[:1000]
        assert two.read(500) == data[:500]
        assert other.read() == data[::-1]
        assert one.read() == data[1000:]


def test_many_threads_read_at_once(opened: Open) -> None:
    contents = {f"f{at}": os.urandom(500_000) for at in range(8)}
    found: list[bool] = []
    with opened(list(contents.items())) as files:

        def read(name: str) -> None:
            with files.open(name) as file:
                whole = b"".join(iter(lambda: file.read(7001), b""))
            found.append(whole == contents[name])

        threads = [threading.Thread(target=read, args=(name,)) for name in contents for _ in "ab"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == [True] * 16


def open_descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_closed_files_leave_no_descriptor_behind(opened: Open) -> None:
    before = open_descriptors()
    with opened([("a", b"1")]) as files:
        files.read("a", 10)
        files.open("a").close()
    assert open_descriptors() == before


@pytest.mark.parametrize("limit", [0, 4, 9])
def test_reading_all_of_a_file_has_a_limit(opened: Open, limit: int) -> None:
    with (
        opened([("a", b"0123456789")]) as files,
        pytest.raises(InvalidImage, match=f"here: a: more than {limit} bytes"),
    ):
        files.read("a", limit)


@pytest.mark.parametrize(
    ("target", "at"),
    [
        pytest.param("../real/file", "links/link", id="as-docker-writes-them"),
        pytest.param("real/file", "link", id="at-the-root"),
        pytest.param("./x/.././../real//file", "links/link", id="roundabout"),
    ],
)
def test_symlinks_are_followed_inside(opened: Open, target: str, at: str) -> None:
    members: Members = [("real/file", b"data"), ("links/x/y", b""), (at, Link(target))]
    with opened(members) as files:
        assert files.read(at, 10) == b"data"
        assert files.size(at) == 4


def test_links_to_links_and_to_directories_are_followed(opened: Open) -> None:
    members: Members = [
        ("real/file", b"data"),
        ("one", Link("two")),
        ("two", Link("real")),
        ("hard", Link("real/file", hard=True)),
    ]
    with opened(members) as files:
        assert files.read("one/file", 10) == b"data"
        assert files.read("hard", 10) == b"data"


@pytest.mark.parametrize("path", ["../x", "a/../../x", "/etc/passwd", "..", "a/.."])
def test_a_path_that_leaves_is_refused(opened: Open, path: str) -> None:
    with (
        opened([("a/b", b"1")]) as files,
        pytest.raises(InvalidImage, match="leads out of the archive"),
    ):
        files.open(path)


@pytest.mark.parametrize("path", ["", ".", "./", "a\0b"])
def test_an_impossible_path_is_refused(opened: Open, path: str) -> None:
    with opened([("a", b"1")]) as files, pytest.raises(InvalidImage, match=r"empty path|NUL"):
        files.open(path)


@pytest.mark.parametrize("target", ["/etc/passwd", "../../../../../../../../etc/passwd", "/"])
def test_a_symlink_that_leaves_is_refused(opened: Open, target: str) -> None:
    with (
        opened([("d/link", Link(target))]) as files,
        pytest.raises(InvalidImage, match="leads out of the archive"),
    ):
        files.open("d/link/etc/passwd" if target == "/" else "d/link")


def test_a_symlink_to_a_sibling_of_the_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "image-secret").write_text("secret")
    root = write_directory(tmp_path / "image", [("link", Link("../image-secret"))])
    with pytest.raises(InvalidImage, match="leads out"):
        DirectoryFiles(root, "here").open("link")


@pytest.mark.parametrize(
    "members",
    [
        pytest.param([("a", Link("a"))], id="itself"),
        pytest.param([("a", Link("b")), ("b", Link("a"))], id="two"),
        pytest.param([("a", Link("a/a"))], id="longer-and-longer"),
    ],
)
def test_symlink_loops_are_refused(opened: Open, members: Members) -> None:
    with (
        opened(members) as files,
        pytest.raises(InvalidImage, match=r"too many links|Too many levels"),
    ):
        files.open("a")


@pytest.mark.parametrize("path", ["n" * 5000, "a/" * 1500 + "b", "/".join(["."] * 1500)])
def test_a_path_that_is_too_long_is_refused(opened: Open, path: str) -> None:
    with opened([("a", b"")]) as files, pytest.raises(InvalidImage, match="too long") as caught:
        files.open(path)
    assert len(caught.value.message) < 200


def test_links_that_make_a_path_longer_and_longer_are_refused(only_tar: Open) -> None:
    members: Members = [("a", Link("a/" + "b/" * 500))]
    with only_tar(members) as files, pytest.raises(InvalidImage, match=r"too (long|many links)"):
        files.open("a")


def test_the_same_file_is_not_read_for_ever(opened: Open) -> None:
    with opened([("a", bytes(8 << 20))]) as files:
        for _ in range(32):
            files.read("a", 8 << 20)
        with pytest.raises(InvalidImage, match="do not end"):
            files.read("a", 8 << 20)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        pytest.param("link", "too many links", id="itself"),
        pytest.param("../x", "leads out", id="outside"),
        pytest.param("/etc/passwd", "missing", id="absolute-is-of-the-archive"),
        pytest.param("nothing", "missing", id="nowhere"),
    ],
)
def test_hard_links_stay_inside(only_tar: Open, target: str, message: str) -> None:
    with (
        only_tar([("link", Link(target, hard=True))]) as files,
        pytest.raises(InvalidImage, match=message),
    ):
        files.open("link")


@pytest.mark.parametrize(
    ("member", "message"),
    [
        pytest.param(None, "a directory, not", id="directory"),
        pytest.param(Special(tarfile.FIFOTYPE), "a special file, not", id="fifo"),
        pytest.param(Special(tarfile.CHRTYPE), "a special file, not", id="device"),
        pytest.param(Special(b"Z"), "a special file, not", id="unknown"),
    ],
)
def test_only_regular_files_are_read(only_tar: Open, member: Member, message: str) -> None:
    with only_tar([("a", member)]) as files, pytest.raises(InvalidImage, match=message):
        files.open("a")


def test_a_fifo_in_a_directory_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a")
    (tmp_path / "d").mkdir()
    files = DirectoryFiles(tmp_path, "here")
    for name in ("a", "d"):
        with pytest.raises(InvalidImage, match="not a regular file"):
            files.open(name)
        with pytest.raises(InvalidImage, match="not a regular file"):
            files.size(name)


def test_of_two_members_with_one_name_the_last_counts(only_tar: Open) -> None:
    with only_tar([("a", b"first"), ("./a", b"second"), ("b", b""), ("b", Link("a"))]) as files:
        assert files.read("a", 10) == b"second"
        assert files.read("b", 10) == b"second"


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_and_strange_names_are_found(tmp_path: Path, form: int) -> None:
    names = ["n" * 300, "d/" * 150 + "deep", "é日本", "a b\tc\nd"]
    path = tmp_path / "x.tar"
    path.write_bytes(tar_bytes([(name, name.encode()) for name in names], form))
    with tar_files(path) as files:
        assert [files.read(name, 1000) for name in names] == [name.encode() for name in names]


def test_what_gnu_tar_writes_is_read(tmp_path: Path) -> None:
    root = write_directory(tmp_path / "d", [("x/one", b"1"), ("x/" + "n" * 200, b"2")])
    (root / "x/hard").hardlink_to(root / "x/one")
    subprocess.run(["tar", "-C", root, "-cf", tmp_path / "x.tar", "."], check=True)
    with tar_files(tmp_path / "x.tar") as files:
        assert files.read("x/one", 10) == files.read("x/hard", 10) == b"1"
        assert files.read("x/" + "n" * 200, 10) == b"2"


def test_sparse_members_are_refused(tmp_path: Path) -> None:
    with (tmp_path / "a").open("wb") as file:
        file.truncate(10 << 20)
        file.write(b"x")
    for form in ("gnu", "pax"):
        target = tmp_path / f"{form}.tar"
        options = ["--sparse", f"--format={form}", "-C", tmp_path, "-cf", target, "a"]
        subprocess.run(["tar", *options], check=True)
        with tar_files(target) as files, pytest.raises(InvalidImage, match="sparse"):
            files.open("a")


def header(**fields: bytes) -> bytes:
    """A member's header by hand: the fields that matter, and a right checksum."""
    places = {"name": (0, 100), "size": (124, 12), "type": (156, 1), "link": (157, 100)}
    block = bytearray(512)
    block[257:265] = b"ustar\x0000"
    block[100:108] = b"0000644\0"
    for name, value in {"name": b"a", "size": b"0", "type": b"0", **fields}.items():
        start, length = places[name]
        block[start : start + length] = value.ljust(length, b"\0")
    block[148:156] = b"%06o\0 " % (sum(block) + 8 * 32)
    return bytes(block)


def base256(number: int) -> bytes:
    return (
        bytes([0x80]) + number.to_bytes(11, "big")
        if number >= 0
        else struct.pack(">Bxxxq", 0xFF, number).replace(b"\0\0\0", b"\xff\xff\xff", 1)
    )


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"x", id="one-byte"),
        pytest.param(b"no tar at all\n" * 1000, id="text"),
        pytest.param(os.urandom(5000), id="noise"),
        pytest.param(header(size=b"77777777777") + bytes(512), id="larger-than-the-file"),
        pytest.param(header(size=base256(1 << 62)), id="absurd-size"),
        pytest.param(header(size=base256((1 << 88) - 1)), id="size-of-88-bits"),
        pytest.param(header(size=base256(-512)) * 3, id="negative-size"),
        pytest.param(header(size=base256(-1024), type=b"1") * 3, id="negative-size-of-a-link"),
        pytest.param(header(size=b"-1"), id="minus"),
        pytest.param(header(size=b"9z"), id="no-number"),
        pytest.param(header() + header(size=base256(-1024)) + header(), id="back-to-the-start"),
        pytest.param(header(size=b"100000000", type=b"x") + bytes(1 << 20), id="pax-of-16-mib"),
        pytest.param(header(size=b"100000000", type=b"L") + bytes(1 << 20), id="name-of-16-mib"),
        pytest.param(header(size=base256(-1), type=b"x") * 2, id="negative-pax"),
        pytest.param(header(size=base256(-1), type=b"L") * 2, id="negative-name"),
        pytest.param((header(size=b"1", type=b"L") + bytes(512)) * 5000, id="chain-of-names"),
        pytest.param((header(size=b"1", type=b"x") + bytes(512)) * 5000, id="chain-of-pax"),
        pytest.param(header(size=b"1000", type=b"x"), id="pax-truncated"),
        pytest.param(header() + os.urandom(512), id="damaged-second-header"),
        pytest.param(header() + header()[:300], id="truncated-second-header"),
        pytest.param(header() * 100_002, id="too-many-members"),
        pytest.param(
            header(size=b"30", type=b"x")
            + b"30 GNU.sparse.size=99999999999".ljust(512, b"\0")
            + header(),
            id="sparse-size-only",
        ),
        pytest.param(
            header(size=b"21", type=b"x") + b"21 size=-99999999999\n".ljust(512, b"\0") + header(),
            id="negative-size-in-pax",
        ),
        pytest.param(
            header(size=b"24", type=b"x")
            + b"24 GNU.sparse.map=0,9,x\n".ljust(512, b"\0")
            + header(),
            id="sparse-map-of-letters",
        ),
    ],
)
def test_what_is_no_sound_tar_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "x.tar"
    path.write_bytes(data)
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with pytest.raises(InvalidImage, match=r"^here: ") as caught:
            TarFiles(fd, "here").open("a")
        assert caught.value.message.isprintable()
    finally:
        os.close(fd)


def test_a_sparse_map_as_long_as_the_file_is_not_read_to_its_end(tmp_path: Path) -> None:
    """Format 1.0 keeps the map in the data: here it would go on for 64 MiB."""
    pax = b"22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n26 GNU.sparse.realsize=9\n"
    pax += b"21 GNU.sparse.name=a\n"
    path = tmp_path / "x.tar"
    entries = b"99999999\n" + b"0\n" * (32 << 20)
    path.write_bytes(
        header(size=b"%o" % len(pax), type=b"x")
        + pax.ljust(512, b"\0")
        + header(size=b"%o" % len(entries))
        + entries
    )
    with pytest.raises(InvalidImage, match=r"absurdly long|damaged"):
        tar_files(path)


def test_names_in_messages_are_made_printable(only_tar: Open) -> None:
    with only_tar([("a", b"1")]) as files, pytest.raises(InvalidImage) as caught:
        files.open("\x1b[2Jx")
    assert caught.value.message == r"here: \x1b[2Jx: missing from the archive"


def test_a_file_that_shrinks_is_an_error(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar", [("a", bytes(100_000))])
    with tar_files(path) as files, files.open("a") as file:
        os.truncate(path, 1000)
        with pytest.raises(InvalidImage, match="bytes are missing at the end"):
            file.read()


def test_an_archive_in_gzip_is_no_tar_here(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    path.write_bytes(gzip.compress(tar_bytes([("a", b"1")])))
    with pytest.raises(InvalidImage, match="not a tar"):
        tar_files(path)
