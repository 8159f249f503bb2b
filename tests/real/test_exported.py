"""The merged tree as a tar: what GNU tar unpacks, and what import takes, is what a mount shows."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.support.command import PyOverlay
from tests.support.images import run
from tests.support.tree import Tree, assert_same, snapshot

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.usefixtures("needs_root", "needs_fuse")


def untarred(archive: Path, into: Path) -> Tree:
    """What GNU tar makes of *archive*."""
    into.mkdir()
    run("tar", "--numeric-owner", "--xattrs", "--xattrs-include=*", "-C", into, "-xpf", archive)
    return snapshot(into)


def test_the_same_tar_from_store_file_and_mount_and_the_same_tree_back(
    layout: Path, pyoverlay: PyOverlay, tmp_path: Path
) -> None:
    packed = tmp_path / "packed.tar"
    run("skopeo", "copy", "--quiet", f"oci:{layout}:rich", f"docker-archive:{packed}:rich:1")
    with pyoverlay.mounted(packed, tmp_path / "mnt") as mounted:
        shown = snapshot(mounted)
        pyoverlay.ok("export", "-o", tmp_path / "mount.tar", mounted)
    pyoverlay.ok("export", "-o", tmp_path / "store.tar", "rich:1")
    pyoverlay.ok("export", "-o", tmp_path / "file.tar", packed)
    pyoverlay.ok("export", "-o", tmp_path / "layout.tar", f"{layout}:rich")
    tars = {
        (tmp_path / f"{name}.tar").read_bytes() for name in ("mount", "store", "file", "layout")
    }
    assert len(tars) == 1
    assert_same(shown, untarred(tmp_path / "store.tar", tmp_path / "gnu"))
    pyoverlay.ok("import", tmp_path / "store.tar", "again")
    with pyoverlay.mounted("again", tmp_path / "again", "--read-only") as mounted:
        assert_same(shown, snapshot(mounted))


def test_a_mount_is_exported_with_what_was_changed(
    layout: Path, pyoverlay: PyOverlay, tmp_path: Path
) -> None:
    with pyoverlay.mounted(f"{layout}:rich", tmp_path / "mnt") as mounted:
        (mounted / "etc/passwd").write_text("changed\n")
        (mounted / "kept/deep/file").unlink()
        (mounted / "opaque/alone").rename(mounted / "moved")
        (mounted / "opaque").rmdir()
        (mounted / "opaque").mkdir()
        (mounted / "sparse").write_bytes(b"one of two names")
        (mounted / "linked").hardlink_to(mounted / "acl")
        os.setxattr(mounted / "owned", "user.new", b"1")
        os.mknod(mounted / "device", 0o020600, os.makedev(5, 1))
        os.mkfifo(mounted / "pipe")
        (mounted / os.fsdecode(b"broken-\xfe")).symlink_to(os.fsdecode(b"\xfd" * 200))
        os.chown(mounted / "suid", 4_000_000, 5_000_000)
        (mounted / "suid").chmod(0o6711)
        shown = snapshot(mounted)
        pyoverlay.ok("export", "-o", tmp_path / "x.tar", mounted)
    assert_same(shown, untarred(tmp_path / "x.tar", tmp_path / "gnu"))
    pyoverlay.ok("import", tmp_path / "x.tar", "again")
    with pyoverlay.mounted("again", tmp_path / "again", "--read-only") as mounted:
        assert_same(shown, snapshot(mounted))


def test_a_dead_mount_is_exported_as_well(
    layout: Path, pyoverlay: PyOverlay, tmp_path: Path
) -> None:
    with pyoverlay.mounted(f"{layout}:dense", tmp_path / "mnt") as mounted:
        (mounted / "new").write_text("not lost\n")
        (mount,) = pyoverlay.json("ps")
        os.kill(mount["pid"], signal.SIGKILL)
        with pytest.raises(OSError, match=r"not connected|connection abort"):
            mounted.stat()
        pyoverlay.ok("export", "-o", tmp_path / "x.tar", mounted)
    assert run("tar", "-xOf", tmp_path / "x.tar", "new") == "not lost\n"


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_compressed_it_is_the_same_inside(
    layout: Path, pyoverlay: PyOverlay, tmp_path: Path, compression: str
) -> None:
    pyoverlay.ok("export", "-o", tmp_path / "plain", f"{layout}:dense")
    options = ("--compression", compression, "--level", "1")
    pyoverlay.ok("export", *options, "-o", tmp_path / "packed", f"{layout}:dense")
    unpacked = [compression, "-dc", tmp_path / "packed"]
    if compression == "gzip":  # it wants a suffix
        unpacked = ["zcat", tmp_path / "packed"]
    done = subprocess.run(unpacked, capture_output=True, check=True)
    assert done.stdout == (tmp_path / "plain").read_bytes()


def test_podman_imports_it(
    layout: Path, shop: object, pyoverlay: PyOverlay, tmp_path: Path
) -> None:
    pyoverlay.ok("export", "-o", tmp_path / "x.tar", f"{layout}:dense")
    # podman takes no runroot of more than 50 characters.
    short = tempfile.mkdtemp(prefix="r", dir="/tmp")
    storage = ("podman", f"--root={tmp_path}/storage", f"--runroot={short}")
    run(*storage, "--storage-driver=vfs", "import", "--quiet", tmp_path / "x.tar", "localhost/flat")
    flat = f"containers-storage:[vfs@{tmp_path}/storage+{tmp_path}/run]localhost/flat"
    run("skopeo", "copy", "--quiet", flat, f"oci:{tmp_path}/flat:x")
    with (
        pyoverlay.mounted(f"{layout}:dense", tmp_path / "a", "--read-only") as ours,
        pyoverlay.mounted(f"{tmp_path}/flat:x", tmp_path / "b", "--read-only") as theirs,
    ):
        # podman rounds times to seconds.
        assert_same(snapshot(ours), snapshot(theirs), but=frozenset({"mtime_ns"}))


def test_a_socket_is_left_out_and_told(layout: Path, pyoverlay: PyOverlay, tmp_path: Path) -> None:
    with (
        pyoverlay.mounted(f"{layout}:dense", tmp_path / "m") as mounted,
        socket.socket(socket.AF_UNIX) as bound,
    ):
        bound.bind(str(mounted / "s\n"))
        done = pyoverlay("export", "-o", tmp_path / "x.tar", mounted)
    assert done.returncode == 0
    assert "/s\\x0a is left out: a socket, which no tar can hold\n" in done.stderr
    assert "s\\n" not in run("tar", "-tf", tmp_path / "x.tar").splitlines()


def test_a_reader_that_goes_away_is_no_error_to_tell(
    layout: Path, pyoverlay: PyOverlay, tmp_path: Path
) -> None:
    script = f"{sys.executable} -m overlayfs export {layout}:dense | head -c 1 >/dev/null"
    done = subprocess.run(
        ["bash", "-c", f"{script}; echo ${{PIPESTATUS[0]}}"],
        env=os.environ | {"PYOVERLAY_ROOT": str(pyoverlay.store), "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("1\n", "")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nothing"], "nothing: no such file, and no image of that name"),
        (["./nothing"], "./nothing: no such file"),
        (["--level", "1", "x"], "level 1: none has no levels"),
    ],
)
def test_what_cannot_be(
    pyoverlay: PyOverlay, tmp_path: Path, words: list[str], message: str
) -> None:
    done = pyoverlay("export", *words, "-o", tmp_path / "x")
    assert done.returncode == 1
    assert message in done.stderr
    assert not (tmp_path / "x").exists()
