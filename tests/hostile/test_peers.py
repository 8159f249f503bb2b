"""What others make of some of the corpus, so that it is known when that changes."""

import subprocess
import tempfile
from pathlib import Path
from typing import Any

from tests.hostile.case import Ground
from tests.hostile.corpus.every import CASES
from tests.support.archives import (
    OCI,
    Made,
    descriptor,
    layout,
    to_json,
    write_directory,
)
from tests.support.images import run
from tests.support.layers import file, folder, symlink, tar

ONE = Made((tar(file("a", b"1")),))


def oci(path: Path, layers: tuple[bytes, ...], config: bytes | None = None) -> Path:
    """A layout of *layers*, whose configuration may be another's."""
    config = config or Made(layers).config
    manifest = to_json(
        {
            "schemaVersion": 2,
            "mediaType": f"{OCI}.manifest.v1+json",
            "config": descriptor(f"{OCI}.config.v1+json", config),
            "layers": [descriptor(f"{OCI}.layer.v1.tar", layer) for layer in layers],
        }
    )
    name: dict[str, Any] = {"org.opencontainers.image.ref.name": "1"}
    entry = descriptor(f"{OCI}.manifest.v1+json", manifest, annotations=name)
    return write_directory(path, layout([entry], manifest, config, *layers))


def umoci(path: Path, target: Path) -> subprocess.CompletedProcess[str]:
    """What umoci says when it unpacks the layout *path*."""
    return subprocess.run(
        ["umoci", "unpack", "--image", f"{path}:1", target],
        capture_output=True,
        text=True,
        check=False,
    )


def test_umoci_panics_on_too_few_diff_ids(tmp_path: Path, needs_root: None) -> None:
    done = umoci(oci(tmp_path / "few", ONE.layers, Made(()).config), tmp_path / "out")
    assert done.returncode == 2
    assert "index out of range" in done.stderr
    assert "goroutine" in done.stderr


def test_umoci_takes_too_many_diff_ids(tmp_path: Path, needs_root: None) -> None:
    config = Made(ONE.layers * 2).config
    assert umoci(oci(tmp_path / "many", ONE.layers, config), tmp_path / "out").returncode == 0


def test_umoci_refuses_a_root_that_is_a_link(tmp_path: Path, needs_root: None) -> None:
    done = umoci(oci(tmp_path / "root", (tar(symlink(".", "/tmp")),)), tmp_path / "out")
    assert "malicious tar entry" in done.stderr


def podman(image: Path) -> list[str]:
    """The names that podman shows of the layout *image*, with the kernel's overlayfs."""
    # Its paths must be short.
    with tempfile.TemporaryDirectory() as base:
        own = ("podman", f"--root={base}/st", f"--runroot={base}/r", "--storage-driver=overlay")
        name = run(*own, "pull", "-q", f"oci:{image}:1").split()[-1]
        root = Path(run(*own, "image", "mount", name).split()[-1])
        try:
            return sorted(str(path.relative_to(root)) for path in root.rglob("*"))
        finally:
            run(*own, "image", "umount", "--force", name)


def test_podman_obeys_attributes_of_a_layer(
    tmp_path: Path, needs_root: None, needs_kernel_overlay: None
) -> None:
    fields = {"SCHILY.xattr.trusted.overlay.opaque": "y"}
    layers = (tar(file("d/low", b"1")), tar(folder("d", pax=fields), file("d/new", b"2")))
    assert podman(oci(tmp_path / "image", layers)) == ["d", "d/new"]
    # Ours shows d/low: the case overlay-trusted-opaque.
    [case] = [case for case in CASES if case.name == "overlay-trusted-opaque"]
    assert case.tree is not None
    assert "d/low" in case.tree(Ground(tmp_path))


def test_podman_takes_a_root_that_is_a_link(
    tmp_path: Path, needs_root: None, needs_kernel_overlay: None
) -> None:
    assert podman(oci(tmp_path / "image", (tar(symlink(".", "/tmp")),))) == []
