"""What every kind of entry becomes, in both formats."""

import io
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from overlayfs.layers.inodes import IMPLIED
from overlayfs.layers.member import nanoseconds
from overlayfs.layers.writer import unpack
from overlayfs.union.attrs import Kind
from overlayfs.union.names import OVERRIDE_STAT, Format
from tests.layers.conftest import Unpack
from tests.support.layers import (
    TIME,
    Item,
    as_user,
    device,
    file,
    folder,
    kinds,
    link,
    shown,
    symlink,
    tar,
)

NS = 1_000_000_000
CAPABILITY = b"\x01\x00\x00\x02\x00\x04\x00\x00" + b"\x00" * 12
ACL = bytes.fromhex("0200000001000600ffffffff02000400e803000004000400ffffffff")
ACL += bytes.fromhex("10000600ffffffff20000400ffffffff")


def pax(name: bytes, value: bytes) -> dict[str, str]:
    """An extended attribute as pax has it."""
    return {f"SCHILY.xattr.{name.decode()}": value.decode("utf-8", "surrogateescape")}


def test_every_kind_of_file_keeps_its_attributes(unpacked: Unpack, root: Path, fmt: Format) -> None:
    found = unpacked(
        tar(
            folder("./", 0o1777, uid=1, gid=2),
            folder("d", 0o2750, uid=3, gid=4),
            file("d/suid", b"x" * 5000, mode=0o6755, uid=5, gid=6),
            file("d/own", b"mine", mode=0o600),
            file("d/none", b"", mode=0),
            symlink("link", "../a/b"),
            symlink("theirs", "t", uid=7, gid=8),
            device("fifo", tarfile.FIFOTYPE, 0, 0, mode=0o640, uid=9),
            device("char", tarfile.CHRTYPE, 1, 3, mode=0o666),
            device("block", tarfile.BLKTYPE, 8, 257, gid=6),
        )
    )
    tree = shown(root, fmt)
    assert {
        path: (one.kind, one.mode, one.uid, one.gid, one.body, one.rdev)
        for path, one in tree.items()
    } == {
        b"": (Kind.DIRECTORY, 0o1777, 1, 2, b"", (0, 0)),
        b"d": (Kind.DIRECTORY, 0o2750, 3, 4, b"", (0, 0)),
        b"d/suid": (Kind.FILE, 0o6755, 5, 6, b"x" * 5000, (0, 0)),
        b"d/own": (Kind.FILE, 0o600, 0, 0, b"mine", (0, 0)),
        b"d/none": (Kind.FILE, 0, 0, 0, b"", (0, 0)),
        b"link": (Kind.SYMLINK, 0o777, 0, 0, b"../a/b", (0, 0)),
        b"theirs": (Kind.SYMLINK, 0o777, 7, 8, b"t", (0, 0)),
        b"fifo": (Kind.FIFO, 0o640, 9, 0, b"", (0, 0)),
        b"char": (Kind.CHAR, 0o666, 0, 0, b"", (1, 3)),
        b"block": (Kind.BLOCK, 0o644, 0, 6, b"", (8, 257)),
    }
    assert {one.mtime_ns for one in tree.values()} == {TIME * NS}
    assert (found.entries, found.size, found.implied) == (10, 5004, ())


def test_user_format_needs_no_privilege_and_keeps_all(tmp_path: Path, needs_root: None) -> None:
    data = tar(
        folder("./", 0o711, uid=1),
        file("suid", b"x", mode=0o4755, uid=5, gid=6, pax=pax(b"security.capability", CAPABILITY)),
        symlink("theirs", "t", uid=7),
        device("null", tarfile.CHRTYPE, 1, 3),
        file(".wh.gone"),
        file("deep/er/.wh..wh..opq"),
        link("again", "suid"),
        link("nil", "null"),
    )
    as_user(lambda: unpack(io.BytesIO(data), Path("root"), Format.USER) and None, tmp_path)
    root = tmp_path / "root"
    tree = shown(root, Format.USER)
    assert (tree[b""].mode, tree[b""].uid) == (0o711, 1)
    assert (tree[b"suid"].mode, tree[b"suid"].uid, tree[b"suid"].gid) == (0o4755, 5, 6)
    assert tree[b"suid"].xattrs == {b"security.capability": CAPABILITY}
    assert tree[b"again"] == tree[b"suid"]
    assert tree[b"suid"].nlink == 2
    assert (tree[b"theirs"].body, tree[b"theirs"].uid) == (b"t", 7)
    assert (tree[b"nil"].kind, tree[b"nil"].rdev, tree[b"nil"].nlink) == (Kind.CHAR, (1, 3), 2)
    assert tree[b"gone"].kind is None
    assert tree[b"deep/er"].opaque
    on_disk = {path.name: path.lstat().st_mode & 0o7777 for path in root.rglob("*")}
    del on_disk["gone"]
    assert {name: mode for name, mode in on_disk.items() if mode not in (0o600, 0o700)} == {}


@pytest.mark.parametrize(
    ("mtime", "expected"),
    [
        pytest.param("1600000000.123456789", 1600000000_123456789, id="nanoseconds"),
        pytest.param("1.9999999999", 1_999999999, id="rounded-down"),
        pytest.param("-1.5", -1_500000000, id="before-1970"),
        pytest.param("-0.0000000001", -1, id="just-before-1970"),
        pytest.param("-2", -2 * NS, id="negative-whole"),
        pytest.param("9007199254740.993", 9007199254740_993000000, id="no-float"),
    ],
)
def test_times_are_exact(mtime: str, expected: int) -> None:
    assert nanoseconds(mtime) == expected


@pytest.mark.parametrize("mtime", ["1600000000.123456789", "-1.5", "-3000.000000001"])
def test_times_reach_the_disk(mtime: str, unpacked: Unpack, root: Path, fmt: Format) -> None:
    items = [
        file("file", pax={"mtime": mtime}),
        folder("dir", pax={"mtime": mtime}),
        symlink("link", "x", pax={"mtime": mtime}),
        device("fifo", tarfile.FIFOTYPE, 0, 0, pax={"mtime": mtime}),
    ]
    unpacked(tar(*items, file("dir/later")))
    tree = shown(root, fmt)
    assert {tree[name].mtime_ns for name in (b"file", b"dir", b"link", b"fifo")} == {
        nanoseconds(mtime)
    }


def test_negative_times_in_base_256_are_kept(unpacked: Unpack, root: Path, fmt: Format) -> None:
    unpacked(tar(file("f", mtime=-86400), form=tarfile.GNU_FORMAT))
    assert shown(root, fmt)[b"f"].mtime_ns == -86400 * NS


def test_access_time_is_kept(unpacked: Unpack, root: Path) -> None:
    unpacked(tar(file("f", pax={"atime": "1234567890.5"}), file("g")))
    assert (root / "f").stat().st_atime_ns == 1234567890_500000000
    assert (root / "g").stat().st_atime_ns == TIME * NS


def test_extended_attributes_survive(unpacked: Unpack, root: Path, fmt: Format) -> None:
    everything = {
        **pax(b"user.binary", bytes(range(256))),
        **pax(b"user.empty", b""),
        **pax(b"security.capability", CAPABILITY),
        **pax(b"system.posix_acl_access", ACL),
        "LIBARCHIVE.xattr.user.b%20c": "aGk",
    }
    unpacked(
        tar(
            file("f", b"x", mode=0o664, uid=1000, pax=everything),
            folder("d", 0o755, pax=pax(b"system.posix_acl_default", ACL)),
            file("d/inside", mode=0o604),
        )
    )
    tree = shown(root, fmt)
    assert tree[b"f"].xattrs == {
        b"user.binary": bytes(range(256)),
        b"user.empty": b"",
        b"security.capability": CAPABILITY,
        b"system.posix_acl_access": ACL,
        b"user.b c": b"hi",
    }
    assert tree[b"f"].mode == 0o664
    assert tree[b"d"].xattrs == {b"system.posix_acl_default": ACL}
    # The default list of the directory is none of the tar's business.
    assert (tree[b"d/inside"].mode, tree[b"d/inside"].xattrs) == (0o604, {})


@pytest.mark.parametrize("name", [b"trusted.overlay.opaque", b"user.overlay.opaque"])
def test_guests_cannot_forge_a_marker(
    name: bytes, unpacked: Unpack, root: Path, fmt: Format
) -> None:
    unpacked(tar(folder("d", pax=pax(name, b"y")), file("d/f")))
    one = shown(root, fmt)[b"d"]
    assert not one.opaque
    assert one.xattrs == {name: b"y"}


def test_guests_cannot_forge_an_owner(tmp_path: Path) -> None:
    data = tar(file("f", uid=5, pax=pax(OVERRIDE_STAT, b"0:0:4755:file")))
    unpack(io.BytesIO(data), tmp_path / "root", Format.USER)
    one = shown(tmp_path / "root", Format.USER)[b"f"]
    assert (one.uid, one.mode) == (5, 0o644)
    assert one.xattrs == {OVERRIDE_STAT: b"0:0:4755:file"}


def test_what_symlinks_cannot_have_is_left_out(unpacked: Unpack, root: Path, fmt: Format) -> None:
    unpacked(tar(symlink("l", "x", pax=pax(b"user.a", b"1"))))
    assert shown(root, fmt)[b"l"].kind is Kind.SYMLINK


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_large_numbers_and_long_names_survive(
    form: int, unpacked: Unpack, root: Path, fmt: Format
) -> None:
    name = "d" * 255
    deep = "/".join(["p" * 200] * 3)
    unpacked(
        tar(
            file(name, b"1", uid=3_000_000_000, gid=4_294_967_294),
            file(f"{deep}/f", b"2"),
            symlink("l", "t" * 300),
            link("h", f"{deep}/f"),
            form=form,
        )
    )
    tree = shown(root, fmt)
    assert (tree[b"d" * 255].uid, tree[b"d" * 255].gid) == (3_000_000_000, 4_294_967_294)
    assert tree[f"{deep}/f".encode()].nlink == 2
    assert tree[b"l"].body == b"t" * 300


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
def test_names_are_bytes(form: int, unpacked: Unpack, root: Path, fmt: Format) -> None:
    raw = b"\xff\xfe\x80-caf\xc3\xa9 \n"
    unpacked(tar(file(raw.decode("utf-8", "surrogateescape"), b"1"), form=form))
    assert raw in shown(root, fmt)


def test_paths_longer_than_the_kernel_takes(unpacked: Unpack, root: Path, fmt: Format) -> None:
    deep = "/".join(["n" * 250] * 30)
    unpacked(tar(file(f"{deep}/f", b"deep"), file(f"{deep}/.wh.g")))
    tree = shown(root, fmt)
    assert tree[f"{deep}/f".encode()].body == b"deep"
    assert tree[f"{deep}/g".encode()].kind is None


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(["--format=gnu"], id="gnu"),
        pytest.param(["--format=posix", "--sparse-version=0.0"], id="pax-0.0"),
        pytest.param(["--format=posix", "--sparse-version=0.1"], id="pax-0.1"),
        pytest.param(["--format=posix", "--sparse-version=1.0"], id="pax-1.0"),
    ],
)
def test_holes_stay_holes(
    options: list[str], tmp_path: Path, unpacked: Unpack, root: Path, fmt: Format
) -> None:
    size = 40 << 20
    with (tmp_path / "sparse").open("wb") as holes:
        for number in range(30):  # more pieces than fit in one header
            holes.seek(number << 20)
            holes.write(b"piece %d" % number)
        holes.truncate(size)
    done = subprocess.run(
        ["tar", "-C", tmp_path, "-S", *options, "-cf", "-", "sparse"],
        stdout=subprocess.PIPE,
        check=True,
    )
    assert len(done.stdout) < size // 4
    found = unpacked(done.stdout)
    with (root / "sparse").open("rb") as now, (tmp_path / "sparse").open("rb") as before:
        assert now.read() == before.read()
    assert (root / "sparse").stat().st_blocks * 512 < size // 4
    assert found.size == size
    assert shown(root, fmt)[b"sparse"].kind is Kind.FILE


def test_hard_links_are_one_file(unpacked: Unpack, root: Path, fmt: Format) -> None:
    found = unpacked(
        tar(
            file("a", b"1", uid=4),
            link("./b", "/a"),
            link("d/c", "b"),
            symlink("s", "a"),
            link("t", "s"),
            link("a", "a"),
        )
    )
    tree = shown(root, fmt)
    assert [tree[name].nlink for name in (b"a", b"b", b"d/c", b"s", b"t")] == [3, 3, 3, 2, 2]
    assert found.aliases == ((b"a", b"b", b"d/c"), (b"s", b"t"))
    assert found.foreign == ()


def test_links_to_other_layers_are_told(unpacked: Unpack, root: Path) -> None:
    found = unpacked(tar(link("a", "below/f"), link("b", "a"), link("c", "x"), file("c", b"own")))
    assert found.foreign == ((b"a", b"below/f"), (b"b", b"below/f"))
    assert (root / "c").read_bytes() == b"own"


def test_parents_without_an_entry_are_implied(unpacked: Unpack, root: Path, fmt: Format) -> None:
    found = unpacked(tar(file("a/b/f"), folder("a", 0o700), file("c/.wh.x")))
    assert found.implied == (b"", b"a/b", b"c")
    assert found.whiteouts == (b"c",)
    tree = shown(root, fmt)
    for path in (b"", b"a/b", b"c"):
        one = tree[path]
        assert (one.mode, one.uid, one.gid, one.mtime_ns) == (IMPLIED.mode, 0, 0, 0)
    assert tree[b"a"].mode == 0o700


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        pytest.param([file("x", b"1"), file("x", b"2")], {b"x": b"2"}, id="file-file"),
        pytest.param([symlink("x", "/etc/shadow"), file("x", b"2")], {b"x": b"2"}, id="link-file"),
        pytest.param([folder("x"), file("x/y"), file("x", b"2")], {b"x": b"2"}, id="dir-file"),
        pytest.param([file("x"), folder("x"), file("x/y", b"2")], {b"x/y": b"2"}, id="file-dir"),
        pytest.param([symlink("x", "z"), folder("x"), file("x/y", b"2")], {b"x/y": b"2"}, id="l-d"),
        pytest.param([folder("x"), symlink("x", "z")], {b"x": b"z"}, id="dir-link"),
        pytest.param(
            [file("y", b"1"), file("x", b"1"), link("x", "y"), file("y", b"2")],
            {b"x": b"1", b"y": b"2"},
            id="link-then-file",
        ),
    ],
)
def test_the_last_entry_wins(
    items: list[Item], expected: dict[bytes, bytes], unpacked: Unpack, root: Path, fmt: Format
) -> None:
    unpacked(tar(*items))
    tree = shown(root, fmt)
    assert {path: tree[path].body for path in expected} == expected
    assert tree.keys() - expected.keys() <= {b"", b"x"}


def test_a_later_directory_replaces_attributes(unpacked: Unpack, root: Path, fmt: Format) -> None:
    unpacked(tar(folder("x", 0o700, uid=3), file("x/y"), folder("./x/", 0o711, uid=4)))
    one = shown(root, fmt)[b"x"]
    assert (one.mode, one.uid) == (0o711, 4)
    assert (root / "x/y").exists()


def test_symlinks_of_the_layer_lead_inside_the_layer(
    unpacked: Unpack, root: Path, fmt: Format
) -> None:
    unpacked(
        tar(
            folder("usr/lib"),
            symlink("lib", "usr/lib"),
            symlink("abs", "/usr"),
            symlink("up", "../../../../usr"),
            file("lib/a"),
            file("abs/lib/b"),
            file("up/lib/c"),
            file("lib/.wh.d"),
        )
    )
    assert set(shown(root, fmt)) >= {b"usr/lib/a", b"usr/lib/b", b"usr/lib/c", b"usr/lib/d"}
    assert kinds(root, fmt)[b"lib"] == "symlink"


def test_absolute_and_untidy_names_are_inside(unpacked: Unpack, root: Path, fmt: Format) -> None:
    unpacked(tar(file("/a"), file("././b"), file("c//d"), folder("e/./"), file("//f/")))
    assert set(shown(root, fmt)) == {b"", b"a", b"b", b"c", b"c/d", b"e", b"f"}


@pytest.mark.parametrize("ending", [b"", b"\0" * 512, b"\0" * 1024, b"\0" * 10240])
def test_ends_of_tars(ending: bytes, unpacked: Unpack, root: Path, fmt: Format) -> None:
    assert unpacked(tar(file("f", b"1"), end=False) + ending).entries == 1
    assert b"f" in shown(root, fmt)


@pytest.mark.parametrize("data", [b"", b"\0" * 512, b"\0" * 1024])
def test_a_layer_may_be_empty(data: bytes, unpacked: Unpack, root: Path) -> None:
    assert unpacked(data).entries == 0
    assert not any(root.iterdir())


def test_a_umask_takes_nothing_away(tmp_path: Path, fmt: Format) -> None:
    before = os.umask(0o077)
    try:
        data = tar(file("f", mode=0o666), folder("d", 0o777))
        unpack(io.BytesIO(data), tmp_path / "root", fmt)
    finally:
        os.umask(before)
    tree = shown(tmp_path / "root", fmt)
    assert (tree[b"f"].mode, tree[b"d"].mode) == (0o666, 0o777)


def test_a_setgid_store_lends_no_group(tmp_path: Path, needs_root: None) -> None:
    os.chown(tmp_path, 0, 77)
    tmp_path.chmod(0o2755)
    unpack(io.BytesIO(tar(file("d/f"))), tmp_path / "root", Format.KERNEL)
    assert {one.gid for one in shown(tmp_path / "root", Format.KERNEL).values()} == {0}
