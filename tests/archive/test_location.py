"""What is written on a command line is a path, and perhaps a choice behind it."""

import os
from pathlib import Path

import pytest

from overlayfs.archive.location import Location, Transport


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, with some files."""
    monkeypatch.chdir(tmp_path)
    for name in ("x.tar", "with:colon", "with:colon:more", "at@1", "name@host.tar", "oci:odd"):
        (tmp_path / name).touch()
    (tmp_path / "layout").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("spec", "path", "transport", "selector"),
    [
        ("x.tar", "x.tar", None, None),
        ("./x.tar", "./x.tar", None, None),
        ("x.tar:tag", "x.tar", None, "tag"),
        ("x.tar:name:tag", "x.tar", None, "name:tag"),
        ("x.tar:example.org:5000/a/b:tag", "x.tar", None, "example.org:5000/a/b:tag"),
        ("x.tar@3", "x.tar", None, 3),
        ("x.tar:@3", "x.tar", None, 3),
        ("x.tar@0", "x.tar", None, 0),
        ("layout/:tag", "layout", None, "tag"),
        ("with:colon", "with:colon", None, None),
        ("with:colon:more", "with:colon:more", None, None),
        ("with:colon:other", "with:colon", None, "other"),
        ("at@1", "at@1", None, None),
        ("at@1@1", "at@1", None, 1),
        ("name@host.tar:x", "name@host.tar", None, "x"),
        ("docker-archive:x.tar", "x.tar", Transport.DOCKER_ARCHIVE, None),
        ("docker-archive:x.tar:name:tag", "x.tar", Transport.DOCKER_ARCHIVE, "name:tag"),
        ("docker-archive:x.tar:@1", "x.tar", Transport.DOCKER_ARCHIVE, 1),
        ("oci-archive:x.tar:tag", "x.tar", Transport.OCI_ARCHIVE, "tag"),
        ("oci:layout:tag", "layout", Transport.OCI, "tag"),
        ("dir:layout", "layout", Transport.DIR, None),
        ("./oci:odd", "./oci:odd", None, None),
        (".", ".", None, None),
        ("/", "/", None, None),
    ],
)
def test_the_longest_path_that_exists(
    folder: Path,
    spec: str,
    path: str,
    transport: Transport | None,
    selector: str | int | None,
) -> None:
    assert Location.parse(spec) == Location(Path(path), transport, selector)


@pytest.mark.parametrize(
    "spec",
    [
        "",
        ":",
        "@",
        "@1",
        "gone",
        "gone:tag",
        "busybox:latest",
        "x.tar:",
        "x.tar@",
        "x.tar@x",
        "x.tar@-1",
        "x.tar@1234567890",
        "x.tar/below",
        "oci:gone",
        "oci:",
        "oci:odd",
        "a\0b",
        "docker://busybox",
    ],
)
def test_what_names_no_file(folder: Path, spec: str) -> None:
    assert Location.parse(spec) is None


def test_a_path_that_cannot_be_looked_at_is_one(tmp_path: Path) -> None:
    loop = tmp_path / "loop"
    loop.symlink_to("loop")
    assert Location.parse(str(loop)) == Location(loop)
    assert Location.parse(f"{tmp_path}/{'n' * 300}") is not None


def test_non_utf8_paths(tmp_path: Path) -> None:
    path = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.tar")
    Path(path).touch()
    assert Location.parse(f"{path}:tag") == Location(Path(path), None, "tag")
