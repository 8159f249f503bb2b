"""A day's work in a mounted Debian: packages, users, archives, repositories, compilers."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.command import PyOverlay, kernel_mounted
from tests.support.images import umoci_tree
from tests.support.tree import Tree, assert_same, differences, snapshot

pytestmark = pytest.mark.usefixtures("needs_root", "needs_fuse", "needs_kernel_overlay")

# What is done inside, step by step; each line says itself whether it worked.
SESSION = r"""
set -eux
export DEBIAN_FRONTEND=noninteractive LC_ALL=C HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin
apt-get -q update
apt-get -q -y install --no-install-recommends gcc libc6-dev git python3-venv

cd /tmp
apt-get -q download hello
dpkg -i hello_*.deb
test "$(hello -g works)" = works
apt-get -q -y purge hello
! test -e /usr/bin/hello

useradd --create-home --shell /bin/sh tester
test "$(su tester -c 'id -un; touch ~/mine; stat -c %U ~/mine' | sort -u)" = tester
userdel --remove tester

mkdir tree && (cd tree && seq 500 | xargs touch && ln 1 linked && ln -s 1 symbolic)
tar -cf tree.tar tree && rm -r tree && tar -xf tree.tar
test "$(ls tree | wc -l)" = 502
test "$(stat -c %h tree/1)" = 2

git config --global user.email tester@localhost
git config --global user.name tester
git init -q repository && cd repository
cp -r /usr/share/doc/git . && git add . && git commit -q -m first
echo more > more && git add more && git commit -q -m second
git mv more less && git commit -q -m third
git checkout -q HEAD~1 && test -e more && git checkout -q - && test -e less
git gc -q && git fsck --strict && test -z "$(git status --porcelain)"
cd ..

printf '#include <stdio.h>\nint main(void) { puts("compiled"); return 0; }\n' > main.c
gcc -O2 -o program main.c
test "$(./program)" = compiled

python3 -m venv /opt/environment
/opt/environment/bin/python -m pip --version
python3 - <<'WHEEL'
import zipfile
with zipfile.ZipFile("/tmp/local-1-py3-none-any.whl", "w") as wheel:
    about = "local-1.dist-info"
    wheel.writestr("local.py", "print('installed')")
    wheel.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: local\nVersion: 1\n")
    kind = "Root-Is-Purelib: true\nTag: py3-none-any\n"
    wheel.writestr(f"{about}/WHEEL", f"Wheel-Version: 1.0\n{kind}")
    wheel.writestr(f"{about}/RECORD", "")
WHEEL
/opt/environment/bin/python -m pip install -q --no-index /tmp/local-1-py3-none-any.whl
test "$(/opt/environment/bin/python -m local)" = installed
/opt/environment/bin/python -m pip uninstall -q -y local
/opt/environment/bin/python -c \
    'import sqlite3; sqlite3.connect("/tmp/db").execute("create table t (x)")'

mv /etc/motd /etc/motd.moved 2>/dev/null || touch /etc/motd.moved
rm -rf /usr/share/doc
mkdir /usr/share/doc
sync
"""


def in_chroot(root: Path, script: str) -> subprocess.CompletedProcess[str]:
    """*script* run by *root*'s shell, with /proc and /dev in a mount namespace of its own."""
    outside = (
        'mount -t proc proc "$1/proc" && mount --rbind /dev "$1/dev" && exec chroot "$1" sh -c "$2"'
    )
    return subprocess.run(
        ["unshare", "--mount", "--pid", "--fork", "sh", "-c", outside, "sh", root, script],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def configure_apt(root: Path) -> None:
    """Gives *root* this machine's way to its packages."""
    shutil.rmtree(root / "etc/apt")
    shutil.copytree("/etc/apt", root / "etc/apt", symlinks=True)
    for name in ("etc/resolv.conf", "etc/hosts"):
        (root / name).unlink(missing_ok=True)
        shutil.copy(f"/{name}", root / name)
    for folder in ("usr/share/keyrings", "usr/local/share/ca-certificates", "etc/ssl"):
        if Path("/", folder).is_dir():
            shutil.copytree(f"/{folder}", root / folder, symlinks=True, dirs_exist_ok=True)


def lower_snapshots(layers: list[Path]) -> list[Tree]:
    """The layer directories, with every xattr they have."""
    return [snapshot(layer, ignore=()) for layer in layers]


def test_debian_is_the_one_of_the_kernel_and_of_umoci(
    debian: Path, pyoverlay: PyOverlay, tmp_path: Path
) -> None:
    with pyoverlay.mounted(f"{debian}:debian", tmp_path / "root", "--read-only") as root:
        ours = snapshot(root)
    with kernel_mounted(pyoverlay.layer_paths(), tmp_path) as root:
        assert_same(snapshot(root), ours)
    unpacked = snapshot(umoci_tree(debian, "debian", tmp_path / "bundle"))
    assert len(ours) > 5000
    assert_same(unpacked, ours)


def test_a_session_changes_the_upper_layer_and_nothing_else(
    debian: Path, pyoverlay: PyOverlay, tmp_path: Path
) -> None:
    with pyoverlay.mounted(f"{debian}:debian", tmp_path / "root", "--read-only") as root:
        original = snapshot(root)
    layers = pyoverlay.layer_paths()
    before = lower_snapshots(layers)

    with pyoverlay.mounted(f"{debian}:debian", tmp_path / "root") as root:
        configure_apt(root)
        done = in_chroot(root, SESSION)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
        now = snapshot(root)
        changes = {change["path"]: change["kind"] for change in pyoverlay.json("diff", root)}
        (mount,) = pyoverlay.json("ps")
        upper = Path(mount["upper"])
        log = Path(mount["log"]).read_text()

    assert "Traceback" not in log, log
    for layer, tree in zip(layers, before, strict=True):
        assert_same(tree, snapshot(layer, ignore=()))

    # What diff says is what has changed.
    paths = {f"/{path.decode(errors='surrogateescape')}": path for path in original | now}
    for path, kind in changes.items():
        name = paths[path]
        expected = {"added": (False, True), "deleted": (True, False), "modified": (True, True)}
        assert (name in original, name in now) == expected[kind], (path, kind)
    for path, name in paths.items():
        if name in now and name not in original:
            assert changes.get(path) == "added", path
        if name in original and name not in now:
            # A directory that is gone stands for what was in it.
            parents = [str(parent) for parent in Path(path).parents]
            assert any(changes.get(each) == "deleted" for each in [path, *parents]), path
        if name in original and name in now and name != b".":
            touched = bool(differences({name: original[name]}, {name: now[name]}))
            assert not touched or changes.get(path) == "modified", path

    # The kernel reads our upper layer the same way.
    with kernel_mounted([*layers, upper], tmp_path) as root:
        assert_same(snapshot(root), now)
