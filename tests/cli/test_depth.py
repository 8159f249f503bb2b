"""Images of very many layers, from the store."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from overlayfs.store.store import Store
from tests.support.archives import Made, from_1_10, write_tar
from tests.support.command import PyOverlay
from tests.support.deep import FILES, deep_image
from tests.support.images import run
from tests.support.layers import file, link, tar
from tests.support.union import start

pytestmark = pytest.mark.usefixtures("needs_root")


def calls_of_a_mount(pyoverlay: PyOverlay, image: str, folder: Path) -> int:
    """The system calls of a process that mounts *image* and serves it until it is unmounted."""
    folder.mkdir()
    trace, mountpoint = folder / "trace", folder / "mnt"
    mountpoint.mkdir()
    tracer = ["strace", "--quiet=all", "--signal=none", "--follow-forks", f"--output={trace}"]
    command = [sys.executable, "-m", "overlayfs", "mount", "--read-only", "--foreground"]
    root = ["--root", str(pyoverlay.store)]
    daemon = start([*tracer, *command, *root, image, str(mountpoint)], mountpoint, folder)
    run("umount", mountpoint)
    assert daemon.wait() == 0, daemon.said()
    return len(trace.read_text().splitlines())


def test_a_layer_more_costs_a_mount_few_calls(pyoverlay: PyOverlay, tmp_path: Path) -> None:
    few, many = 10, 110
    for layers in (few, many):
        with pyoverlay.mounted(deep_image(tmp_path / f"{layers}.tar", layers), tmp_path / "mnt"):
            pass
    # So that no daemon has anything to bring to the disk, nor looks for it.
    folder = pyoverlay.store / "layers/sha256"
    os.utime(folder, ns=(0, folder.stat().st_mtime_ns - 10_000_000_000))
    Store.open(pyoverlay.store).settle()
    counts = [
        calls_of_a_mount(pyoverlay, f"deep:{layers}", tmp_path / str(layers))
        for layers in (few, many)
    ]
    # Its link and its record are read, its root is opened and its formats are looked for.
    each = (counts[1] - counts[0]) / (many - few)
    assert 5 <= each <= 14, counts


def test_five_hundred_layers_are_mounted_and_written_to(
    pyoverlay: PyOverlay, tmp_path: Path
) -> None:
    """With no more descriptors than a login has by default."""
    image = deep_image(tmp_path / "deep.tar", 500)
    mountpoint = tmp_path / "mnt"
    mountpoint.mkdir()
    command = [sys.executable, "-m", "overlayfs", "mount", "--root", pyoverlay.store]
    limited = subprocess.run(
        ["prlimit", "--nofile=1024:1024", *command, image, mountpoint],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert limited.returncode == 0, limited.stderr
    try:
        for name in FILES:
            assert (mountpoint / name).read_text() == name
            (mountpoint / name).write_text("changed")
        found = {str(path.relative_to(mountpoint)) for path in mountpoint.rglob("file*")}
        assert found == set(FILES)
        assert all((mountpoint / name).read_text() == "changed" for name in FILES)
    finally:
        pyoverlay.ok("umount", mountpoint)


def test_names_of_a_file_are_known_from_the_record_of_its_layer(
    pyoverlay: PyOverlay, tmp_path: Path
) -> None:
    layer = tar(file("one", b"as it was"), link("dir/two", "one"))
    image = write_tar(tmp_path / "image.tar", from_1_10([(Made((layer,)), ["linked:1"])]))
    with pyoverlay.mounted(image, tmp_path / "mnt", "--upper", tmp_path / "upper") as mnt:
        (mnt / "one").write_text("as it is")
        # Nobody has looked into the directory.
        assert (tmp_path / "upper/dir/two").read_text() == "as it is"
        assert (mnt / "dir/two").read_text() == "as it is"
