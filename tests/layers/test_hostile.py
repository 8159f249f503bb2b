"""Tars that want out, or want too much: refused by name, and nothing outside is touched."""

import io
import os
import random
import resource
import tarfile
from pathlib import Path

import pytest

from overlayfs.errors import InvalidImage, OverlayError
from overlayfs.layers.removal import remove
from overlayfs.layers.writer import unpack
from overlayfs.union.names import Format
from tests.layers.conftest import Unpack
from tests.support.layers import Item, device, file, folder, kinds, link, symlink, tar
from tests.support.tree import snapshot


@pytest.mark.parametrize(
    ("item", "says"),
    [
        pytest.param(file("../x"), "../x: '..' in a path", id="parent"),
        pytest.param(file("a/../../x"), "'..' in a path", id="parent-within"),
        pytest.param(folder(".."), "'..' in a path", id="parent-directory"),
        pytest.param(link("x", "../../etc/passwd"), "x: '..' in a path", id="link-to-parent"),
        pytest.param(link("x", "."), "a hard link with the root", id="link-to-root"),
        pytest.param(file("a", pax={"path": "a\0b"}), "NUL in a name", id="nul"),
        pytest.param(file("n" * 256), "a name of 256 bytes", id="name-too-long"),
        pytest.param(file("n" * 256 + "/x"), "File name too long", id="directory-name-too-long"),
        pytest.param(file("d/" * 20000 + "f"), "a path of 40001 bytes", id="path-too-long"),
        pytest.param(file(".wh."), "a whiteout of a name that cannot exist", id="wh-nothing"),
        pytest.param(file(".wh.."), "a whiteout of a name that cannot exist", id="wh-dot"),
        pytest.param(file(".wh..."), "a whiteout of a name that cannot exist", id="wh-parent"),
        pytest.param(file(".wh.x/y"), "an entry beneath a whiteout", id="beneath-wh"),
        pytest.param(symlink(".", "x"), "the root is no directory", id="root-is-link"),
        pytest.param(symlink("x", ""), "a symbolic link to nothing", id="empty-link"),
        pytest.param(symlink("x", "t" * 5000), "a path of 5000 bytes", id="long-link"),
        pytest.param(file("x", uid=0xFFFFFFFF), "owner 4294967295:0", id="owner-minus-one"),
        pytest.param(file("x", pax={"uid": "-5"}), "owner -5:0", id="owner-negative"),
        pytest.param(file("x", pax={"mtime": "soon"}), "not a time: 'soon'", id="time"),
        pytest.param(file("x", pax={"mtime": "9" * 19}), "not a time: '999", id="far-time"),
        pytest.param(Item("x", b"Q"), "an entry of the unknown type b'Q'", id="type"),
        pytest.param(file("x", pax={"SCHILY.xattr.bad": "1"}), "extended attribute", id="xattr"),
        pytest.param(
            file("x", pax={"SCHILY.xattr.user." + "n" * 300: "1"}),
            "extended attribute user.nnn",
            id="xattr-name-too-long",
        ),
        pytest.param(
            file("x", pax={"LIBARCHIVE.xattr.user.a": "!"}), "is not base64", id="xattr-base64"
        ),
        pytest.param(file("x", pax={"size": "-1024"}), "", id="negative-size"),
        pytest.param(file("x", pax={"size": str(1 << 62)}), "unexpected end of data", id="huge"),
        pytest.param(
            file("x", pax={"GNU.sparse.map": "0,1", "GNU.sparse.size": str(1 << 62)}),
            "",
            id="huge-hole",
        ),
    ],
)  # fmt: skip
def test_refused(item: Item, says: str, unpacked: Unpack, tmp_path: Path) -> None:
    with pytest.raises(InvalidImage) as caught:
        unpacked(tar(file("before"), item, file("after")))
    assert caught.value.message.startswith("layer: ")
    assert says in caught.value.message


@pytest.mark.parametrize(
    ("items", "says"),
    [
        pytest.param([file("f"), file("f/x")], "f/x: Not a directory", id="beneath-a-file"),
        pytest.param([symlink("a", "b"), symlink("b", "a"), file("a/x")], "Too many", id="ring"),
        pytest.param([folder("d"), link("x", "d")], "a hard link to a directory", id="dir-link"),
        pytest.param([symlink("s", "f"), file("f"), file("s/x")], "Not a directory", id="via-file"),
    ],
)  # fmt: skip
def test_conflicts_are_refused(items: list[Item], says: str, unpacked: Unpack) -> None:
    with pytest.raises(InvalidImage, match=says):
        unpacked(tar(*items))


@pytest.mark.parametrize(
    "items",
    [
        pytest.param([symlink("s", "{out}"), file("s/new", b"x")], id="absolute"),
        pytest.param([symlink("s", "../../outside"), file("s/new", b"x")], id="relative"),
        pytest.param([symlink("s", "{out}/kept"), file("s", b"x")], id="onto-the-link"),
        pytest.param([symlink("s", "{out}/kept"), link("h", "s"), file("h", b"x")], id="via-link"),
        pytest.param([symlink("s", "{out}"), link("h", "s/kept")], id="link-through"),
        pytest.param([symlink("s", "{out}"), folder("s/d", 0o777)], id="directory"),
        pytest.param([symlink("s", "{out}"), file("s/.wh.kept")], id="whiteout"),
        pytest.param([symlink("s", "{out}"), file("s/.wh..wh..opq")], id="opaque"),
        pytest.param([symlink("s", "{out}"), folder("s", 0o777)], id="attributes"),
        pytest.param([symlink("s", "{out}/kept"), symlink("s", "x")], id="replaced"),
        pytest.param([symlink("s", "{out}"), device("s/p", tarfile.FIFOTYPE, 0, 0)], id="fifo"),
        pytest.param([folder("d"), symlink("d/e", "{out}"), file("d/f"), file("d")], id="removed"),
    ],
)
def test_nothing_outside_is_touched(items: list[Item], unpacked: Unpack, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_bytes(b"kept")
    before = snapshot(outside)
    aimed = [
        Item(**{name: getattr(item, name) for name in Item.__slots__ if name != "target"},
             target=item.target.format(out=outside))
        for item in items
    ]  # fmt: skip
    unpacked(tar(*aimed))
    assert snapshot(outside) == before


@pytest.mark.parametrize("length", [1512, 1535, 1536])
def test_what_fills_the_last_block_may_be_missing(length: int, unpacked: Unpack) -> None:
    data = tar(file("f", b"x" * 1000), end=False)
    assert unpacked(data[:length]).entries == 1


@pytest.mark.parametrize("length", [1, 100, 511, 513, 700, 1024, 1511, 1537, 2000])
def test_cut_short(length: int, unpacked: Unpack) -> None:
    data = tar(file("f", b"x" * 1000), file("g"), end=False)
    assert len(data) == 2048
    with pytest.raises(InvalidImage, match=r"not a readable tar|unexpected end of data"):
        unpacked(data[:length])


def test_damage_in_the_middle_is_not_the_end(unpacked: Unpack) -> None:
    data = bytearray(tar(file("a"), file("b"), file("c")))
    data[512 + 5] ^= 1
    with pytest.raises(InvalidImage, match="damaged header"):
        unpacked(bytes(data))


def test_entries_behind_the_end_are_not_ignored(unpacked: Unpack) -> None:
    with pytest.raises(InvalidImage, match="after the end"):
        unpacked(tar(file("a"), end=False) + b"\0" * 512 + tar(file("b")))


@pytest.mark.parametrize("data", [b"not a tar" * 200, b"\x7fELF" + b"\1" * 4096, b"x"])
def test_not_a_tar(data: bytes, unpacked: Unpack) -> None:
    with pytest.raises(InvalidImage, match="not a readable tar"):
        unpacked(data)


def test_headers_without_end_do_not_fill_the_memory(unpacked: Unpack) -> None:
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, 1 << 40
    with pytest.raises(InvalidImage, match="bytes of headers"):
        unpacked(info.tobuf(tarfile.GNU_FORMAT) + b"\0" * 4096)


def test_chained_headers_do_not_exhaust_the_stack(unpacked: Unpack) -> None:
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 1
    with pytest.raises(InvalidImage):
        unpacked((info.tobuf() + b"n" * 512) * 5000)


def test_names_in_messages_are_printable(unpacked: Unpack) -> None:
    with pytest.raises(InvalidImage) as caught:
        unpacked(tar(file("\x1b[31mred/../x")))
    assert "\x1b" not in caught.value.message
    assert "\\x1b[31mred" in caught.value.message


@pytest.mark.parametrize("seed", range(8))
def test_damage_never_gives_a_traceback(seed: int, tmp_path: Path) -> None:
    """Random damage is refused or harmless, whatever it hits."""
    chance = random.Random(seed)
    good = tar(
        folder("d", pax={"SCHILY.xattr.user.a": "1", "mtime": "1.5"}),
        file("d/f", b"x" * 700, pax={"path": "d/f" + "n" * 90}),
        symlink("d/s", "f"),
        link("h", "d/s"),
        file("d/.wh.w"),
        file("sparse", b"0\n" + b"\0" * 510,
             pax={"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "10"}),
    )  # fmt: skip
    gnu = tar(file("n" * 150, b"1"), link("l", "n" * 150), form=tarfile.GNU_FORMAT)
    for number in range(150):
        data = bytearray(chance.choice((good, gnu)))
        for _ in range(chance.randrange(1, 6)):
            at = chance.randrange(len(data))
            data[at] = chance.choice((0, 0x30, 0x39, 0x80, 0xFF, chance.randrange(256)))
            if chance.random() < 0.5 and at > 512:  # keep the checksum of the header right
                start = at // 512 * 512
                head = bytes(data[start : start + 512])
                total = sum(head[:148]) + 256 + sum(head[156:])
                data[start + 148 : start + 156] = b"%06o\0 " % total
        root = tmp_path / f"{number}"
        try:
            unpack(io.BytesIO(bytes(data)), root, Format.USER)
        except OverlayError as exc:
            assert exc.message.startswith("layer: ")  # noqa: PT017
    assert all(path.is_dir() for path in tmp_path.iterdir())


def test_depth_costs_nothing_to_remove(tmp_path: Path) -> None:
    depth = 2000
    data = tar(file("d/" * depth + "f"), file("e/x"))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        unpack(io.BytesIO(data), tmp_path / "root", Format.USER)
        fd = os.open(tmp_path, 0)
        remove(fd, b"root")
        os.close(fd)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert not any(tmp_path.iterdir())


def test_removing_follows_no_link(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/kept").write_bytes(b"1")
    top = tmp_path / "folder/gone"
    (top / "a/b").mkdir(parents=True)
    (top / "#0").mkdir()
    (top / "#0/x").write_bytes(b"")
    (top / "#1").write_bytes(b"")
    (top / "a/link").symlink_to(tmp_path / "outside")
    fd = os.open(tmp_path / "folder", os.O_RDONLY)
    try:
        remove(fd, b"gone")
    finally:
        os.close(fd)
    assert (tmp_path / "outside/kept").exists()
    assert not any((tmp_path / "folder").iterdir())


def test_a_file_beyond_all_limits_is_refused_clearly(root: Path) -> None:
    data = tar(file("x", pax={"GNU.sparse.map": "0,0", "GNU.sparse.size": str(1 << 61)}))
    with pytest.raises(OverlayError, match=r"layer: x: File too large"):
        unpack(io.BytesIO(data), root, Format.USER)
    assert kinds(root, Format.USER).get(b"x") is not None
