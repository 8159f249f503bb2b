"""``save`` as a command: where it writes, what it refuses, and what it leaves behind."""

import gzip
import json
import os
import pty
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from overlayfs.archive.detect import open_image
from overlayfs.store.store import Store, StoredImage
from tests.support.archives import (
    Made,
    entry,
    from_1_10,
    layout,
    taken,
    tar_bytes,
    write_directory,
)
from tests.support.archives import contents as blobs_of
from tests.support.archives import image as made_image
from tests.support.command import PyOverlay
from tests.support.images import run

ROOT = Path(__file__).parents[2]


@pytest.fixture
def demo(pyoverlay: PyOverlay, image: Path) -> StoredImage:
    """The demo's image in the store."""
    return added(pyoverlay, image)


def added(pyoverlay: PyOverlay, path: Path | str) -> StoredImage:
    """The only image at *path*, in the store."""
    store = Store.open(pyoverlay.store)
    with open_image(str(path), scratch=store.scratch) as source:
        return store.add(source)


def start(pyoverlay: PyOverlay, *words: str | Path, **more: object) -> "subprocess.Popen[bytes]":
    """The command, running."""
    return subprocess.Popen(
        [sys.executable, "-m", "overlayfs", *map(str, words)],
        env=os.environ | {"PYOVERLAY_ROOT": str(pyoverlay.store), "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        **more,  # type: ignore[call-overload]  # of Popen
    )


def test_the_same_bytes_every_time_to_a_file_and_to_stdout(
    pyoverlay: PyOverlay, demo: StoredImage, tmp_path: Path
) -> None:
    for form in ("docker-archive", "oci-archive"):
        pyoverlay.ok("save", "--format", form, "-o", tmp_path / "a", "demo")
        with (tmp_path / "b").open("wb") as file:
            saving = start(pyoverlay, "save", "--format", form, demo.id.hex[:8], stdout=file)
            assert saving.communicate() == (None, b"")
        assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    with tarfile.open(tmp_path / "a") as tar:
        assert {(member.mtime, member.uid, member.gid) for member in tar} == {(0, 0, 0)}


def test_nothing_is_written_to_a_terminal(pyoverlay: PyOverlay, demo: StoredImage) -> None:
    ours, theirs = pty.openpty()
    saving = start(pyoverlay, "save", "demo", stdout=theirs)
    _, said = saving.communicate()
    os.close(theirs)
    os.close(ours)
    assert saving.returncode == 1
    assert said.decode() == (
        "pyoverlay: an archive is nothing for a terminal\n"
        "  hint: write to a file: -o FILE, or > FILE\n"
    )


def test_a_reader_that_goes_away_is_no_error_to_tell(
    pyoverlay: PyOverlay, demo: StoredImage
) -> None:
    reading, writing = os.pipe()
    saving = start(pyoverlay, "save", "demo", stdout=writing)
    os.close(writing)
    assert os.read(reading, 1)
    os.close(reading)
    _, said = saving.communicate()
    assert (saving.returncode, said) == (1, b"")


def test_a_closed_stdout_is_told(pyoverlay: PyOverlay, demo: StoredImage) -> None:
    words = f"exec {sys.executable} -m overlayfs save demo >&-"
    env = os.environ | {"PYOVERLAY_ROOT": str(pyoverlay.store), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(["sh", "-c", words], env=env, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == "pyoverlay: stdout is closed\n  hint: write to a file: -o FILE\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--level", "3", "demo", "-o", "x"], "--level goes with --compression."),
        (["--format", "oci", "demo"], "--format oci writes a directory: name it with -o."),
        (["--format", "dir", "-o", "-", "demo"], "--format dir writes a directory"),
        (["--compression", "gzip", "--level", "10", "demo", "-o", "x"], "has levels 1 to 9"),
        (["--compression", "none", "--level", "1", "demo", "-o", "x"], "none has no levels"),
        (["nothing", "-o", "x"], "nothing: no such file, and no image of that name"),
        (["demo", "-o", "no/such/folder"], "no/such/folder: No such file or directory"),
        (["demo", "-o", "."], ".: is a directory"),
        (["--format", "oci", "-o", "full", "demo"], "full: not empty, and no OCI layout"),
        (["--format", "dir", "-o", "full", "demo"], "full: not an empty directory"),
        (["--format", "oci", "-o", "full/file", "demo"], "full/file: Not a directory"),
    ],
)
def test_what_cannot_be(
    pyoverlay: PyOverlay, demo: StoredImage, tmp_path: Path, words: list[str], message: str
) -> None:
    folder = tmp_path / "here"
    (folder / "full").mkdir(parents=True)
    (folder / "full/file").touch()
    done = pyoverlay("save", *words, cwd=folder)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert found(folder) == ["full", "full/file"]


def found(folder: Path) -> list[str]:
    """Everything below *folder*."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_a_file_that_is_there_stays_until_the_new_one_is_whole(
    pyoverlay: PyOverlay, demo: StoredImage, tmp_path: Path
) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    (folder / "real").write_text("old")
    (folder / "link").symlink_to("real")
    blob = pyoverlay.store / "blobs/sha256" / demo.layers[1].blob.digest.hex
    data = blob.read_bytes()
    for damaged, message in (
        (data[:-1], "bytes, got"),
        (data + b"x", "bytes, got more"),
        (bytes([data[0] ^ 1]) + data[1:], "expected sha256:"),
        (None, "missing in the store"),
    ):
        blob.unlink()
        if damaged is not None:
            blob.write_bytes(damaged)
        for form in ("docker-archive", "oci", "dir"):
            target = folder / ("link" if form == "docker-archive" else form)
            done = pyoverlay("save", "--format", form, "-o", target, "demo")
            assert done.returncode == 1, form
            assert message in done.stderr
            assert demo.layers[1].blob.digest.hex in done.stderr
            assert found(folder) == ["link", "real"]
            assert (folder / "real").read_text() == "old"
        blob.write_bytes(data)
    pyoverlay.ok("save", "-o", folder / "link", "demo")
    assert (folder / "link").is_symlink()
    assert tarfile.is_tarfile(folder / "real")


@contextmanager
def waiting(
    pyoverlay: PyOverlay, demo: StoredImage, *words: str | Path, whole: bool = False
) -> Iterator["subprocess.Popen[bytes]"]:
    """A save that waits amid a blob, which is a pipe for the time.

    It gets the rest of it if *whole*, and is killed otherwise.
    """
    blob = pyoverlay.store / "blobs/sha256" / demo.layers[0].blob.digest.hex
    data = blob.read_bytes()
    blob.unlink()
    os.mkfifo(blob)
    saving = start(pyoverlay, "save", *words, "demo")
    try:
        with blob.open("wb", buffering=0) as pipe:
            # More than a pipe holds: when all is taken, saving has begun to write.
            pipe.write(data[: 1 << 19])
            yield saving
            if whole:
                pipe.write(data[1 << 19 :])
    finally:
        if not whole:
            saving.kill()
        saving.wait()
        if saving.stderr:
            saving.stderr.close()
        blob.unlink(missing_ok=True)
        blob.write_bytes(data)


@pytest.mark.parametrize("form", ["docker-archive", "oci", "dir"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupted_save_leaves_nothing(
    pyoverlay: PyOverlay, demo: StoredImage, tmp_path: Path, form: str, number: int
) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    with waiting(pyoverlay, demo, "--format", form, "-o", folder / "x") as saving:
        saving.send_signal(number)
        assert saving.wait() == 8
        assert saving.stderr is not None
        assert saving.stderr.read().lstrip() == b"pyoverlay: interrupted\n"
    assert found(folder) == []


def test_a_killed_save_leaves_no_file_at_all(
    pyoverlay: PyOverlay, demo: StoredImage, tmp_path: Path
) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    with waiting(pyoverlay, demo, "-o", folder / "x") as saving:
        saving.kill()
        assert saving.wait() == -signal.SIGKILL
        assert found(folder) == []


@pytest.mark.parametrize("form", ["oci", "dir"])
def test_a_killed_save_leaves_no_directory_of_that_name(
    pyoverlay: PyOverlay, demo: StoredImage, tmp_path: Path, form: str
) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    with waiting(pyoverlay, demo, "--format", form, "-o", folder / "x") as saving:
        saving.kill()
        saving.wait()
    assert not (folder / "x").exists()
    pyoverlay.ok("save", "--format", form, "-o", folder / "x", "demo")


def test_a_killed_save_leaves_a_layout_as_it_was(
    pyoverlay: PyOverlay, demo: StoredImage, tmp_path: Path
) -> None:
    made = made_image("one")
    write_directory(tmp_path / "x", layout([entry(made, "one:1")], *blobs_of(made)))
    before = (tmp_path / "x/index.json").read_bytes()
    with waiting(pyoverlay, demo, "--format", "oci", "-o", tmp_path / "x") as saving:
        saving.kill()
        saving.wait()
        assert (tmp_path / "x/index.json").read_bytes() == before
    pyoverlay.ok("save", "--format", "oci", "-o", tmp_path / "x", "demo")
    assert names(tmp_path / "x") == ["one:1", "docker.io/library/demo:latest"]


def names(folder: Path) -> list[str | None]:
    """The names in the index of the layout *folder*."""
    index = json.loads((folder / "index.json").read_bytes())
    annotations = (one.get("annotations") or {} for one in index["manifests"])
    return [one.get("org.opencontainers.image.ref.name") for one in annotations]


@pytest.mark.usefixtures("needs_root")
def test_a_full_disk(pyoverlay: PyOverlay, demo: StoredImage, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", disk)
    try:
        for form in ("docker-archive", "oci-archive", "oci", "dir"):
            done = pyoverlay("save", "--format", form, "-o", disk / "x", "demo")
            assert done.returncode == 1
            assert "No space left on device" in done.stderr
            assert "hint: make room there" in done.stderr
            assert found(disk) == []
        made = made_image("one")
        write_directory(disk / "l", layout([entry(made, "one:1")], *blobs_of(made)))
        before = found(disk)
        done = pyoverlay("save", "--format", "oci", "-o", disk / "l", "demo")
        assert "No space left on device" in done.stderr
        assert found(disk) == before
    finally:
        run("umount", disk)


def test_devices_and_pipes_are_written_as_they_are(
    pyoverlay: PyOverlay, demo: StoredImage, tmp_path: Path
) -> None:
    pyoverlay.ok("save", "-o", "/dev/null", "demo")
    assert Path("/dev/null").is_char_device()
    done = pyoverlay("save", "-o", "/dev/full", "demo")
    assert done.stderr.startswith("pyoverlay: /dev/full: No space left on device\n")
    os.mkfifo(tmp_path / "fifo")
    saving = start(pyoverlay, "save", "-o", tmp_path / "fifo", "demo")
    with tarfile.open(tmp_path / "fifo", "r|") as tar:
        assert "manifest.json" in tar.getnames()
    assert saving.communicate() == (None, b"")


@pytest.mark.usefixtures("needs_root", "needs_fuse")
def test_a_file_system_without_nameless_files(
    pyoverlay: PyOverlay, demo: StoredImage, image: Path, tmp_path: Path
) -> None:
    with PyOverlay(tmp_path / "other").mounted(image, tmp_path / "mnt") as mounted:
        with pytest.raises(OSError, match="not supported"):
            os.open(mounted, os.O_TMPFILE | os.O_RDWR)
        pyoverlay.ok("save", "-o", mounted / "srv/x", "demo")
        assert tarfile.is_tarfile(mounted / "srv/x")
        before = found(mounted / "srv")
        with waiting(pyoverlay, demo, "-o", mounted / "srv/y") as saving:
            saving.terminate()
            assert saving.wait() == 8
        assert found(mounted / "srv") == before


def test_a_layout_takes_more_images_and_keeps_what_it_has(
    pyoverlay: PyOverlay, demo: StoredImage, tmp_path: Path
) -> None:
    one, two = made_image("one"), made_image("two")
    target = tmp_path / "l"
    mine = {"annotations": {"mine": "1"}, "data": "e30="}
    write_directory(
        target,
        layout(
            [
                {**entry(one, "keep:1"), "x": mine},
                entry(two, "demo:latest"),
                entry(two, "v1"),
                entry(two),
            ],
            *blobs_of(one),
            *blobs_of(two),
        ),
    )
    pyoverlay.ok("save", "--format", "oci", "-o", target, "demo")
    full = "docker.io/library/demo:latest"
    assert names(target) == ["keep:1", "v1", None, full]
    index = json.loads((target / "index.json").read_bytes())
    assert index["manifests"][0]["x"] == mine
    # Once more changes nothing, and an image without a name is listed once.
    before = {path: path.stat().st_mtime_ns for path in (target / "blobs").rglob("*")}
    pyoverlay.ok("save", "--format", "oci", "-o", target, "demo")
    assert names(target) == ["keep:1", "v1", None, full]
    assert before == {path: path.stat().st_mtime_ns for path in (target / "blobs").rglob("*")}
    # A damaged blob is made whole.
    blob = target / "blobs/sha256" / demo.layers[0].blob.digest.hex
    blob.write_bytes(b"rotten")
    pyoverlay.ok("save", "--format", "oci", "-o", target, "demo")
    run("skopeo", "copy", "--quiet", f"oci:{target}:{full}", f"dir:{tmp_path}/copy")


def test_names_are_those_that_were_asked_for(pyoverlay: PyOverlay, tmp_path: Path) -> None:
    made = made_image("one")
    write_directory(
        tmp_path / "l", layout([entry(made, "a:1"), entry(made, "b.io/c:2")], *blobs_of(made))
    )
    for name in ("a:1", "b.io/c:2"):
        added(pyoverlay, f"{tmp_path}/l:{name}")
    a, b = "docker.io/library/a:1", "b.io/c:2"
    for words, expected in (
        (["a:1"], [a]),
        ([b], [b]),
        (["b.io/c:2", "docker.io/library/a:1"], [b, a]),
        ([made.id], [a, b]),
        (["a:1", made.id.removeprefix("sha256:")[:6]], [a, b]),
        (["--all-names", "a:1"], [a, b]),
        ([tmp_path / "l"], [a, b]),
        ([f"{tmp_path}/l:b.io/c:2"], [a, b]),
    ):
        pyoverlay.ok("save", "-o", tmp_path / "x.tar", *words)
        with tarfile.open(tmp_path / "x.tar") as tar:
            listed = tar.extractfile("manifest.json")
            assert listed is not None
            (only,) = json.load(listed)
            assert only["RepoTags"] == expected, words


def test_two_images_with_one_name_are_refused(
    pyoverlay: PyOverlay, demo: StoredImage, tmp_path: Path
) -> None:
    other = made_image("other")
    path = write_directory(tmp_path / "l", layout([entry(other, "demo:latest")], *blobs_of(other)))
    done = pyoverlay("save", "-o", tmp_path / "x", "demo", path)
    assert done.returncode == 1
    assert done.stderr.startswith(f"pyoverlay: demo:latest: both demo and {path} are called so\n")


def test_all_images_of_a_file_are_converted_under_hostile_names_too(
    pyoverlay: PyOverlay, tmp_path: Path
) -> None:
    one, two = made_image("one"), made_image("two")
    hostile = "\x1b[31m../../etc/passwd:\u202e"
    path = write_directory(
        tmp_path / "l",
        layout([entry(one, hostile), entry(two, "two:2")], *blobs_of(one), *blobs_of(two)),
    )
    pyoverlay.ok("save", "-o", tmp_path / "x.tar", path)
    with tarfile.open(tmp_path / "x.tar") as tar:
        listed = tar.extractfile("manifest.json")
        assert listed is not None
        assert [item["RepoTags"] for item in json.load(listed)] == [
            None,
            ["docker.io/library/two:2"],
        ]
        assert all(name.startswith("blobs") or "/" not in name for name in tar.getnames())


def test_a_layer_in_xz_is_packed_as_gzip(pyoverlay: PyOverlay, tmp_path: Path) -> None:
    import lzma

    made = made_image("one")
    path = tmp_path / "x.tar"
    listed = [{"Config": "c.json", "RepoTags": ["x:1"], "Layers": ["layer.tar"]}]
    members = [
        ("c.json", made.config),
        ("layer.tar", lzma.compress(made.layers[0])),
        ("manifest.json", json.dumps(listed).encode()),
    ]
    path.write_bytes(tar_bytes(members))
    pyoverlay.ok("save", "--format", "oci", "-o", tmp_path / "l", path)
    raw = json.loads(run("skopeo", "inspect", "--raw", f"oci:{tmp_path}/l"))
    assert raw["layers"][0]["mediaType"].endswith("tar+gzip")
    assert raw["config"]["digest"] == made.id
    run("skopeo", "copy", "--quiet", f"oci:{tmp_path}/l", f"dir:{tmp_path}/copy")


def test_layers_that_are_there_twice_or_not_at_all(pyoverlay: PyOverlay, tmp_path: Path) -> None:
    layer = made_image("one").layers[0]
    for number, made in enumerate((Made((layer, layer)), Made(()))):
        name = f"x:{number}"
        source = write_directory(tmp_path / name, layout([entry(made, name)], *blobs_of(made)))
        for form in ("docker-archive", "oci-archive", "oci", "dir"):
            for more in ([], ["--compression", "gzip"]):
                target = tmp_path / f"{number}-{form}-{len(more)}"
                pyoverlay.ok("save", "--format", form, *more, "-o", target, source)
                config = run("skopeo", "inspect", "--config", "--raw", f"{form}:{target}")
                assert config.encode() == made.config
                with open_image(str(target), scratch=tmp_path) as found:
                    assert taken(found).layers == made.layers


def test_all_images_of_a_compressed_file_are_converted(
    pyoverlay: PyOverlay, tmp_path: Path
) -> None:
    images = [made_image(text) for text in ("one", "two", "three")]
    path = tmp_path / "x.tar.gz"
    listed = [(made, [f"{number}:a"]) for number, made in enumerate(images)]
    path.write_bytes(gzip.compress(tar_bytes(from_1_10(listed))))
    pyoverlay.ok("save", "--format", "oci", "-o", tmp_path / "all", path)
    assert names(tmp_path / "all") == [f"docker.io/library/{number}:a" for number in range(3)]
    pyoverlay.ok("save", "--format", "oci", "-o", tmp_path / "one", f"{path}@1")
    assert names(tmp_path / "one") == ["docker.io/library/1:a"]


@pytest.mark.parametrize("form", ["oci", "dir"])
def test_an_empty_directory_that_is_there_is_filled_and_stays(
    pyoverlay: PyOverlay, demo: StoredImage, tmp_path: Path, form: str
) -> None:
    folder = tmp_path / "x"
    folder.mkdir(mode=0o711)
    inode = folder.stat().st_ino
    with waiting(pyoverlay, demo, "--format", form, "-o", folder) as saving:
        saving.kill()
        saving.wait()
        assert not (folder / "index.json").exists()
    pyoverlay.ok("save", "--format", form, "-o", ".", "demo", cwd=folder)
    assert (folder.stat().st_ino, folder.stat().st_mode & 0o777) == (inode, 0o711)
    run("skopeo", "inspect", f"{form}:{folder}")


def test_a_file_keeps_its_mode(pyoverlay: PyOverlay, demo: StoredImage, tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    (tmp_path / "x").chmod(0o640)
    pyoverlay.ok("save", "-o", tmp_path / "x", "demo")
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o640


def test_the_store_is_no_target(pyoverlay: PyOverlay, demo: StoredImage) -> None:
    done = pyoverlay("save", "--format", "oci", "-o", f"{pyoverlay.store}/.", "demo")
    assert done.returncode == 1
    assert "is the store itself\n" in done.stderr


@pytest.mark.parametrize(
    "index",
    [
        b"no json",
        b'{"schemaVersion":2,"manifests":[],"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"schemaVersion":2,"manifests":[],"x":' + b"9" * 10_000 + b"}",
        b'{"schemaVersion":2,"manifests":[],"layers":[]}',
    ],
    ids=["text", "deep", "long-number", "both"],
)
def test_a_layout_that_is_damaged_is_left_alone(
    pyoverlay: PyOverlay, demo: StoredImage, tmp_path: Path, index: bytes
) -> None:
    folder = write_directory(tmp_path / "x", [("index.json", index)])
    done = pyoverlay("save", "--format", "oci", "-o", folder, "demo")
    assert done.returncode == 1
    assert done.stderr.startswith(f"pyoverlay: {folder}/index.json: ")
    assert len(done.stderr) < 500
    assert [path for path in found(folder) if not path.startswith("blobs")] == ["index.json"]
    assert not [path for path in folder.rglob("*") if path.is_file() and path.parent != folder]


def test_an_image_that_is_removed_meanwhile_is_saved_whole(
    pyoverlay: PyOverlay, demo: StoredImage, tmp_path: Path
) -> None:
    expected = tmp_path / "expected"
    pyoverlay.ok("save", "-o", expected, "demo")
    with waiting(pyoverlay, demo, "-o", tmp_path / "x", whole=True) as saving:
        pyoverlay.ok("rmi", "demo")
    assert saving.returncode == 0
    assert (tmp_path / "x").read_bytes() == expected.read_bytes()
