"""What a machine may lack: /dev/fuse, space, a store that can be written.

Each is made so in a mount namespace that ends with its command.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.command import PyOverlay
from tests.support.tree import names

pytestmark = pytest.mark.usefixtures("needs_root")

CHECKOUT = Path(__file__).parents[2]


def mount_after(
    prepare: str, store: Path, image: Path, root: Path
) -> subprocess.CompletedProcess[str]:
    """``pyoverlay mount`` after the shell commands *prepare*, in which $1 is the store."""
    script = (
        f'{prepare}\n"$2" -m overlayfs mount --root "$1" "$3" "$4"'
        ' && "$2" -m overlayfs umount --root "$1" "$4"'
    )
    return subprocess.run(
        ["unshare", "--mount", "sh", "-ec", script, "sh", store, sys.executable, image, root],
        env=os.environ | {"PYTHONPATH": str(CHECKOUT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A mount point."""
    made = tmp_path / "root"
    made.mkdir()
    return made


def test_no_device(pyoverlay: PyOverlay, image: Path, root: Path) -> None:
    done = mount_after(
        "mount -t tmpfs none /dev; mknod -m 666 /dev/null c 1 3", pyoverlay.store, image, root
    )
    assert done.returncode == 32, done.stderr
    assert "/dev/fuse" in done.stderr
    assert "modprobe fuse" in done.stderr
    assert "Traceback" not in done.stderr
    assert pyoverlay.json("ps") == []


def test_a_full_disk_leaves_a_store_that_works(
    needs_fuse: None, pyoverlay: PyOverlay, image: Path, root: Path
) -> None:
    pyoverlay.store.mkdir()
    done = mount_after("mount -t tmpfs -o size=1500k none $1", pyoverlay.store, image, root)
    assert done.returncode in (1, 2), done.stderr
    assert "space" in done.stderr.lower()
    assert "Traceback" not in done.stderr
    # The same store, once there is room.
    again = mount_after(
        'mount -t tmpfs -o size=1500k none $1; "$2" -m overlayfs mount --root "$1" "$3" "$4" '
        "&& exit 99; mount -o remount,size=50m $1",
        pyoverlay.store,
        image,
        root,
    )
    assert again.returncode == 0, again.stderr
    assert "demo:latest" in again.stdout


def test_a_store_that_may_not_be_written(pyoverlay: PyOverlay, image: Path, root: Path) -> None:
    pyoverlay.store.mkdir()
    done = mount_after(
        "mount --bind $1 $1; mount -o remount,ro,bind $1", pyoverlay.store, image, root
    )
    assert done.returncode in (1, 2), done.stderr
    assert str(pyoverlay.store) in done.stderr
    assert "ead-only" in done.stderr
    assert "Traceback" not in done.stderr
    assert names(pyoverlay.store) == []
