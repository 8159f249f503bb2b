"""``doctor`` on machines that lack something, in namespaces; and ``info``."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from overlayfs.version import VERSION
from tests.support.command import PyOverlay

CHECKOUT = Path(__file__).parents[2]
NAMES = [
    "FUSE device",
    "libraries",
    "fusermount3",
    "user_allow_other",
    "user namespaces",
    "subordinate ids",
    "store directory",
    "extended attributes",
    "types in directories",
    "free space",
    "store",
    "clock",
]


# The process becomes the user by itself, after importing: the interpreter and the packages may
# lie where only root goes.
AS_NOBODY = """
import os, sys
from overlayfs.cli import doctor
from overlayfs.cli.main import main
from overlayfs.doctor import versions
versions.pyfuse3()
os.setgroups([])
os.setresgid(65534, 65534, 65534)
os.setresuid(65534, 65534, 65534)
sys.exit(main(sys.argv[1:]))
"""


def doctor_after(prepare: str, store: Path, *python: str) -> tuple[int, dict[str, Any]]:
    """The exit code and the findings by name, after the shell commands *prepare* as root.

    *python* is what the interpreter runs, the command itself unless said otherwise.
    """
    done = subprocess.run(
        [
            *("unshare", "--mount", "sh", "-ec", f'{prepare}\nshift; exec "$@"', "sh", store),
            *(sys.executable, *(python or ("-m", "overlayfs"))),
            *("doctor", "--json", "--root", store),
        ],
        env=os.environ | {"PYTHONPATH": str(CHECKOUT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr
    assert done.stdout, done.stderr
    return done.returncode, {one["name"]: one for one in json.loads(done.stdout)}


def test_a_machine_that_has_all(needs_root: None, needs_fuse: None, pyoverlay: PyOverlay) -> None:
    found = pyoverlay.json("doctor")
    assert [one["name"] for one in found] == NAMES
    assert {one["state"] for one in found} <= {"ok", "warn"}
    lines = pyoverlay.ok("doctor").splitlines()
    assert lines[0].split(maxsplit=1) == ["ok", "FUSE device           /dev/fuse can be opened"]
    assert not pyoverlay.store.exists()


def test_no_device(needs_root: None, tmp_path: Path) -> None:
    code, found = doctor_after(
        "mount -t tmpfs none /dev; mknod -m 666 /dev/null c 1 3", tmp_path / "store"
    )
    assert code == 1
    assert found["FUSE device"]["state"] == "fail"
    assert "modprobe fuse" in found["FUSE device"]["fix"]


def test_a_disk_without_attributes(needs_root: None, tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    prepare = 'mount -t ramfs none "$1"'
    code, found = doctor_after(prepare, tmp_path / "store")
    assert (code, found["extended attributes"]["state"]) == (0, "warn")


def test_a_full_disk(needs_root: None, tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    code, found = doctor_after('mount -t tmpfs -o size=1m none "$1"', tmp_path / "store")
    assert (code, found["free space"]["state"]) == (1, "fail")


def test_a_plain_user(needs_root: None, tmp_path: Path) -> None:
    """He is told all at once: what is refused, what is not his, and what would help."""
    decoys = tmp_path / "decoys"
    decoys.mkdir()
    (decoys / "fuse.conf").write_text("#user_allow_other\n")
    (decoys / "empty").touch()
    os.mknod(decoys / "fuse", 0o020600, Path("/dev/fuse").stat().st_rdev)
    (tmp_path / "store").mkdir()
    for folder in (tmp_path, *tmp_path.parents):
        if folder.is_relative_to("/tmp/") and folder != Path("/tmp"):
            folder.chmod(folder.stat().st_mode | 0o011)
    code, found = doctor_after(
        f'mount --bind "{decoys}/fuse" /dev/fuse\n'
        f'mount --bind "{decoys}/fuse.conf" /etc/fuse.conf\n'
        f'for file in subuid subgid; do mount --bind "{decoys}/empty" /etc/$file; done\n',
        tmp_path / "store",
        *("-c", AS_NOBODY),
    )
    assert code == 1
    states = {name: one["state"] for name, one in found.items()}
    assert states["FUSE device"] == "fail"
    assert "chmod 666" in found["FUSE device"]["fix"]
    assert states["user_allow_other"] == states["subordinate ids"] == "warn"
    assert states["store directory"] == "fail"
    assert "extended attributes" not in states
    assert "Permission denied" in found["store directory"]["said"]


def test_the_store_of_somebody_else(needs_root: None, pyoverlay: PyOverlay, image: Path) -> None:
    pyoverlay.ok("load", image)
    for folder in (pyoverlay.store, *pyoverlay.store.parents):
        if folder.is_relative_to("/tmp/") and folder != Path("/tmp"):
            folder.chmod(folder.stat().st_mode | 0o011)
    pyoverlay.store.chmod(0o755)
    code, found = doctor_after("", pyoverlay.store, "-c", AS_NOBODY)
    assert (code, found["store directory"]["state"]) == (1, "fail")
    assert "Permission denied" in found["store directory"]["said"]


def test_info_says_what_the_lists_say(
    needs_fuse: None, pyoverlay: PyOverlay, image: Path, tmp_path: Path
) -> None:
    assert pyoverlay.json("info")["store"] == {"root": str(pyoverlay.store), "exists": False}
    assert not pyoverlay.store.exists()
    assert "(not made yet)" in pyoverlay.ok("info")
    with pyoverlay.mounted(image, tmp_path / "root") as root:
        (root / "new").touch()
        pyoverlay.ok("tag", "demo", "other:2")
        found = pyoverlay.json("info")
        (listed,) = pyoverlay.json("images")
        store = found["store"]
        assert store.pop("free") > 0
        assert store.pop("blobs_size") == sum(
            (pyoverlay.store / "blobs/sha256" / layer["blob"][7:]).stat().st_size
            for layer in listed["layers"]
        )
        assert store == {
            "root": str(pyoverlay.store),
            "exists": True,
            "version": 1,
            "format": "kernel",
            "images": 1,
            "names": 2,
            "layers": 3,
            "layers_size": listed["size"],
            "blobs": 3,
            "mounts": 1,
            "kept_changes": 0,
        }
    assert pyoverlay.json("info")["store"]["kept_changes"] == 1
    assert set(found["versions"]) == {"pyoverlay", "python", "pyfuse3", "libfuse", "kernel"}
    assert found["versions"]["pyoverlay"] == VERSION
    assert found["versions"]["kernel"] == os.uname().release
    lines = dict(line.split(maxsplit=1) for line in pyoverlay.ok("info").splitlines())
    assert lines["Images"] == "1, with 2 names"
    assert lines["kernel"] == os.uname().release


@pytest.mark.parametrize("command", ["info", "doctor"])
def test_a_store_that_is_damaged_is_said_in_a_line(pyoverlay: PyOverlay, command: str) -> None:
    pyoverlay.store.mkdir()
    (pyoverlay.store / "store.json").write_text("{")
    done = pyoverlay(command)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "store.json" in done.stdout + done.stderr
