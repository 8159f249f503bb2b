"""The images that are measured: a small and a large one, each made once."""

import random
import shutil
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.images import Workshop, busybox_root, debian_root, run

LAYERS = 3
FILES_PER_LAYER = 13_000


@dataclass(frozen=True, slots=True)
class Image:
    """One image in two forms, and what is in it."""

    name: str
    layout: Path  # OCI layout with gzip layers: what umoci reads
    oci_archive: Path  # the same in a tar
    docker_archive: Path  # plain layers, as `docker save` writes them
    layers: int
    files: int
    unpacked: int


def images(work: Path) -> Iterator[Image]:
    """Both images; what is in *work* from an earlier run is used again."""
    for name, build in (("small", build_small), ("large", build_large)):
        folder = work / "images" / name
        if not (folder / "complete").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            _make(folder, build)
            (folder / "complete").touch()
        yield _described(name, folder)


def build_small(shop: Workshop) -> str:
    """busybox and a handful of files, two layers."""
    shop.build("small-base", "scratch", busybox_root)
    shop.build("small", "small-base", lambda root: _write(root / "etc/motd", b"hello\n"))
    return "localhost/small"


def build_large(shop: Workshop) -> str:
    """A minimal Debian, and layers of many files cut from what is in it.

    So their contents compress as programs and texts do.  Sizes are spread as in a file
    system: most are small, few are large.
    """
    archive = debian_root(shop.folder)
    container = shop.buildah("from", "scratch")
    shop.buildah("add", "--quiet", container, archive, "/")
    shop.buildah("commit", "--quiet", "--format=oci", container, "large-0")
    shop.buildah("rm", container)
    corpus = _corpus(archive)
    for number in range(1, LAYERS + 1):
        shop.build(f"large-{number}", f"large-{number - 1}", _files(number, corpus))
    return f"localhost/large-{LAYERS}"


def _files(number: int, corpus: bytes) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        random_ = random.Random(number)
        for at in range(FILES_PER_LAYER):
            folder = root / f"opt/tree-{number}/{at % 40}/{at // 40 % 25}"
            folder.mkdir(parents=True, exist_ok=True)
            length = min(int(random_.lognormvariate(8.1, 1.6)), 4 << 20)
            start = random_.randrange(len(corpus) - length)
            (folder / f"file-{at}").write_bytes(corpus[start : start + length])
        # What a package manager leaves in every layer: something deleted, something replaced.
        if number > 1:
            shutil.rmtree(root / f"opt/tree-{number - 1}/0")
            _write(root / f"opt/tree-{number - 1}/1/0/file-1", b"replaced\n")

    return change


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def _corpus(archive: Path) -> bytes:
    """Programs and texts of the root in *archive*, one after the other."""
    found = []
    with tarfile.open(archive) as tar:
        for member in tar:
            if member.isreg() and 1000 < member.size < 4_000_000:
                file = tar.extractfile(member)
                assert file is not None
                found.append(file.read())
    return b"".join(found)


def _make(folder: Path, build: Callable[[Workshop], str]) -> None:
    shop = Workshop(folder / "workshop")
    shop.folder.mkdir()
    source = shop.stored(build(shop))
    for target in (
        f"oci:{folder}/layout:image",
        f"oci-archive:{folder}/oci.tar:image:latest",
        f"docker-archive:{folder}/docker.tar:image:latest",
    ):
        run("skopeo", "copy", "--quiet", source, target)
    shutil.rmtree(shop.folder)


def _described(name: str, folder: Path) -> Image:
    layers = files = unpacked = 0
    with tarfile.open(folder / "docker.tar") as archive:
        for blob in archive.getmembers():
            if not blob.isreg() or not blob.name.endswith(".tar"):
                continue
            layers += 1
            stream = archive.extractfile(blob)
            with tarfile.open(fileobj=stream) as layer:
                for member in layer:
                    files += 1
                    unpacked += member.size
    return Image(
        name=name,
        layout=folder / "layout",
        oci_archive=folder / "oci.tar",
        docker_archive=folder / "docker.tar",
        layers=layers,
        files=files,
        unpacked=unpacked,
    )
