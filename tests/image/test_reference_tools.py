"""Names as skopeo reads them, which has Docker's own grammar, of 2022."""

import json
import subprocess
import tarfile
from pathlib import Path

import pytest

from overlayfs.errors import OverlayError
from overlayfs.image.reference import Reference
from tests.support.images import run

NAMES = [
    *("busybox", "busybox:1", "library/busybox", "docker.io/busybox", "docker.io/library/busybox"),
    *("index.docker.io/busybox", "index.docker.io/library/busybox:2", "user/app", "a/b/c:1"),
    *("docker.io/library/a/b", "docker.io/x.y/z", "docker.io:443/x", "index.docker.io:443/x"),
    *("localhost", "localhost/app", "localhost:5000/app:x", "127.0.0.1/x", "docker.io", "foo.bar"),
    *("Host.org/app", "UPPER:5000/x", "Busybox", "user/App", "a..b", "a__b", "a___b", "a---b"),
    *("a.b", "a-", "-a", "a/", "a//b", "/a", "a:b:c", "foo:bar/baz", "a:.tag", "a:_tag", "a:Tag"),
    *("example.org:port/a", "a" * 63, "a" * 64, "a" * 64 + ":x", "sha256:" + "a" * 64),
    *("a:" + "t" * 128, "a:" + "t" * 129, "x" * 237, "x" * 238, "h.io/" + "x" * 250),
    *("h.io/" + "x" * 251, "é", "a b"),
    *("[::1]:5000/app", "[fe80::1]/app:1", "HOST/app", "exa_mple.org/a"),
]

# Where skopeo 1.9 says otherwise.
KNOWN = {
    "[::1]:5000/app": "IPv6 came later (distribution/reference 0.5)",
    "[fe80::1]/app:1": "the same",
    "HOST/app": "so did upper case that makes a host",
    "exa_mple.org/a": "a path without a host to it, which nobody could pull",
}


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An OCI layout with an image ``x``."""
    path = tmp_path_factory.mktemp("names") / "layout"
    run("umoci", "init", "--layout", path)
    run("umoci", "new", "--image", f"{path}:x")
    return path


def by_skopeo(layout: Path, name: str) -> str | None:
    """What skopeo makes of *name*; None when it refuses it."""
    target = layout.parent / "out.tar"
    target.unlink(missing_ok=True)
    command = ["skopeo", "copy", "-q", f"oci:{layout}:x", f"docker-archive:{target}:{name}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        assert "parsing reference" in done.stderr, done.stderr
        return None
    with tarfile.open(target) as archive:
        listed = archive.extractfile("manifest.json")
        assert listed is not None
        (written,) = json.load(listed)[0]["RepoTags"]
        assert isinstance(written, str)
        return written


def by_us(name: str) -> str | None:
    """The same by us."""
    try:
        return Reference.parse(name).canonical
    except OverlayError:
        return None


def test_names_are_what_skopeo_takes_them_for(layout: Path) -> None:
    ours = {name: by_us(name) for name in NAMES}
    theirs = {name: by_skopeo(layout, name) for name in NAMES}
    assert {name for name in NAMES if ours[name] != theirs[name]} == KNOWN.keys()
    assert sum(one is None for one in ours.values()) > 15
