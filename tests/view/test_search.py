"""What find(1) finds, on the same tree."""

import os
import subprocess
from pathlib import Path

import pytest

from overlayfs.errors import OverlayError
from overlayfs.layers.lower import Layer
from overlayfs.union.names import Format
from overlayfs.view import search
from overlayfs.view.image import ImageView
from overlayfs.view.search import Test
from overlayfs.view.unpacked import UnpackedPart


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of many sizes, modes and names."""
    root = tmp_path_factory.mktemp("find") / "root"
    root.mkdir()
    for size in (0, 1, 511, 512, 513, 1023, 1024, 1025, 4096, 1 << 20, (1 << 20) + 1):
        (root / f"size-{size}").write_bytes(b"")
        os.truncate(root / f"size-{size}", size)
    for mode in (0o4755, 0o2755, 0o6711, 0o1777, 0o644, 0o600, 0o0):
        (root / f"mode-{mode:o}.MODE").write_bytes(b"")
        (root / f"mode-{mode:o}.MODE").chmod(mode)
    (root / "dir/[x]").mkdir(parents=True)
    (root / "dir/[x]/.hidden*").write_bytes(b"")
    (root / os.fsdecode(b"dir/\xff\xfe")).write_bytes(b"")
    (root / "link").symlink_to("dir")
    os.mkfifo(root / "fifo")
    os.utime(root / "size-1", (1000, 1000))
    os.utime(root / "size-512", (2000, 2000))
    return root


@pytest.mark.parametrize(
    ("words", "test"),
    [
        (["-name", "size-*"], search.name(b"size-*")),
        (["-name", "*[0-4]?"], search.name(b"*[0-4]?")),
        (["-name", "[[]x]"], search.name(b"[[]x]")),
        (["-name", ".h*"], search.name(b".h*")),
        (["-iname", "*.mode"], search.name(b"*.mode", ignore_case=True)),
        (["-path", "*/dir/*"], search.path(b"*/dir/*")),
        *[
            (["-size", text], search.size(text))
            for text in (
                "1",
                "+1",
                "-2",
                "0",
                "+0c",
                "512c",
                "-1k",
                "1k",
                "+1k",
                "-2M",
                "1M",
                "+1M",
            )
        ],
        *[
            (["-perm", text], search.mode(text))
            for text in ("644", "0755", "-4000", "-6000", "/6000", "/0", "-0", "0", "1777", "-022")
        ],
        *[(["-type", text], search.kinds(text)) for text in ("f", "d", "l", "p", "f,d", "c")],
        (["-newermt", "@1500"], search.newer(1_500_000_000_000)),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_as_find_does(words: list[str], test: Test, tree: Path) -> None:
    # Directories have a size on a disk only.
    but = ["!", "-type", "d"] if "-size" in words else []
    listed = subprocess.run(
        ["find", tree, "-mindepth", "1", *but, *words, "-printf", r"%P\n"],
        stdout=subprocess.PIPE,
        check=True,
    ).stdout
    with ImageView([UnpackedPart(Layer(tree, Format.KERNEL, 1), None)]) as view:
        found = [path for path, entry in view.walk() if path and test(path, entry)]
    assert sorted(found) == sorted(listed.splitlines())


@pytest.mark.parametrize("text", ["", "10x", "k", "++1", "1" * 40])
def test_no_size(text: str) -> None:
    with pytest.raises(OverlayError, match="is no size"):
        search.size(text)


@pytest.mark.parametrize("text", ["", "u+s", "8", "07777777", "--4000"])
def test_no_mode(text: str) -> None:
    with pytest.raises(OverlayError, match="is no mode"):
        search.mode(text)


def test_no_kind() -> None:
    with pytest.raises(OverlayError, match="'x' is no kind of file"):
        search.kinds("f,x")
