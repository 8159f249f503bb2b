"""Files are recognised by content, and what is none of them is told in one line."""

import gzip
import lzma
import os
import resource
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from overlayfs.archive.detect import list_images, open_image
from overlayfs.errors import ImageNotFound, InvalidImage, OverlayError
from overlayfs.image.digest import Digest
from overlayfs.image.platform import Platform
from tests.support.archives import (
    Members,
    before_1_10,
    contents,
    descriptor,
    entry,
    from_1_10,
    from_25,
    image,
    layout,
    sha256,
    taken,
    tar_bytes,
    to_json,
    v1_id,
    write_directory,
    write_tar,
)

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MADE = image("base", "top")
V1 = before_1_10([(v1_id(at), {}, layer) for at, layer in enumerate(MADE.layers)], None)
DIRECTORY: Members = [
    ("version", b"Directory Transport Version: 1.1\n"),
    ("manifest.json", MADE.manifest()),
    *((sha256(data), data) for data in (MADE.config, *MADE.layers)),
]
KINDS: dict[str, Members] = {
    "docker-1.9": V1,
    "docker-1.10": from_1_10([(MADE, ["app:1"])]),
    "docker-25": from_25(MADE, "app:1"),
    "oci": layout([entry(MADE, "app:1")], *contents(MADE)),
    "dir": DIRECTORY,
}
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gzip": gzip.compress,
    "zstd": zstd.compress,
    "xz": lzma.compress,
    "two-gzip-members": lambda data: gzip.compress(data[:700]) + gzip.compress(data[700:]),
    "padded-gzip": lambda data: gzip.compress(data) + bytes(512),
}
EACH_KIND = pytest.mark.parametrize("kind", KINDS)


@EACH_KIND
@pytest.mark.parametrize("packer", PACKERS)
def test_each_kind_in_each_packing_under_a_name_that_lies(
    tmp_path: Path, scratch: Path, kind: str, packer: str
) -> None:
    path = tmp_path / "photo.jpeg"
    path.write_bytes(PACKERS[packer](tar_bytes(KINDS[kind])))
    with open_image(str(path), scratch=scratch) as source:
        assert taken(source).layers == MADE.layers
        assert list(scratch.iterdir()) == [], "a copy has no name and cannot be left behind"
    assert [one.names for one in list_images(str(path), scratch=scratch)] == [source.names]


@EACH_KIND
def test_each_kind_as_a_directory(tmp_path: Path, scratch: Path, kind: str) -> None:
    path = write_directory(tmp_path / "x", KINDS[kind])
    with open_image(str(path), scratch=scratch) as source:
        assert taken(source).layers == MADE.layers


@EACH_KIND
def test_each_kind_from_a_pipe(tmp_path: Path, scratch: Path, kind: str) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    data = tar_bytes(KINDS[kind])
    writer = threading.Thread(target=path.write_bytes, args=(data,))
    writer.start()
    with open_image(str(path), scratch=scratch) as source:
        assert taken(source).layers == MADE.layers
    writer.join()


@EACH_KIND
def test_layers_outlive_the_source(tmp_path: Path, scratch: Path, kind: str) -> None:
    path = tmp_path / "x"
    path.write_bytes(gzip.compress(tar_bytes(KINDS[kind])))
    with open_image(str(path), scratch=scratch) as source:
        streams = [layer.open() for layer in source.layers]
    path.unlink()
    for stream, expected in zip(streams, MADE.layers, strict=True):
        with stream:
            assert stream.read() == expected


@pytest.mark.parametrize(
    ("transport", "kind", "really"),
    [
        ("docker-archive", "docker-1.9", None),
        ("docker-archive", "docker-1.10", None),
        ("docker-archive", "docker-25", None),
        ("oci-archive", "docker-25", None),
        ("oci-archive", "oci", None),
        ("dir", "dir", None),
        ("oci", "docker-1.10", "docker-archive"),
        ("docker-archive", "oci", "oci"),
        ("docker-archive", "dir", "dir"),
        ("dir", "docker-25", "docker-archive"),
        ("dir", "docker-1.9", "docker-archive"),
    ],
)
def test_a_transport_must_be_right(
    tmp_path: Path, scratch: Path, transport: str, kind: str, really: str | None
) -> None:
    spec = f"{transport}:{write_tar(tmp_path / 'x.tar', KINDS[kind])}"
    if really is None:
        with open_image(spec, scratch=scratch) as source:
            assert taken(source).layers == MADE.layers
        return
    with pytest.raises(InvalidImage, match=f"x.tar: not {transport}:, but what {really}: stands"):
        open_image(spec, scratch=scratch)


def test_docker_25_read_as_oci_has_the_names_of_the_layout(tmp_path: Path, scratch: Path) -> None:
    path = write_tar(tmp_path / "x.tar", from_25(MADE, "app:1"))
    with open_image(f"oci-archive:{path}", scratch=scratch) as source:
        assert source.names == ("app:1",)
        assert source.manifest == MADE.manifest()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param(b"", "the file is empty", id="empty"),
        pytest.param(b"\x7fELF" + bytes(1000), "not a tar", id="program"),
        pytest.param(b"{}", "not a tar", id="json"),
        pytest.param(bytes(10240), "not an? (image|tar)", id="zeros"),
        pytest.param(tar_bytes([]), "not an? (image|tar)", id="empty-tar"),
        pytest.param(tar_bytes([("bin/sh", b"x"), ("etc/", None)]), "not an image", id="rootfs"),
        pytest.param(tar_bytes([("manifest.json", b"7")]), "not an image", id="number"),
        pytest.param(tar_bytes([("manifest.json", b"")]), "not an image", id="empty-list"),
        pytest.param(gzip.compress(b""), "not an image: no tar", id="gzip-of-nothing"),
        pytest.param(gzip.compress(b"text"), "not an image: no tar", id="gzip-of-text"),
        pytest.param(gzip.compress(bytes(1 << 20)), "not an image: no tar", id="gzip-of-zeros"),
        pytest.param(
            gzip.compress(gzip.compress(tar_bytes(KINDS["oci"]))), "no tar", id="gzip-twice"
        ),
        pytest.param(gzip.compress(tar_bytes(KINDS["oci"]))[:-20], "end too early", id="cut"),
        pytest.param(gzip.compress(tar_bytes(KINDS["oci"])) + b"x", "something else", id="more"),
        pytest.param(zstd.compress(tar_bytes(KINDS["oci"]))[:-5], "end too early", id="cut-zstd"),
        pytest.param(lzma.compress(tar_bytes(KINDS["oci"]))[:-5], "end too early", id="cut-xz"),
        pytest.param(tar_bytes(KINDS["oci"])[:3000], "too early|damaged", id="cut-tar"),
        pytest.param(b"\x1f\x8b\x08" + bytes(100), "damaged|no tar|early", id="gzip-head-only"),
    ],
)
def test_what_is_no_image_is_told_in_one_line(
    tmp_path: Path, scratch: Path, data: bytes, message: str
) -> None:
    path = tmp_path / "x.tar"
    path.write_bytes(data)
    for act in (open_image, list_images):
        before = open_descriptors()
        with pytest.raises(InvalidImage, match=message) as caught:
            act(str(path), scratch=scratch)
        assert caught.value.message.startswith(f"{path}: ")
        assert caught.value.message.isprintable()
        assert list(scratch.iterdir()) == []
        assert open_descriptors() == before


def open_descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


@pytest.mark.parametrize("spec", ["gone.tar", "gone.tar:x", "oci:gone", ""])
def test_a_file_that_is_not_there(tmp_path: Path, scratch: Path, spec: str) -> None:
    with pytest.raises(ImageNotFound, match="no such file or directory"):
        open_image(spec and f"{tmp_path}/{spec}", scratch=scratch)


def test_a_directory_that_is_no_image(tmp_path: Path, scratch: Path) -> None:
    (tmp_path / "x").mkdir()
    with pytest.raises(InvalidImage, match="not an image"):
        open_image(str(tmp_path / "x"), scratch=scratch)


def test_a_file_that_cannot_be_opened_is_named(tmp_path: Path, scratch: Path) -> None:
    loop = tmp_path / "loop"
    loop.symlink_to("loop")
    with pytest.raises(OverlayError, match="loop: Too many levels of symbolic links"):
        open_image(str(loop), scratch=scratch)


UNPRIVILEGED = """
import os, sys
from pathlib import Path
from overlayfs.archive.detect import open_image
from overlayfs.errors import OverlayError
if os.geteuid() == 0:
    os.setresuid(65534, 65534, 65534)
try:
    open_image("x.tar", scratch=Path())
except OverlayError as exc:
    print(exc.message)
"""


def test_a_file_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    write_tar(tmp_path / "x.tar", KINDS["oci"]).chmod(0)
    tmp_path.chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-c", UNPRIVILEGED],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
    )
    assert done.stdout == "x.tar: Permission denied\n", done.stderr


def test_a_scratch_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.tgz"
    path.write_bytes(gzip.compress(tar_bytes(KINDS["oci"])))
    with pytest.raises(OverlayError, match="gone: No such file or directory"):
        open_image(str(path), scratch=tmp_path / "gone")


def test_a_copy_that_does_not_fit_is_an_error(tmp_path: Path, scratch: Path) -> None:
    made = image("x" * 3_000_000)
    path = tmp_path / "x.tgz"
    path.write_bytes(gzip.compress(tar_bytes(layout([entry(made)], *contents(made)))))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
    try:
        with pytest.raises(OverlayError, match=r"x\.tgz: cannot be unpacked in .*scratch: File"):
            open_image(str(path), scratch=scratch)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(scratch.iterdir()) == []


def test_a_name_cannot_obey_a_terminal(tmp_path: Path, scratch: Path) -> None:
    path = tmp_path / "\x1b[2J"
    path.write_bytes(b"x" * 1000)
    with pytest.raises(InvalidImage) as caught:
        open_image(str(path), scratch=scratch)
    assert caught.value.message.isprintable()


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("app.tar", "app:v1"),
        ("app.tar.gz", "app:v1"),
        ("app.oci.tar.zst", "app:v1"),
        ("App-2.1.TXZ", "app-2.1:v1"),
        ("app", "app:v1"),
        ("my app.tar", None),
        (".tar", None),
    ],
)
def test_the_file_names_an_image_that_has_a_tag_only(
    tmp_path: Path, scratch: Path, file: str, expected: str | None
) -> None:
    path = write_tar(tmp_path / file, layout([entry(MADE, "v1")], *contents(MADE)))
    with open_image(f"{path}:v1", scratch=scratch) as source:
        assert source.names == ((expected,) if expected else ())


# dir: directories that lie


def directory(**changed: bytes) -> Members:
    return [(name, changed.get(name.partition(".")[0], data)) for name, data in DIRECTORY]


@pytest.mark.parametrize(
    ("members", "message"),
    [
        pytest.param(directory(version=b"Directory Transport Version: 2.0\n"), "version", id="2"),
        pytest.param(directory(manifest=b"{}"), "neither a manifest", id="empty"),
        pytest.param(directory(manifest=b'{"schemaVersion":1}'), "schema 1", id="schema1"),
        pytest.param(DIRECTORY[:-1], "missing", id="layer-missing"),
        pytest.param([DIRECTORY[1], *DIRECTORY[3:]], "missing", id="config-missing"),
        pytest.param(
            [*DIRECTORY, (sha256(MADE.config), MADE.config[::-1])], "expected sha256", id="config"
        ),
    ],
)
def test_a_directory_that_lies_is_refused(
    tmp_path: Path, scratch: Path, members: Members, message: str
) -> None:
    path = write_tar(tmp_path / "x.tar", members)
    with pytest.raises(InvalidImage, match=message):
        open_image(str(path), scratch=scratch)


def test_a_directory_of_several_platforms(tmp_path: Path, scratch: Path) -> None:
    kind = "application/vnd.oci.image"
    other = image("other", architecture="mips")
    manifests = [
        descriptor(
            f"{kind}.manifest.v1+json",
            made.manifest(),
            platform={"os": "linux", "architecture": made.architecture},
        )
        for made in (other, image("absent", architecture="riscv64"))
    ]
    index = to_json(
        {"schemaVersion": 2, "mediaType": f"{kind}.index.v1+json", "manifests": manifests}
    )
    path = write_directory(
        tmp_path / "x",
        [
            ("manifest.json", index),
            (f"{sha256(other.manifest())}.manifest.json", other.manifest()),
            *((sha256(data), data) for data in (other.config, *other.layers)),
        ],
    )
    with open_image(str(path), platform=Platform.parse("mips"), scratch=scratch) as source:
        assert source.config_digest == Digest.of(other.config)
    with pytest.raises(ImageNotFound, match="there is one for linux/mips"):
        open_image(str(path), platform=Platform.parse("riscv64"), scratch=scratch)
