"""scripts/install, in a mount namespace where the system's folders are copies on write."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.union import Stack, write

CHECKOUT = Path(__file__).parents[2]
FOLDERS = ("/usr/sbin", "/usr/local/bin", "/etc", "/run")


def as_if_installed(base: Path, script: str, *arguments: str | Path) -> str:
    """What *script* prints where ``scripts/install`` has been run; AssertionError if it fails."""
    lines = ["set -euo pipefail"]
    for folder in FOLDERS:
        name = base / folder.replace("/", "-")
        (name / "upper").mkdir(parents=True)
        (name / "work").mkdir()
        options = f"lowerdir={folder},upperdir={name}/upper,workdir={name}/work"
        lines.append(f"mount -t overlay overlay -o {options} {folder}")
    lines.append(f"'{CHECKOUT}/scripts/install' 2> {base}/installed")
    command = ["unshare", "--mount", "--propagation", "private", "bash", "-c"]
    done = subprocess.run(
        [*command, "\n".join([*lines, script]), "bash", *arguments],
        env={"PATH": os.environ["PATH"], "HOME": str(base)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def stack(tmp_path: Path, needs_kernel_overlay: None, needs_fuse: None) -> Stack:
    made = Stack.make(tmp_path / "st:ack, one", lowers=2)
    write(made.lower / "file", "text\n")
    return made


def options(stack: Stack) -> str:
    """The option list, with what needs it escaped."""
    where = {
        "lowerdir": ":".join(str(lower).replace(":", r"\:") for lower in stack.lowers),
        "upperdir": str(stack.upper),
        "workdir": str(stack.work),
    }
    return ",".join(f"{name}={value}".replace(",", r"\,") for name, value in where.items())


def test_mount_finds_the_helper(stack: Stack, tmp_path: Path) -> None:
    script = """
    mount -t fuse.pyoverlayfs overlay "$1" -o "$2,noatime"
    cat "$1/file"
    findmnt --noheadings --output=SOURCE,FSTYPE --mountpoint "$1"
    mount -o remount,ro "$1"
    ! touch "$1/file" 2> /dev/null
    mount -o remount,rw "$1"
    touch "$1/file"
    mount --fake -t fuse.pyoverlayfs overlay "$1" -o "$2"
    umount "$1"
    """
    said = as_if_installed(tmp_path, script, stack.mountpoint, options(stack))
    assert said.split() == ["text", "overlay", "fuse.pyoverlayfs"]
    assert (stack.upper / "file").exists()


def test_a_line_of_fstab(stack: Stack, tmp_path: Path) -> None:
    def field(text: str) -> str:
        return text.replace("\\", r"\134").replace(" ", r"\040")

    words = f"{options(stack)},nofail,_netdev,x-systemd.automount,user,suid,dev,exec"
    line = f"overlay {field(str(stack.mountpoint))} fuse.pyoverlayfs {field(words)} 0 0\n"
    script = """
    printf '%s' "$2" >> /etc/fstab
    mount "$1"
    cat "$1/file"
    umount "$1"
    """
    assert as_if_installed(tmp_path, script, stack.mountpoint, line) == "text\n"


# A manager of its own, as a user has one; it wants a cgroup hierarchy and no other manager.
MANAGER = """
umount --recursive /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
export XDG_RUNTIME_DIR=/run/manager
mkdir -p /run/systemd/system /run/manager /etc/systemd/user
cp /etc/systemd/system/pyoverlay*@.service /etc/systemd/user
/lib/systemd/systemd --user --log-target=null &
manager=$!
trap 'kill $manager; wait' EXIT
until [ -S /run/manager/systemd/private ]; do kill -0 $manager; done
unit=$3@$(systemd-escape --path "$1").service
mkdir -p "/etc/pyoverlay${1%/*}"
printf '%s\\n' "$2" > "/etc/pyoverlay$1.conf"
systemctl --user start "$unit"
cat "$1/file"
systemctl --user show --property=ActiveState --value "$unit"
systemctl --user kill --signal=SIGKILL "$unit"
until systemctl --user is-active --quiet "$unit" && cat "$1/file" 2> /dev/null
do kill -0 $manager; done
systemctl --user stop "$unit"
systemctl --user show --property=Result --value "$unit"
! findmnt --mountpoint "$1"
"""


def test_a_unit_of_systemd_mounts_starts_again_and_unmounts(
    tmp_path: Path, needs_kernel_overlay: None, needs_fuse: None
) -> None:
    stack = Stack.make(tmp_path / "stack")
    write(stack.lower / "file", "text\n")
    line = f"OPTIONS={options(stack)}"
    said = as_if_installed(tmp_path, MANAGER, stack.mountpoint, line, "pyoverlayfs")
    assert said.split() == ["text", "active", "text", "success"]


def test_what_was_installed_can_be_removed(tmp_path: Path) -> None:
    environment = os.environ | {"DESTDIR": str(tmp_path), "PREFIX": "/usr"}
    command = CHECKOUT / "scripts/install"
    subprocess.run([command], env=environment, check=True, capture_output=True)
    files = sorted(path for path in tmp_path.rglob("*") if not path.is_dir())
    assert [str(path.relative_to(tmp_path)) for path in files] == [
        "etc/systemd/system/pyoverlay@.service",
        "etc/systemd/system/pyoverlayfs@.service",
        "sbin/mount.fuse.pyoverlayfs",
        "usr/bin/pyoverlay",
        "usr/bin/pyoverlayfs",
    ]
    assert "ExecStart=/usr/bin/pyoverlayfs -f" in files[1].read_text()
    helper = subprocess.run([files[2], "--version"], check=True, capture_output=True, text=True)
    assert helper.stdout.startswith("pyoverlayfs ")
    subprocess.run([command, "--remove"], env=environment, check=True, capture_output=True)
    assert not [path for path in tmp_path.rglob("*") if not path.is_dir()]
