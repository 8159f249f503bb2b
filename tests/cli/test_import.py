"""``import``: a root file system in any form becomes an image that the tools know."""

import importlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from overlayfs.cli.main import main
from tests.support.command import PyOverlay
from tests.support.images import base_layer, run, tar_layer
from tests.support.layers import as_user
from tests.support.tree import assert_same, snapshot

ROOT = Path(__file__).parents[2]
# What the commands import when they are called.
LATER = (
    *("archive.detect", "archive.rootfs", "archive.writing.formats", "image.changes"),
    *("cli.destinations", "cli.export", "cli.import_", "cli.outgoing", "cli.progress", "cli.save"),
    *("store.adding", "store.intake", "layers.complete"),
    *("view.archived", "view.export", "view.opening", "view.unpacked"),
)
pytestmark = pytest.mark.usefixtures("needs_root", "needs_fuse")


@pytest.fixture(scope="module")
def root(needs_root: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree with all kinds of file."""
    folder = tmp_path_factory.mktemp("root")
    (folder / "root").mkdir()
    base_layer(folder / "root")
    tar_layer(folder / "root/more", folder / "more.tar", sparse=False)
    return folder / "root"


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that any user can reach, unlike those that pytest makes."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def packed(root: Path, target: Path, form: str) -> Path:
    """A tar of *root* by GNU tar, in plain or packed."""
    plain = target.with_suffix(".plain")
    xattrs = ("--xattrs", "--xattrs-include=*", "--numeric-owner", "--format=pax", "--sort=name")
    run("tar", *xattrs, "-C", root, "-cf", plain, ".")
    if form == "none":
        plain.rename(target)
        return target
    with target.open("wb") as file:
        subprocess.run([form, "-1", "-c", plain], stdout=file, check=True)
    return target


@pytest.mark.parametrize("form", ["none", "gzip", "zstd", "xz", "stdin", "fifo", "directory"])
def test_the_tree_is_the_one_that_was_packed(
    pyoverlay: PyOverlay, root: Path, tmp_path: Path, form: str
) -> None:
    path = tmp_path / "root.tar"
    if form == "directory":
        id_ = pyoverlay.ok("import", root, "mine").strip()
    elif form in ("stdin", "fifo"):
        packed(root, path, "gzip")
        os.mkfifo(tmp_path / "fifo")
        words = "import -" if form == "stdin" else f"import {tmp_path}/fifo"
        command = f"{sys.executable} -m overlayfs {words} mine"
        done = subprocess.run(
            ["sh", "-c", f"cat {path} | {command}" if form == "stdin" else
             f"cat {path} > {tmp_path}/fifo & {command}"],
            env=os.environ | {"PYOVERLAY_ROOT": str(pyoverlay.store), "PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        id_ = done.stdout.strip()
    else:
        id_ = pyoverlay.ok("import", packed(root, path, form), "mine").strip()
    (image,) = pyoverlay.json("images")
    assert (image["id"], image["names"]) == (id_, ["mine:latest"])
    with pyoverlay.mounted("mine", tmp_path / "mnt", "--read-only") as mounted:
        assert_same(snapshot(root), snapshot(mounted))


def test_the_same_tree_is_the_same_image(
    pyoverlay: PyOverlay, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    run("cp", "-a", root, tmp_path / "root")
    # Another time, but after the one that counts.
    os.utime(tmp_path / "root")
    os.utime(root)
    ids = {pyoverlay.ok("import", folder) for folder in (root, tmp_path / "root", f"{root}/.")}
    assert len(ids) == 1
    (image,) = pyoverlay.json("images")
    assert image["created"] == "2023-11-14T22:13:20Z"


def test_what_it_runs_and_where_it_comes_from(
    pyoverlay: PyOverlay, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    changes = [
        'CMD ["/bin/sh"]', "ENTRYPOINT=/init x", "ENV A=1 B=2", "ENV A=$A$B", "EXPOSE 80",
        "LABEL a=b", "USER 1:2", "VOLUME /v", "WORKDIR /w", "STOPSIGNAL 9",
    ]  # fmt: skip
    words = [word for change in changes for word in ("--change", change)]
    pyoverlay.ok("import", *words, "--platform", "arm64", "-m", "why", root, "example.org/a/b:c")
    pyoverlay.ok("save", "-o", tmp_path / "saved.tar", "example.org/a/b:c")
    found = json.loads(run("skopeo", "inspect", "--config", f"docker-archive:{tmp_path}/saved.tar"))
    assert found["config"] == {
        "User": "1:2",
        "ExposedPorts": {"80/tcp": {}},
        "Env": ["A=12", "B=2"],
        "Entrypoint": ["/bin/sh", "-c", "/init x"],
        "Cmd": ["/bin/sh"],
        "Volumes": {"/v": {}},
        "WorkingDir": "/w",
        "Labels": {"a": "b"},
        "StopSignal": "9",
    }
    assert (found["os"], found["architecture"]) == ("linux", "arm64")
    assert found["history"] == [{"created": "1970-01-01T00:00:00Z", "comment": "why"}]
    assert found["created"] == "1970-01-01T00:00:00Z"


def test_a_socket_is_left_out_and_told(pyoverlay: PyOverlay, tmp_path: Path) -> None:
    folder = tmp_path / "root"
    folder.mkdir()
    (folder / "file").touch()
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(folder / "s"))
        done = pyoverlay("import", folder, "mine")
    assert done.returncode == 0
    assert f"pyoverlay: {folder}: s is left out\n" in done.stderr


def test_another_file_system_is_left_out_and_told(pyoverlay: PyOverlay, tmp_path: Path) -> None:
    folder = tmp_path / "root"
    (folder / "mnt").mkdir(parents=True)
    run("mount", "-t", "tmpfs", "tmpfs", folder / "mnt")
    try:
        (folder / "mnt/inside").touch()
        done = pyoverlay("import", folder, "mine")
    finally:
        run("umount", folder / "mnt")
    assert f"pyoverlay: {folder}: mnt/* is left out\n" in done.stderr
    with pyoverlay.mounted("mine", tmp_path / "mnt", "--read-only") as mounted:
        assert [path.name for path in mounted.rglob("*")] == ["mnt"]


def test_a_tree_deeper_than_a_path_may_be_long(pyoverlay: PyOverlay, tmp_path: Path) -> None:
    folder = tmp_path / "root"
    folder.mkdir()
    at = os.open(folder, os.O_RDONLY)
    for _ in range(100):
        os.mkdir("d" * 100, dir_fd=at)
        below = os.open("d" * 100, os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    os.close(at)
    try:
        pyoverlay.ok("import", folder, "mine")
    finally:
        shutil.rmtree(folder)
    assert pyoverlay.json("images")[0]["layers"][0]["entries"] == 101


def test_an_archive_of_images_is_told_from_a_root_file_system(
    pyoverlay: PyOverlay, image: Path
) -> None:
    done = pyoverlay("import", image)
    assert done.returncode == 0
    assert f"pyoverlay: {image}: this is an archive of images" in done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["no/such"], "no/such: No such file or directory\n"),
        (["/etc/passwd"], "/etc/passwd: no tar (invalid header)\n"),
        (["/dev/null"], "/dev/null: the file is empty\n"),
        (["https://x.y/z.tar"], "https://x.y/z.tar: nothing is fetched from a network\n"),
        ([".", "UPPER"], "image name 'UPPER' must be lower case\n"),
        ([".", "a@sha256:" + "0" * 64], "a digest is no name to give\n"),
        ([".", "--change", "RUN x"], "not an instruction that is known here\n"),
        ([".", "--platform", "a b"], "not a platform: 'a b'\n"),
    ],
)
def test_what_cannot_be(pyoverlay: PyOverlay, words: list[str], message: str) -> None:
    done = pyoverlay("import", *words)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert pyoverlay.json("images") == []


def test_a_time_that_is_none(pyoverlay: PyOverlay, monkeypatch: pytest.MonkeyPatch) -> None:
    for text in ("soon", "9" * 30, "1.5"):
        monkeypatch.setenv("SOURCE_DATE_EPOCH", text)
        done = pyoverlay("import", ".")
        assert done.returncode == 1
        assert f"SOURCE_DATE_EPOCH={text}: not a time" in done.stderr


def test_a_damaged_tar_leaves_nothing(pyoverlay: PyOverlay, root: Path, tmp_path: Path) -> None:
    whole = packed(root, tmp_path / "whole", "gzip").read_bytes()
    for name, data in {
        "cut": whole[: len(whole) // 2],
        "flipped": whole[:2000] + bytes([whole[2000] ^ 255]) + whole[2001:],
        "more": whole + b"more",
    }.items():
        (tmp_path / name).write_bytes(data)
        done = pyoverlay("import", tmp_path / name)
        assert done.returncode == 1, name
        assert f"pyoverlay: {tmp_path}/{name}: " in done.stderr
    assert pyoverlay.json("images") == []
    assert list((pyoverlay.store / "scratch").iterdir()) == []
    assert list((pyoverlay.store / "tmp").iterdir()) == []


def test_a_plain_user_gets_owners_devices_and_attributes_through(
    root: Path, open_folder: Path
) -> None:
    packed(root, open_folder / "root.tar", "none").chmod(0o644)
    for name in LATER:
        # The interpreter may lie where only root goes.
        importlib.import_module(f"overlayfs.{name}")

    def work() -> None:
        for words in (
            ["import", "root.tar", "mine"],
            ["export", "-o", "exported.tar", "mine"],
            ["save", "-o", "saved.tar", "mine"],
            ["export", "-o", "converted.tar", "saved.tar"],
        ):
            assert main([*words, "--root", "store"]) == 0, words

    as_user(work, open_folder)
    exported = (open_folder / "exported.tar").read_bytes()
    assert exported == (open_folder / "converted.tar").read_bytes()
    (open_folder / "again").mkdir()
    flags = ("--numeric-owner", "--xattrs", "--xattrs-include=*", "-C", open_folder / "again")
    run("tar", *flags, "-xpf", open_folder / "exported.tar")
    assert_same(snapshot(root), snapshot(open_folder / "again"))


def test_a_full_disk(pyoverlay: PyOverlay, root: Path, tmp_path: Path) -> None:
    pyoverlay.store.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", pyoverlay.store)
    try:
        for source in (root, packed(root, tmp_path / "x", "none")):
            done = pyoverlay("import", source)
            assert done.returncode == 1
            assert "No space left on device" in done.stderr
            assert pyoverlay.json("images") == []
            assert list((pyoverlay.store / "scratch").iterdir()) == []
    finally:
        run("umount", pyoverlay.store)
