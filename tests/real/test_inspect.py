"""What we say of an image is what podman, skopeo and umoci say of it, field by field."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.command import PyOverlay
from tests.support.images import Workshop, busybox, run

BASE = r"""
FROM scratch
MAINTAINER Jane Doe <jane@example.org>
COPY busybox /bin/busybox
ENV A=1 B="two words"
ENTRYPOINT ["/bin/busybox","sh","-c"]
CMD ["echo hi"]
EXPOSE 80 53/udp
VOLUME ["/data", "/var/log"]
LABEL org.example.name="a b" k=v
STOPSIGNAL SIGINT
WORKDIR /work
USER 1:2
SHELL ["/bin/busybox", "sh", "-c"]
HEALTHCHECK --interval=30s --timeout=5s --retries=3 --start-period=1m CMD true
ONBUILD ENV Z=1
"""
TOP = r"""
FROM localhost/FORM-base:1
ENV C=3
COPY text /text
LABEL more=yes
HEALTHCHECK --interval=10s CMD ["/bin/busybox", "true"]
USER nobody
"""


@pytest.fixture(scope="module")
def built(shop: Workshop) -> dict[str, str]:
    """Images by buildah in Docker's and in OCI's form, with all that a Dockerfile can say."""
    context = shop.folder / "dockerfiles"
    context.mkdir()
    (context / "busybox").write_bytes(busybox().read_bytes())
    (context / "text").write_text("some text\n")
    names = {}
    for form in ("docker", "oci"):
        for name, text in (("base", BASE), ("top", TOP)):
            names[f"{form}-{name}"] = tag = f"localhost/{form}-{name}:1"
            (context / name).write_text(text.replace("FORM", form))
            shop.buildah(
                *("build", "--quiet", "--layers", f"--format={form}", "--tag", tag),
                *("--file", context / name, context),
            )
    return names


@pytest.fixture(params=["docker-base", "docker-top", "oci-base", "oci-top"])
def name(request: pytest.FixtureRequest, built: dict[str, str]) -> str:
    """The name of one of them."""
    return built[str(request.param)]


@pytest.fixture
def saved(shop: Workshop, name: str, tmp_path: Path) -> Path:
    """That image as skopeo writes it, with the manifest's bytes as they are."""
    run("skopeo", "copy", "--quiet", shop.stored(name), f"dir:{tmp_path}/saved")
    return tmp_path / "saved"


@pytest.fixture
def stored(pyoverlay: PyOverlay, shop: Workshop, name: str, tmp_path: Path) -> str:
    """Its name in our store."""
    archive = tmp_path / "image.tar"
    run("skopeo", "copy", "--quiet", shop.stored(name), f"docker-archive:{archive}:{name}")
    pyoverlay.ok("load", "--input", archive)
    return name


def inspected(pyoverlay: PyOverlay, *words: str | Path) -> Any:
    (found,) = pyoverlay.json("inspect", *words)
    return found


def same(ours: Any, theirs: Any) -> bool:
    """Equal, when what is not there and what is empty are the same."""
    return (ours or None) == (theirs or None)


def test_inspect_says_what_podman_says(
    pyoverlay: PyOverlay, shop: Workshop, name: str, saved: Path, stored: str
) -> None:
    (theirs,) = json.loads(shop.podman("inspect", "--type=image", name))
    in_file, in_store = inspected(pyoverlay, saved), inspected(pyoverlay, stored)
    for ours in (in_file, in_store):
        assert ours["Id"] == f"sha256:{theirs['Id']}"
        for key in ("Created", "Author", "Architecture", "Os", "RootFS"):
            assert ours[key] == theirs[key], key
        for key in ("Env", "Entrypoint", "Cmd", "ExposedPorts", "Volumes", "Labels"):
            assert same(ours["Config"][key], theirs["Config"].get(key)), key
        for key in ("User", "WorkingDir", "StopSignal"):
            assert same(ours["Config"][key], theirs["Config"].get(key)), key
        health = ours["Config"]["Healthcheck"] or {}
        assert {key: value for key, value in health.items() if value} == theirs.get(
            "Healthcheck", {}
        )
        assert [
            {key: value for key, value in entry.items() if value and key != "layer"}
            for entry in ours["History"]
        ] == theirs["History"]
    assert in_file["Digest"] == theirs["Digest"]
    assert in_file["Descriptor"]["mediaType"] == theirs["ManifestType"]
    assert in_store["RepoTags"] == theirs["RepoTags"]
    files = (10 if "top" in name else 0) + busybox().stat().st_size
    assert in_store["Size"] == files <= theirs["Size"]


def test_config_and_raw_are_the_bytes_that_skopeo_gives(
    pyoverlay: PyOverlay, saved: Path, stored: str
) -> None:
    source = f"dir:{saved}"
    config = run("skopeo", "inspect", "--config", "--raw", source)
    assert pyoverlay.ok("inspect", "--config", saved) == config
    assert pyoverlay.ok("inspect", "--config", stored) == config
    assert pyoverlay.ok("inspect", "--raw", saved) == run("skopeo", "inspect", "--raw", source)


def test_what_only_dockers_form_can_say_is_shown(
    pyoverlay: PyOverlay, built: dict[str, str], shop: Workshop, tmp_path: Path
) -> None:
    saved = tmp_path / "saved"
    run("skopeo", "copy", "--quiet", shop.stored(built["docker-base"]), f"dir:{saved}")
    raw = json.loads(run("skopeo", "inspect", "--config", "--raw", f"dir:{saved}"))["config"]
    ours = inspected(pyoverlay, saved)["Config"]
    assert ours["OnBuild"] == raw["OnBuild"] == ["ENV Z=1"]
    assert ours["Shell"] == raw["Shell"] == ["/bin/busybox", "sh", "-c"]
    assert ours["Healthcheck"] == raw["Healthcheck"] | {"StartInterval": 0}
    assert ours["Healthcheck"]["Interval"] == 30_000_000_000


def test_layers_are_those_of_the_manifest(
    pyoverlay: PyOverlay, shop: Workshop, name: str, tmp_path: Path
) -> None:
    layout = tmp_path / "layout"
    run("skopeo", "copy", "--quiet", "--format=oci", shop.stored(name), f"oci:{layout}:x")
    manifest = json.loads(run("skopeo", "inspect", "--raw", f"oci:{layout}:x"))
    config = json.loads(run("skopeo", "inspect", "--config", f"oci:{layout}:x"))
    layers = inspected(pyoverlay, layout)["Layers"]
    assert [
        {"mediaType": layer["MediaType"], "digest": layer["Digest"], "size": layer["Size"]}
        for layer in layers
    ] == manifest["layers"]
    assert [layer["DiffID"] for layer in layers] == config["rootfs"]["diff_ids"]
    made = [step["created_by"] for step in config["history"] if not step.get("empty_layer")]
    assert [layer["CreatedBy"] for layer in layers] == made
    assert [layer["Number"] for layer in layers] == [*range(1, len(layers) + 1)]


def test_history_says_what_umoci_says(
    pyoverlay: PyOverlay, shop: Workshop, name: str, tmp_path: Path
) -> None:
    layout = tmp_path / "layout"
    run("skopeo", "copy", "--quiet", "--format=oci", shop.stored(name), f"oci:{layout}:x")
    theirs = json.loads(run("umoci", "stat", "--json", "--image", f"{layout}:x"))["history"]
    ours = pyoverlay.json("history", layout)[::-1]
    assert len(ours) == len(theirs)
    for our, their in zip(ours, theirs, strict=True):
        for key in ("created", "created_by", "author", "comment"):
            assert our[key] == their.get(key, ""), key
        assert our["metadata_only"] is their.get("empty_layer", False)
        assert (our["diff_id"] or "") == their["diff_id"]
        blob = their["layer"] or {}
        assert (our["blob"], our["blob_size"]) == (blob.get("digest"), blob.get("size"))
        assert our["media_type"] == blob.get("mediaType")


def test_history_says_what_podman_says(
    pyoverlay: PyOverlay, shop: Workshop, name: str, saved: Path, stored: str
) -> None:
    theirs = json.loads(shop.podman("history", "--format=json", name))
    for source in (saved, stored):
        ours = pyoverlay.json("history", source)
        assert [(step["created"], step["created_by"], step["comment"]) for step in ours] == [
            (step["created"], step["CreatedBy"], step.get("comment", "")) for step in theirs
        ]
        # Which of them made a layer: podman's size of that is the tar's.
        assert [not step["metadata_only"] for step in ours] == [step["size"] > 0 for step in theirs]
    assert [step["blob_size"] or 0 for step in pyoverlay.json("history", saved)] == [
        step["size"] for step in theirs
    ]


@pytest.mark.parametrize(
    "template",
    [
        "{{.Architecture}}/{{.Os}} {{.Author}}",
        "{{.Config.Env}} {{.Config.Cmd}} {{len .RootFS.Layers}}",
        "{{.Config.ExposedPorts}} {{.Config.Labels.k}}",
        "{{json .Config.Env}}{{json .Config.Labels}}",
        '{{index .Config.Labels "org.example.name"}}|{{index .Config.Labels "none"}}|',
        "{{range .Config.Env}}{{println .}}{{end}}",
        "{{range $i, $e := .Config.Entrypoint}}{{if $i}} {{end}}{{$e}}{{end}}",
        "{{range $k, $v := .Config.Labels}}{{$k}}={{$v}};{{end}}",
        '{{join .Config.Env ","}} {{upper .Os}} {{.Os | printf "%-8s|"}}',
        "{{if .Config.Volumes}}volumes{{else}}none{{end}} {{with .Config.User}}{{.}}{{end}}",
        "{{(index .RootFS.Layers 0)}} {{slice (index .RootFS.Layers 0) 7 19}}",
        '{{if and (eq .Os "linux") (not (eq .Author "x"))}}x{{end}}',
        "{{$a := .Author}}{{range .Config.Cmd}}{{$a}}: {{.}}{{end}}",
        "{{- .Os -}}  \n  {{/* nothing */}}{{`raw`}}",
    ],
)
def test_templates_give_what_podman_makes_of_them(
    pyoverlay: PyOverlay, shop: Workshop, built: dict[str, str], tmp_path: Path, template: str
) -> None:
    name = built["docker-top"]
    run("skopeo", "copy", "--quiet", shop.stored(name), f"dir:{tmp_path}/saved")
    theirs = shop.podman("image", "inspect", "--format", template, name)
    assert pyoverlay.ok("inspect", "--format", template, tmp_path / "saved").strip() == theirs


def test_lists_show_what_podman_lists(
    pyoverlay: PyOverlay, shop: Workshop, name: str, stored: str
) -> None:
    form = "{{.Repository}} {{.Tag}} {{.ID}}"
    theirs = shop.podman("images", "--format", form, "--filter", f"reference={name}")
    assert pyoverlay.ok("images", "--format", form, name).strip() == theirs


def test_nothing_is_taken_into_a_store_that_is_not_there(
    pyoverlay: PyOverlay, saved: Path, tmp_path: Path
) -> None:
    for words in (["inspect", saved], ["inspect", "--summary", saved], ["history", saved]):
        pyoverlay.ok(*words)
    assert not pyoverlay.store.exists()


def test_a_mount_point_is_as_good_as_the_name(
    needs_fuse: None, pyoverlay: PyOverlay, stored: str, tmp_path: Path
) -> None:
    with pyoverlay.mounted(stored, tmp_path / "root") as root:
        assert inspected(pyoverlay, root) == inspected(pyoverlay, stored)
        assert pyoverlay.json("history", root) == pyoverlay.json("history", stored)
    done = pyoverlay("inspect", tmp_path / "root")
    assert done.returncode == 1
    assert "not an image" in done.stderr
