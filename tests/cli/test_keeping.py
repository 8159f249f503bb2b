"""load, tag, untag, rmi, prune, system df and verify, as they are typed."""

import json
import os
import pty
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.store.conftest import BASE, UPPER, docker, oci
from tests.support.archives import Made, from_1_10, write_tar
from tests.support.command import PyOverlay
from tests.support.images import run
from tests.support.layers import file, tar

ONE, TWO, NONE = (Made((tar(file(name, name.encode() * 999)),)) for name in ("one", "two", "none"))
LOADED = (
    "Loaded image: one:1\n"
    "Loaded image: one:latest\n"
    "Loaded image: localhost:5000/two:x\n"
    f"Loaded image ID: {NONE.id}\n"
)


@pytest.fixture
def several(tmp_path: Path) -> Path:
    """What `docker save` writes of three images, of which one has two names and one has none."""
    images = [(ONE, ["one:1", "one:latest"]), (TWO, ["localhost:5000/two:x"]), (NONE, [])]
    return write_tar(tmp_path / "several.tar", from_1_10(images))


def names(pyoverlay: PyOverlay) -> dict[str, list[str]]:
    """The names of each image by its id."""
    said = subprocess.run(
        ["umoci", "ls", "--layout", pyoverlay.store], check=True, capture_output=True, text=True
    ).stdout.split()
    found: dict[str, list[str]] = {}
    for name in said:
        inspected = run("skopeo", "inspect", "--config", "--raw", f"oci:{pyoverlay.store}:{name}")
        digest = (
            "sha256:"
            + subprocess.run(
                ["sha256sum"], input=inspected, capture_output=True, text=True, check=True
            ).stdout.split()[0]
        )
        found.setdefault(digest, []).append(name)
    return {image: sorted(called) for image, called in found.items()}


def piped(pyoverlay: PyOverlay, stdin: bytes, *words: str) -> subprocess.CompletedProcess[bytes]:
    """The command with something on its standard input."""
    return subprocess.run(
        [sys.executable, "-m", "overlayfs", *words],
        input=stdin,
        env=os.environ
        | {"PYOVERLAY_ROOT": str(pyoverlay.store), "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        check=False,
    )


# -- load ------------------------------------------------------------------------------


def test_all_images_of_an_archive(pyoverlay: PyOverlay, several: Path) -> None:
    done = pyoverlay("load", several)
    assert (done.returncode, done.stdout) == (0, LOADED)
    assert done.stderr.count("unpacking") == 3
    assert names(pyoverlay) == {ONE.id: ["one:1", "one:latest"], TWO.id: ["localhost:5000/two:x"]}
    again = pyoverlay("load", "-q", "-i", str(several))
    assert (again.stdout, again.stderr) == (LOADED, "")
    assert [image["id"] for image in pyoverlay.json("load", several)] == [ONE.id, TWO.id, NONE.id]


@pytest.mark.parametrize("words", [("load",), ("load", "-"), ("load", "-i", "-")])
@pytest.mark.parametrize("packed", [False, True])
def test_from_standard_input(
    words: tuple[str, ...], packed: bool, pyoverlay: PyOverlay, several: Path
) -> None:
    data = several.read_bytes()
    if packed:
        data = subprocess.run(["zstd", "-c"], input=data, capture_output=True, check=True).stdout
    done = piped(pyoverlay, data, *words)
    assert (done.returncode, done.stdout.decode()) == (0, LOADED), done.stderr


def test_from_a_file_on_standard_input(pyoverlay: PyOverlay, several: Path) -> None:
    with several.open("rb") as stdin:
        done = subprocess.run(
            [sys.executable, "-m", "overlayfs", "load", "--root", pyoverlay.store],
            stdin=stdin,
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
            capture_output=True,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stdout) == (0, LOADED)


def test_one_image_of_several(pyoverlay: PyOverlay, several: Path) -> None:
    assert pyoverlay.ok("load", f"{several}:one") == "".join(LOADED.splitlines(True)[:2])
    assert pyoverlay.ok("load", f"{several}@2") == LOADED.splitlines(True)[3]
    assert "no image missing" in pyoverlay("load", f"{several}:missing").stderr


def test_what_cannot_be_loaded(pyoverlay: PyOverlay, tmp_path: Path) -> None:
    for words, said in (
        (("load", str(tmp_path / "missing.tar")), "no such file"),
        (("load", __file__), "not a tar"),
        (("load", "x", "-i", "y"), "twice"),
    ):
        done = pyoverlay(*words)
        assert (done.returncode, done.stdout) == (1, "")
        assert said in done.stderr
    assert b"standard input: not an image: no tar" in piped(pyoverlay, b"", "load").stderr
    assert b"no tar (invalid header)" in piped(pyoverlay, b"x" * 2000, "load").stderr


def test_nothing_is_loaded_when_one_is_for_no_machine_like_this(
    pyoverlay: PyOverlay, tmp_path: Path
) -> None:
    layout = oci(tmp_path / "image", BASE, name="first:1")
    other = oci(tmp_path / "other", tar(file("other")), name=None)
    for blob in (other / "blobs/sha256").iterdir():
        (layout / "blobs/sha256" / blob.name).write_bytes(blob.read_bytes())
    index = json.loads((layout / "index.json").read_text())
    inner = json.loads((other / "index.json").read_text())
    inner["manifests"][0]["platform"] = {"os": "plan9", "architecture": "mips"}
    data = json.dumps(inner)
    (tmp_path / "inner").write_text(data)
    digest = run("sha256sum", tmp_path / "inner").split()[0]
    (layout / "blobs/sha256" / digest).write_text(data)
    index["manifests"].append(
        {
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "digest": f"sha256:{digest}",
            "size": len(data),
            "annotations": {"org.opencontainers.image.ref.name": "second:1"},
        }
    )
    (layout / "index.json").write_text(json.dumps(index))
    done = pyoverlay("load", layout)
    assert (done.returncode, done.stdout) == (1, "")
    assert "there is one for plan9/mips" in done.stderr
    assert pyoverlay.json("images") == []
    assert pyoverlay.ok("load", "--platform=plan9/mips", f"{layout}:second:1").endswith("d:1\n")


def test_what_podman_saves(pyoverlay: PyOverlay, several: Path, tmp_path: Path) -> None:
    """Several images through podman: the same ids and names as here."""
    # podman takes no runroot of more than 50 characters.
    short = tempfile.mkdtemp(prefix="r", dir="/tmp")
    podman = ["podman", "--root", tmp_path / "p", "--runroot", short, "--tmpdir", tmp_path / "t"]
    podman += ["--storage-driver=vfs", "--cgroup-manager=cgroupfs"]
    run(*podman, "load", "-q", "-i", several)
    run(*podman, "save", "-q", "-m", "-o", tmp_path / "saved.tar", "one:1", "localhost:5000/two:x")
    pyoverlay.ok("load", tmp_path / "saved.tar")
    said = json.loads(run(*podman, "images", "--no-trunc", "--format=json"))
    ids = {f"sha256:{image['Id'].removeprefix('sha256:')}" for image in said if image.get("Names")}
    assert set(names(pyoverlay)) == ids == {ONE.id, TWO.id}


# -- names -----------------------------------------------------------------------------


def test_names_come_and_go(pyoverlay: PyOverlay, several: Path) -> None:
    pyoverlay.ok("load", several)
    short = ONE.id[7:19]
    assert pyoverlay.ok("tag", short, "busybox", "docker.io/library/x:2", "one:1") == ""
    assert names(pyoverlay)[ONE.id] == ["busybox:latest", "one:1", "one:latest", "x:2"]
    assert (
        pyoverlay.ok("untag", "busybox", "one")
        == "Untagged: busybox:latest\nUntagged: one:latest\n"
    )
    assert pyoverlay.ok("tag", "localhost:5000/two:x", "one:1") == ""
    assert names(pyoverlay) == {ONE.id: ["x:2"], TWO.id: ["localhost:5000/two:x", "one:1"]}
    for words, said in (
        (("tag", "missing", "x"), "missing: no image of that name"),
        (("tag", "one:1", "Capital"), "must be lower case"),
        (("untag", "x:2", "missing"), "missing: no image of that name"),
        (("untag", TWO.id), "not a name"),
    ):
        done = pyoverlay(*words)
        assert done.returncode == 1
        assert said in done.stderr
    assert names(pyoverlay) == {ONE.id: ["x:2"], TWO.id: ["localhost:5000/two:x", "one:1"]}


def test_removing(pyoverlay: PyOverlay, several: Path) -> None:
    pyoverlay.ok("load", several)
    assert pyoverlay.ok("rmi", "one") == "Untagged: one:latest\n"
    (chain,) = json.loads(ONE.config)["rootfs"]["diff_ids"]
    done = pyoverlay("rmi", "one:1", "missing", NONE.id[7:15])
    assert done.returncode == 1
    assert done.stdout.startswith(f"Untagged: one:1\nDeleted: {ONE.id}\nDeleted: {chain}\n")
    assert f"Deleted: {NONE.id}\n" in done.stdout
    assert "missing: no image of that name" in done.stderr
    pyoverlay.ok("tag", TWO.id, "two:2")
    done = pyoverlay("rmi", TWO.id)
    assert done.returncode == 1
    assert "several names: localhost:5000/two:x, two:2" in done.stderr
    (removed,) = pyoverlay.json("rmi", "--force", TWO.id)
    assert removed["untagged"] == ["localhost:5000/two:x", "two:2"]
    assert (removed["deleted"], len(removed["layers"])) == ([TWO.id], 1)
    assert removed["freed"] > 0
    assert names(pyoverlay) == {}


def test_a_mounted_image_is_not_removed(
    needs_fuse: None, pyoverlay: PyOverlay, image: Path, tmp_path: Path
) -> None:
    mountpoint = tmp_path / "mnt"
    with pyoverlay.mounted(image, mountpoint):
        done = pyoverlay("rmi", "demo")
        assert done.returncode == 1
        assert f"demo: in use: mounted at {mountpoint}" in done.stderr
        assert f"pyoverlay umount {mountpoint}" in done.stderr
        assert "Deleted" in pyoverlay.ok("rmi", "--force", "demo")
        pyoverlay.ok("prune", "--all", "--kept", "--force")
        assert (mountpoint / "etc/motd").read_text()
        (mountpoint / "etc/motd").write_text("mine")
    assert "Total reclaimed space: 0 B" in pyoverlay.ok("prune", "--force")
    assert "Total reclaimed space: 2" in pyoverlay.ok("prune", "--force", "--kept")
    assert pyoverlay.json("ps", "--all") == []


# -- order -----------------------------------------------------------------------------


def test_pruning_tells_before_it_does(pyoverlay: PyOverlay, several: Path) -> None:
    pyoverlay.ok("load", several)
    told = pyoverlay("prune")
    assert f"image {NONE.id[7:19]}\n" in told.stdout
    assert re.search(r"^layer /.*  [0-9.]+ kB$", told.stdout, re.MULTILINE)
    assert re.search(r"^blob /.*  [0-9.]+ kB$", told.stdout, re.MULTILINE)
    assert re.search(r"^Would reclaim [0-9.]+ kB$", told.stdout, re.MULTILINE)
    assert "nothing was removed" in told.stderr
    assert pyoverlay.ok("prune", "--dry-run", "--force") == told.stdout
    planned = pyoverlay.json("system", "prune", "--dry-run")
    assert planned["images"] == [{"id": NONE.id, "names": []}]
    assert (len(planned["layers"]), len(planned["blobs"]), planned["mounts"]) == (1, 3, [])
    done = pyoverlay.ok("prune", "-f")
    assert done.startswith(f"Deleted: {NONE.id}\n")
    assert re.search(r"^Total reclaimed space: [0-9.]+ kB$", done, re.MULTILINE)
    assert pyoverlay.ok("prune", "-f") == "Total reclaimed space: 0 B\n"
    assert len(pyoverlay.json("prune", "-f", "--all")["untagged"]) == 3


@pytest.mark.parametrize(("answer", "images"), [(b"y\n", 0), (b"n\n", 1), (b"\n", 1)])
def test_pruning_asks_on_a_terminal(
    answer: bytes, images: int, pyoverlay: PyOverlay, tmp_path: Path
) -> None:
    pyoverlay.ok("load", oci(tmp_path / "image", BASE, name=None))
    ours, theirs = pty.openpty()
    os.write(ours, answer)
    done = subprocess.run(
        [sys.executable, "-m", "overlayfs", "prune", "--root", pyoverlay.store],
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=theirs,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        check=True,
    )
    assert b"Would reclaim" in done.stdout
    assert b"Remove all that?" in os.read(ours, 4096)
    assert len(pyoverlay.json("images")) == images
    for fd in (ours, theirs):
        os.close(fd)


def test_filters(pyoverlay: PyOverlay, tmp_path: Path) -> None:
    made = [
        Made((BASE,), {"created": "2020-01-01T00:00:00Z", "config": {"Labels": {"keep": "yes"}}}),
        Made((BASE,), {"created": "2024-01-01T00:00:00.123456789Z"}),
        Made((BASE,)),
    ]
    images = [(one, [f"n:{number}"]) for number, one in enumerate(made)]
    pyoverlay.ok("load", write_tar(tmp_path / "images.tar", from_1_10(images)))

    def chosen(*filters: str) -> list[str]:
        words = [f"--filter={one}" for one in filters]
        planned = pyoverlay.json("prune", "--all", "--dry-run", *words)
        return [name for image in planned["images"] for name in image["names"]]

    assert chosen() == ["n:0", "n:1", "n:2"]
    assert chosen("until=24h") == ["n:0", "n:1"]
    assert chosen("until=1h30m") == ["n:0", "n:1"]
    assert chosen("until=2022-01-01") == ["n:0"]
    assert chosen("label=keep") == chosen("label=keep=yes") == ["n:0"]
    assert chosen("label!=keep") == ["n:1", "n:2"]
    assert chosen("label=keep=no") == chosen("label=keep", "until=2019-01-01") == []
    for wrong in ("until=never", "until=", f"until={10**30}d", "name=x", "label"):
        done = pyoverlay("prune", "--filter", wrong)
        assert done.returncode == 1
        assert f"--filter {wrong}: " in done.stderr


def test_what_takes_how_much(pyoverlay: PyOverlay, tmp_path: Path) -> None:
    pyoverlay.ok("load", oci(tmp_path / "a", BASE, name="a:1"))
    pyoverlay.ok("load", oci(tmp_path / "b", BASE, UPPER, name="b:1"))
    found = pyoverlay.json("system", "df")
    assert set(found) == {"images", "layers", "blobs", "mounts", "kept", "drafts", "total", "each"}
    assert found["total"] == found["layers"]["size"] + found["blobs"]["size"]
    assert [image["names"] for image in found["each"]] == [["a:1"], ["b:1"]]
    assert found["each"][0]["unique"] < found["each"][0]["shared"] == found["each"][1]["shared"]
    lines = pyoverlay.ok("system", "df", "--verbose").splitlines()
    assert lines[0].split() == ["NAME", "ID", "SIZE", "SHARED", "UNIQUE", "MOUNTS"]
    heads = [line.split("  ")[0] for line in lines[4:]]
    assert heads == [
        *("KIND", "Images", "Unpacked layers", "Blobs", "Mounts", "Kept changes", "Drafts"),
        "Total",
    ]


def test_damage_is_told_and_repaired(pyoverlay: PyOverlay, tmp_path: Path) -> None:
    path = docker(tmp_path / "image.tar", BASE, UPPER)
    pyoverlay.ok("load", path)
    good = pyoverlay("verify", "--deep")
    assert (good.returncode, good.stdout, good.stderr) == (0, "", "pyoverlay: no damage\n")
    for blob in (pyoverlay.store / "blobs/sha256").iterdir():
        blob.unlink()
    next((pyoverlay.store / "layers/sha256").glob("*/root/bin")).unlink()
    bad = pyoverlay("verify")
    assert bad.returncode == 1
    assert re.fullmatch(r"app:1: blob sha256:[0-9a-f]{64}: manifest: missing.*\n", bad.stdout)
    hopeless = pyoverlay("verify", "--repair")
    assert (hopeless.returncode, hopeless.stdout) == (1, bad.stdout)
    mended = pyoverlay("verify", "--deep", "--repair", "--from", path)
    assert mended.returncode == 0, mended.stdout
    assert mended.stdout.count("replaced\n") == 4
    assert mended.stdout.count("unpacked again\n") == 1
    assert pyoverlay.json("verify", "--deep") == {"damage": [], "repaired": []}
    assert "goes with --repair" in pyoverlay("verify", "--from", path).stderr
