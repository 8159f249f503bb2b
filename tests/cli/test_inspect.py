"""Images that leave things out, say too much, or lie in files; tests/real asks the peers."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from overlayfs.archive.detect import open_image
from overlayfs.store.store import Store
from tests.support.archives import Made, from_1_10, image, write_tar
from tests.support.command import PyOverlay

FULL = image(
    "one",
    "two",
    created="2024-01-02T03:04:05Z",
    author="somebody",
    config={
        "Env": ["A=1"],
        "Cmd": ["run", "two words"],
        "Healthcheck": {"Test": ["CMD", "true"], "Interval": 1_500_000_000, "Retries": 3},
        "OnBuild": ["RUN x", "RUN y"],
        "Shell": ["/bin/sh", "-c"],
        "ArgsEscaped": True,
        "Labels": {"k": "v"},
    },
    history=[
        {"created_by": "ADD one", "created": "2024-01-01T00:00:00Z", "comment": "first"},
        {"created_by": "ENV A=1", "empty_layer": True},
        {"created_by": "ADD two\tand " + "more " * 20, "author": "x", "comment": "last"},
    ],
)


def archive(folder: Path, made: Made, *names: str) -> Path:
    return write_tar(folder / "image.tar", from_1_10([(made, names)]))


def inspected(pyoverlay: PyOverlay, *words: str | Path) -> Any:
    (found,) = json.loads(pyoverlay.ok("inspect", *words))
    return found


def history(pyoverlay: PyOverlay, *words: str | Path) -> list[list[str]]:
    form = "{{.Layer}} {{.CreatedBy}} {{.Size}} {{.MetadataOnly}} {{.ID}}"
    lines = pyoverlay.ok("history", "--format", form, *words).splitlines()
    return [line.split(" ") for line in lines]


def test_the_shape_is_dockers(pyoverlay: PyOverlay, tmp_path: Path) -> None:
    found = inspected(pyoverlay, archive(tmp_path, FULL, "full:1", "localhost/full:2"))
    layers = json.loads(FULL.config)["rootfs"]["diff_ids"]
    assert found == {
        "Id": FULL.id,
        "RepoTags": ["full:1", "localhost/full:2"],
        "RepoDigests": [],
        "Digest": "",
        "Comment": "last",
        "Created": "2024-01-02T03:04:05Z",
        "Author": "somebody",
        "Config": {
            "User": "",
            "ExposedPorts": {},
            "Env": ["A=1"],
            "Entrypoint": [],
            "Cmd": ["run", "two words"],
            "Volumes": {},
            "WorkingDir": "",
            "Labels": {"k": "v"},
            "StopSignal": "",
            "ArgsEscaped": True,
            "Healthcheck": {
                "Test": ["CMD", "true"],
                "Interval": 1_500_000_000,
                "Timeout": 0,
                "StartPeriod": 0,
                "StartInterval": 0,
                "Retries": 3,
            },
            "OnBuild": ["RUN x", "RUN y"],
            "Shell": ["/bin/sh", "-c"],
        },
        "Architecture": "amd64",
        "Variant": "",
        "Os": "linux",
        "OsVersion": "",
        "Size": None,
        "RootFS": {"Type": "layers", "Layers": layers},
        "Descriptor": None,
        "Annotations": {},
        "Platform": "linux/amd64",
        "Layers": [
            {
                "Number": number,
                "DiffID": diff_id,
                "Digest": diff_id,
                "MediaType": "application/vnd.docker.image.rootfs.diff.tar",
                "Size": len(FULL.layers[number - 1]),
                "UnpackedSize": None,
                "Entries": None,
                "Path": "",
                "CreatedBy": step["created_by"],
            }
            for number, (diff_id, step) in enumerate(
                zip(layers, (FULL.more["history"][0], FULL.more["history"][2]), strict=True), 1
            )
        ],
        "History": [
            {
                "created": step.get("created", ""),
                "created_by": step["created_by"],
                "author": step.get("author", ""),
                "comment": step.get("comment", ""),
                "empty_layer": step.get("empty_layer", False),
                "layer": layer,
            }
            for step, layer in zip(FULL.more["history"], (1, None, 2), strict=True)
        ],
    }


def test_the_store_knows_more_of_layers(pyoverlay: PyOverlay, tmp_path: Path) -> None:
    path = archive(tmp_path, FULL, "full:1")
    with open_image(str(path), scratch=tmp_path) as source:
        Store.open(pyoverlay.store).add(source)
    found = inspected(pyoverlay, "full:1")
    assert found["Size"] == 6
    manifest = found["Descriptor"]["digest"]
    assert found["Digest"] == manifest
    assert found["RepoDigests"] == [f"full@{manifest}"]
    assert [Path(layer["Path"], "file").read_text() for layer in found["Layers"]] == ["one", "two"]
    assert [(layer["UnpackedSize"], layer["Entries"]) for layer in found["Layers"]] == [(3, 1)] * 2
    raw = pyoverlay.ok("inspect", "--raw", "full:1")
    blobs = pyoverlay.store / "blobs/sha256"
    assert raw == (blobs / manifest.removeprefix("sha256:")).read_text()
    assert pyoverlay.ok("inspect", "--config", "full:1") == FULL.config.decode()
    assert inspected(pyoverlay, FULL.id) == inspected(pyoverlay, manifest) == found


def test_several_images_and_forms(pyoverlay: PyOverlay, tmp_path: Path) -> None:
    path = archive(tmp_path, FULL, "full:1")
    assert len(json.loads(pyoverlay.ok("inspect", path, path))) == 2
    for words in (["--json"], ["--format", "json"], ["-f", ""]):
        assert inspected(pyoverlay, *words, path) == inspected(pyoverlay, path)
    assert pyoverlay.ok("inspect", "-f", "{{.Id}}", path, path) == f"{FULL.id}\n" * 2
    lines = [line.split(maxsplit=1) for line in pyoverlay.ok("inspect", "-s", path).splitlines()]
    assert ["Names", "full:1"] in lines
    assert ["Command", "run 'two words'"] in lines
    assert "Health check  CMD true (every 1.5 s, 3 retries)" in pyoverlay.ok("inspect", "-s", path)


@pytest.mark.parametrize(
    ("words", "code", "complaint"),
    [
        (["--raw", "IMAGE"], 1, "has no manifest"),
        (["--raw", "IMAGE", "IMAGE"], 1, "take one IMAGE"),
        (["--raw", "--config", "IMAGE"], 1, "exclude each other"),
        (["--format", "{{.Nope}}", "IMAGE"], 1, "--format: no field .Nope; there are Id, RepoTags"),
        (["--format", "{{", "IMAGE"], 1, "--format: unclosed {{"),
        (["IMAGE:no"], 1, "no image no"),
        (["nothing"], 1, "nothing: no such file, and no image of that name"),
        ([], 1, "Missing argument"),
    ],
)
def test_what_cannot_be_shown_is_said(
    pyoverlay: PyOverlay, tmp_path: Path, words: list[str], code: int, complaint: str
) -> None:
    path = str(archive(tmp_path, FULL, "full:1"))
    done = pyoverlay("inspect", *(word.replace("IMAGE", path) for word in words))
    assert (done.returncode, done.stdout) == (code, "")
    assert complaint in done.stderr


def test_history_is_newest_first_and_marks_what_changed_no_file(
    pyoverlay: PyOverlay, tmp_path: Path
) -> None:
    path = archive(tmp_path, FULL, "full:1")
    head, *rows = [line.split("  ") for line in pyoverlay.ok("history", path).splitlines()]
    assert [word.strip() for word in head if word] == [
        *("LAYER", "DIFF ID", "CREATED", "CREATED BY", "SIZE", "COMMENT"),
    ]
    cells = [[cell.strip() for cell in row if cell] for row in rows]
    diff_ids = [layer["DiffID"][7:19] for layer in inspected(pyoverlay, path)["Layers"]]
    size = f"{len(FULL.layers[0]) / 1000:.3g} kB (tar)"
    shortened = f"ADD two and {'more ' * 20}"[:44] + "…"
    assert [row[:2] + row[3:] for row in cells] == [
        ["2", diff_ids[1], shortened, size, "last"],
        ["-", "-", "ENV A=1", "metadata"],
        ["1", diff_ids[0], "ADD one", size, "first"],
    ]
    assert pyoverlay.ok("history", "-q", path).split() == diff_ids[::-1]
    ids = [step["diff_id"] for step in pyoverlay.json("history", path) if step["diff_id"]]
    assert pyoverlay.ok("history", "-q", "--no-trunc", path).split() == ids
    full = pyoverlay.ok("history", "--no-trunc", path)
    assert f"ADD two and {'more ' * 20}".strip() in full
    assert ids[0] in full


def test_sizes_and_times_for_programs(pyoverlay: PyOverlay, tmp_path: Path) -> None:
    path = archive(tmp_path, FULL, "full:1")
    form = ("--format", "{{.Size}} {{.CreatedAt}}")
    exact = [f"{len(FULL.layers[1])} ", "metadata ", f"{len(FULL.layers[0])} 2024-01-01T00:00:00Z"]
    assert pyoverlay.ok("history", "--human=false", *form, path).splitlines() == exact
    human = pyoverlay.ok("history", *form, path)
    assert human.endswith(" (tar) 2024-01-01 00:00:00 +0000 UTC\n")
    for flag in ("--human", "-H", "--human=true"):
        assert pyoverlay.ok("history", flag, *form, path) == human
    rows = [
        json.loads(line) for line in pyoverlay.ok("history", "--format=json", path).split("\n")[:-1]
    ]
    assert [row["ID"] for row in rows] == [FULL.id[7:19], "<missing>", "<missing>"]
    assert [row["MetadataOnly"] for row in rows] == [False, True, False]


STEP = {"created_by": "step"}
EMPTY = {"created_by": "empty", "empty_layer": True}


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        pytest.param(None, [["2", ""], ["1", ""]], id="no-history"),
        pytest.param([STEP, EMPTY], [["2", ""], ["-", "empty"], ["1", "step"]], id="too-few"),
        pytest.param(
            [STEP, STEP, STEP], [["-", "step"], ["2", "step"], ["1", "step"]], id="too-many"
        ),
    ],
)
def test_a_history_that_does_not_fit_is_shown_as_far_as_it_goes(
    pyoverlay: PyOverlay, tmp_path: Path, steps: Any, expected: list[list[str]]
) -> None:
    path = archive(tmp_path, image("one", "two", history=steps), "odd:1")
    rows = history(pyoverlay, path)
    assert [row[:2] for row in rows] == expected
    marks = {row[1]: (row[2], row[-2]) for row in rows if row[0] == "-"}
    assert marks.get("step", ("-", "false")) == ("-", "false")
    assert marks.get("empty", ("metadata", "true")) == ("metadata", "true")
    assert inspected(pyoverlay, path)["Comment"] == ""


NASTY = "\x1b]0;owned\x07\x1b[31m\u202e"


@pytest.fixture
def nasty(tmp_path: Path) -> Path:
    """An image that says what terminals obey wherever it can say anything."""
    words = [NASTY]
    made = image(
        "x",
        created=NASTY,
        author=NASTY,
        config={
            **dict.fromkeys(("Env", "Cmd", "Entrypoint", "OnBuild", "Shell"), words),
            **dict.fromkeys(("User", "WorkingDir", "StopSignal"), NASTY),
            "Labels": {NASTY: NASTY},
            "Volumes": {NASTY: {}},
            "ExposedPorts": {NASTY: {}},
            "Healthcheck": {"Test": words},
        },
        history=[{"created_by": NASTY, "comment": NASTY, "author": NASTY}],
        os=NASTY,
        variant=NASTY,
    )
    return archive(tmp_path, made, "nasty:1")


@pytest.mark.parametrize(
    "words",
    [
        ["inspect"],
        ["inspect", "--summary"],
        ["inspect", "--format", "{{.}}"],
        ["inspect", "--format", "{{json .}}"],
        ["inspect", "--format", "{{range .Config.Env}}{{println .}}{{end}}"],
        ["history"],
        ["history", "--no-trunc"],
        ["history", "--json"],
        ["history", "--format", "{{.CreatedBy}}\\t{{.Comment}}"],
        ["history", "--format", "table {{.CreatedBy}}\\t{{.Comment}}"],
        ["history", "--format", "json"],
    ],
)
def test_nothing_an_image_says_moves_the_terminal(
    pyoverlay: PyOverlay, nasty: Path, words: list[str]
) -> None:
    ours, theirs = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-m", "overlayfs", *words, nasty],
        env=os.environ | {"PYOVERLAY_ROOT": str(pyoverlay.store)},
        stdout=theirs,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(theirs)
    shown = os.read(ours, 1 << 16).decode()
    os.close(ours)
    assert done.returncode == 0, done.stderr
    assert "owned" in shown
    assert not {"\x1b", "\x07", "\u202e"} & set(shown)
