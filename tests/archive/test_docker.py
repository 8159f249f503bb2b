"""docker-archive in each of its ages, and those that lie."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from overlayfs.archive.choice import Choice
from overlayfs.archive.detect import open_image
from overlayfs.errors import AmbiguousImage, ImageNotFound, InvalidImage
from overlayfs.image.config import ImageConfig
from tests.archive.conftest import Take
from tests.support.archives import (
    Link,
    Made,
    Member,
    Members,
    before_1_10,
    blobs,
    contents,
    digest,
    entry,
    from_1_10,
    from_25,
    image,
    layout,
    sha256,
    tar_bytes,
    to_json,
    v1_id,
    write_tar,
)

ONE = image("base", "one")
TWO = image("base", "two", "base")
LAYERS = tuple(tar_bytes([(name, name.encode())]) for name in ("base", "middle", "top"))


def replaced(members: Members, **changes: Member) -> Members:
    """*members* with some of them changed, by the end of their path."""
    return [
        (name, next((new for end, new in changes.items() if name.endswith(end)), member))
        for name, member in members
    ]


def manifest_json(config: str, *layers: str, names: list[str] | None = None) -> tuple[str, bytes]:
    return "manifest.json", to_json([{"Config": config, "RepoTags": names, "Layers": layers}])


# Docker 1.10 to 24


def test_docker_1_10(take: Take) -> None:
    found = take(from_1_10([(ONE, ["app:1", "example.org/app:1"])]))
    assert found.names == ("app:1", "example.org/app:1")
    assert found.id == ONE.id
    assert found.layers == ONE.layers
    assert found.manifest is None


def test_layers_that_are_links_to_others(take: Take) -> None:
    members = from_1_10([(TWO, ["two:1"])])
    assert sum(isinstance(member, Link) for _, member in members) == 1
    assert take(members).layers == TWO.layers


def test_an_image_without_names(take: Take) -> None:
    assert take(from_1_10([(ONE, [])])).names == ()


def test_names_are_made_familiar_and_illegal_ones_left_out(take: Take) -> None:
    names = ["docker.io/library/app:1", "app:1", "<none>:<none>", "\x1b[2J", "App", "b"]
    names += [f"app:1@{ONE.id}", f"other@{ONE.id}"]
    assert take(from_1_10([(ONE, names)])).names == ("app:1", "b:latest")


SEVERAL = from_1_10([(ONE, ["one:1", "one:latest"]), (TWO, ["two:v2"]), (image("x"), [])])


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (":one:1", ONE),
        (":one", ONE),
        (":docker.io/library/one:1", ONE),
        (":two:v2", TWO),
        (":v2", TWO),
        ("@0", ONE),
        (":@1", TWO),
        ("@2", image("x")),
    ],
)
def test_one_of_several_is_chosen(take: Take, choice: str, expected: Made) -> None:
    assert take(SEVERAL, choice).id == expected.id


def test_several_are_listed_when_none_is_chosen(take: Take) -> None:
    with pytest.raises(AmbiguousImage) as caught:
        take(SEVERAL)
    first, *lines = caught.value.message.splitlines()
    assert first.endswith("app.tar: holds several images:")
    assert lines == ["  @0 one:1 one:latest", "  @1 two:v2", "  @2"]
    assert "@INDEX" in caught.value.hint


@pytest.mark.parametrize("choice", [":two", ":three:1", "@3", ":@9"])
def test_a_choice_that_is_not_there_lists_those_that_are(take: Take, choice: str) -> None:
    with pytest.raises(ImageNotFound, match=r"no image (@\d|\w+)") as caught:
        take(SEVERAL, choice)
    assert "  @1 two:v2" in caught.value.message.splitlines()


def test_names_in_a_list_cannot_obey_a_terminal(take: Take) -> None:
    with pytest.raises(AmbiguousImage) as caught:
        take(from_1_10([(ONE, ["\x1b[2Jx"]), (TWO, ["a\nb"])]))
    assert caught.value.message.splitlines()[1:] == [r"  @0 \x1b[2Jx", r"  @1 a\x0ab"]


def test_the_list_of_images(listed: Callable[[Members], list[Choice]]) -> None:
    found = listed(SEVERAL)
    assert [(one.names, one.index, str(one.id)) for one in found] == [
        (("one:1", "one:latest"), 0, ONE.id),
        (("two:v2",), 1, TWO.id),
        ((), 2, image("x").id),
    ]
    assert {str(one.platform) for one in found} == {"linux/amd64"}


def test_equal_images_listed_twice_are_one(take: Take) -> None:
    config = (f"{sha256(ONE.config)}.json", ONE.config)
    item = {"Config": config[0], "Layers": ["0", "1"]}
    items = [{**item, "RepoTags": ["a:1"]}, {**item, "RepoTags": ["b:1", "a:1"]}]
    members = [
        config,
        ("0", ONE.layers[0]),
        ("1", ONE.layers[1]),
        ("manifest.json", to_json(items)),
    ]
    assert take(members).names == ("a:1", "b:1")


@pytest.mark.parametrize(
    "name", ["config.json", f"sha256:{sha256(ONE.config)}", sha256(ONE.config), "a/b.json"]
)
def test_how_other_tools_name_the_configuration(take: Take, name: str) -> None:
    layers = [(f"{sha256(layer)}.tar.gz", gzip.compress(layer)) for layer in ONE.layers]
    members = [*layers, (name, ONE.config), manifest_json(name, *(path for path, _ in layers))]
    found = take(members)
    assert found.id == ONE.id
    assert found.layers == ONE.layers


@pytest.mark.parametrize(
    "name", [f"{'0' * 64}.json", "0" * 64, f"sha256:{'0' * 64}", f"blobs/sha256/{'0' * 64}"]
)
def test_a_configuration_that_its_name_contradicts_is_refused(take: Take, name: str) -> None:
    with pytest.raises(InvalidImage, match=r"expected sha256:0+, got sha256:"):
        take([(name, ONE.config), ("0", b""), ("1", b""), manifest_json(name, "0", "1")])


def test_the_last_of_two_members_counts(take: Take) -> None:
    members = from_1_10([(ONE, ["app:1"])])
    assert take([("manifest.json", b"[]"), *members]).id == ONE.id
    with pytest.raises(InvalidImage, match="holds no container image"):
        take([*members, ("manifest.json", b"[]")])


def broken(path: str, **changes: Any) -> Members:
    """An archive whose list has been changed."""
    members = dict(from_1_10([(ONE, ["app:1"])]))
    data = members["manifest.json"]
    assert isinstance(data, bytes)
    item = {**json.loads(data)[0], **changes}
    extra: Members = [] if path == "" else [(path, ONE.layers[0])]
    return [*members.items(), *extra, ("manifest.json", to_json([item]))]


@pytest.mark.parametrize(
    ("members", "message"),
    [
        pytest.param(broken("", Layers=["../x", "b"]), "leads out of the archive", id="dotdot"),
        pytest.param(broken("", Layers=["/etc/passwd", "b"]), "leads out", id="absolute"),
        pytest.param(broken("", Layers=["a\0b", "b"]), "NUL in a name", id="nul"),
        pytest.param(broken("", Layers=["", "b"]), "empty path", id="empty-path"),
        pytest.param(broken("x", Layers=["x", "gone"]), "gone: missing", id="layer-missing"),
        pytest.param(broken("x", Layers=["x"]), "1 layers, .* names 2", id="too-few-layers"),
        pytest.param(broken("x", Layers=["x"] * 3), "3 layers, .* names 2", id="too-many-layers"),
        pytest.param(broken("", Layers=None), "0 layers", id="no-layers"),
        pytest.param(broken("", Config="gone.json"), "gone.json: missing", id="config-missing"),
        pytest.param(broken("", Config="../etc/passwd"), "leads out", id="config-dotdot"),
        pytest.param(broken("", Config="manifest.json"), "Expected `object`", id="config-list"),
        pytest.param(broken("", Config=None), "Expected `str`", id="config-null"),
        pytest.param(broken("", RepoTags=[1]), "RepoTags", id="names-no-texts"),
        pytest.param(broken("", Layers=["\x1b]0;x\7", "b"]), r"\\x1b", id="escape-in-a-path"),
    ],
)
def test_a_list_that_lies_is_refused(take: Take, members: Members, message: str) -> None:
    with pytest.raises(InvalidImage, match=message) as caught:
        take(members)
    assert caught.value.message.isprintable()


@pytest.mark.parametrize(
    ("link", "message"),
    [
        pytest.param(Link("../../../etc/passwd"), "leads out", id="symlink-leaves"),
        pytest.param(Link("/etc/passwd"), "leads out", id="symlink-absolute"),
        pytest.param(Link("layer.tar"), "too many links", id="symlink-loop"),
        pytest.param(Link("../none"), "missing", id="symlink-dangling"),
        pytest.param(Link("/etc/passwd", hard=True), "missing", id="hard-link-absolute"),
        pytest.param(Link("../etc/passwd", hard=True), "leads out", id="hard-link-leaves"),
        pytest.param(None, "a directory", id="directory"),
    ],
)
def test_a_layer_that_leads_elsewhere_is_refused(take: Take, link: Member, message: str) -> None:
    members = replaced(from_1_10([(image("x"), ["app:1"])]), **{"layer.tar": link})
    with pytest.raises(InvalidImage, match=message):
        take(members)


def test_a_layer_with_other_bytes_is_seen_when_it_is_read(take: Take) -> None:
    members = replaced(from_1_10([(image("x"), [])]), **{"layer.tar": LAYERS[0]})
    with pytest.raises(InvalidImage, match=r"expected sha256:\w+, got"):
        take(members)


def test_a_platform_that_the_image_is_not_for(take: Take) -> None:
    members = from_1_10([(image("x", architecture="s390x"), ["app:1"])])
    assert take(members).names == ("app:1",)
    assert take(members, platform="linux/s390x").names == ("app:1",)
    with pytest.raises(ImageNotFound, match="no image for linux/arm64; there is one for linux/s39"):
        take(members, platform="linux/arm64")


def test_a_list_of_very_many_images_is_not_read_to_its_end(
    listed: Callable[[Members], list[Choice]],
) -> None:
    made = image("x", history=[{"comment": "x" * 1_000_000}])
    item = {"Config": "config", "Layers": ["layer"]}
    members: Members = [
        ("config", made.config),
        ("layer", made.layers[0]),
        ("manifest.json", to_json([item] * 10_000)),
    ]
    with pytest.raises(InvalidImage, match="do not end"):
        listed(members)


def test_an_image_of_very_many_layers_is_refused(take: Take) -> None:
    made = Made((LAYERS[0],) * 5000)
    members = [("c", made.config), ("l", LAYERS[0]), manifest_json("c", *["l"] * 5000)]
    with pytest.raises(InvalidImage, match="5000 layers, at most"):
        take(members)


# Docker 25 and later


def test_docker_25_has_a_manifest_of_its_own(take: Take) -> None:
    found = take(from_25(ONE, "app:1"))
    assert found.names == ("app:1",)
    assert found.manifest == ONE.manifest()
    assert found.layers == ONE.layers


def test_names_come_from_the_one_list_and_digests_from_the_other(take: Take) -> None:
    members = dict(from_25(ONE, "app:1"))
    data = members["manifest.json"]
    assert isinstance(data, bytes)
    members["manifest.json"] = to_json([{**json.loads(data)[0], "RepoTags": ["a:1", "b:2"]}])
    found = take(list(members.items()))
    assert found.names == ("a:1", "b:2")
    assert found.manifest == ONE.manifest()


def test_platforms_that_were_not_saved_do_not_matter(take: Take) -> None:
    """Docker lists all of an index and keeps the blobs of one platform."""
    other = image("other", architecture="arm64")
    platforms = ("amd64", "arm64")
    inner = to_json(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [
                entry(made, platform={"os": "linux", "architecture": name})
                for made, name in zip((ONE, other), platforms, strict=True)
            ],
        }
    )
    outer = {
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "digest": digest(inner),
        "size": len(inner),
    }
    members = dict(from_25(ONE, "app:1"))
    members |= dict(layout([outer], inner, *contents(ONE)))
    found = take(list(members.items()))
    assert found.manifest == ONE.manifest()
    assert found.names == ("app:1",)


def test_an_index_beside_that_knows_nothing_of_the_image(take: Take) -> None:
    members = dict(from_25(ONE, "app:1")) | dict(layout([entry(TWO)], *contents(TWO)))
    found = take(list(members.items()))
    assert found.id == ONE.id
    assert found.manifest is None


def test_a_damaged_manifest_beside_is_refused(take: Take) -> None:
    path, data = blobs(ONE.manifest())[0]
    assert isinstance(data, bytes)
    members = [*from_25(ONE, "app:1"), (path, data.replace(b"layers", b"LAYERS"))]
    with pytest.raises(InvalidImage, match=r"expected sha256:\w+, got"):
        take(members)


# Docker before 1.10

CHAIN: list[tuple[str, dict[str, Any], bytes | None]] = [
    (v1_id(1), {"created": "2015-01-01T00:00:00Z"}, LAYERS[0]),
    (v1_id(2), {"container_config": {"Cmd": ["sh", "-c", "x"]}}, LAYERS[1]),
    (
        v1_id(3),
        {"config": {"Cmd": ["/bin/sh"]}, "architecture": "amd64", "os": "linux"},
        LAYERS[2],
    ),
]


def test_docker_1_9(take: Take) -> None:
    found = take(before_1_10(CHAIN, {"app": {"1": v1_id(3), "latest": v1_id(3)}}))
    assert found.names == ("app:1", "app:latest")
    assert found.layers == LAYERS


def test_the_configuration_is_made_from_the_chain(tmp_path: Path, scratch: Path) -> None:
    path = write_tar(tmp_path / "app.tar", before_1_10(CHAIN, {"app": {"1": v1_id(3)}}))
    with open_image(str(path), scratch=scratch) as source:
        config = ImageConfig.parse(source.config)
    assert config.config.cmd == ("/bin/sh",)
    assert [str(diff_id) for diff_id in config.diff_ids] == [digest(layer) for layer in LAYERS]
    assert [step.created_by for step in config.history] == ["", "sh -c x", ""]
    assert b'"parent"' not in config.raw
    assert str(config.platform) == "linux/amd64"


def test_one_of_several_names_is_chosen(take: Take) -> None:
    members = before_1_10(CHAIN, {"base": {"1": v1_id(1)}, "app": {"1": v1_id(3)}})
    assert take(members, ":base:1").layers == LAYERS[:1]
    assert take(members, ":app:1").layers == LAYERS
    with pytest.raises(AmbiguousImage):
        take(members)


def test_without_names_the_top_is_the_image(take: Take) -> None:
    found = take(before_1_10(CHAIN, None))
    assert found.names == ()
    assert found.layers == LAYERS


def test_two_tops_without_names_are_two_images(take: Take) -> None:
    other = (v1_id(9), {}, LAYERS[0])
    members = [*before_1_10(CHAIN, None), *before_1_10([other], None)]
    with pytest.raises(AmbiguousImage, match="several images"):
        take(members)


def test_a_layer_that_was_thrown_away_is_history_only(take: Take) -> None:
    chain = [CHAIN[0], (v1_id(2), {"throwaway": True}, None), CHAIN[2]]
    assert take(before_1_10(chain, None)).layers == (LAYERS[0], LAYERS[2])


def test_old_layers_may_be_packed(take: Take) -> None:
    packed = [(name, more, gzip.compress(layer or b"")) for name, more, layer in CHAIN]
    assert take(before_1_10(packed, None)).layers == LAYERS


@pytest.mark.parametrize(
    ("members", "message"),
    [
        pytest.param(
            before_1_10([(v1_id(1), {"parent": v1_id(1)}, LAYERS[0])], {"a": {"1": v1_id(1)}}),
            "does not end",
            id="its-own-parent",
        ),
        pytest.param(
            before_1_10([(v1_id(1), {"parent": v1_id(2)}, b"")], {"a": {"1": v1_id(1)}}),
            "/json: missing",
            id="parent-missing",
        ),
        pytest.param(
            before_1_10([(v1_id(1), {"parent": "../../etc"}, b"")], {"a": {"1": v1_id(1)}}),
            "leads out",
            id="parent-leaves",
        ),
        pytest.param(
            before_1_10([(v1_id(1), {}, None)], {"a": {"1": v1_id(1)}}),
            "layer.tar: missing",
            id="layer-missing",
        ),
        pytest.param(
            before_1_10([(v1_id(1), {}, gzip.compress(LAYERS[0])[:-9])], None),
            "end too early",
            id="layer-truncated",
        ),
        pytest.param(
            before_1_10(CHAIN, {"a": {"1": "/etc/passwd"}}), "leads out", id="name-leaves"
        ),
        pytest.param(before_1_10(CHAIN, {"a": {"1": "x"}}), "x/json: missing", id="name-nowhere"),
        pytest.param([*before_1_10(CHAIN, None), ("repositories", b"[]")], "Expected", id="list"),
    ],
)
def test_an_old_archive_that_lies_is_refused(take: Take, members: Members, message: str) -> None:
    with pytest.raises(InvalidImage, match=message):
        take(members)
