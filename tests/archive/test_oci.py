"""OCI layouts: names, platforms, indexes in indexes, and layouts that lie."""

import gzip
import hashlib
from collections.abc import Callable
from typing import Any

import pytest

from overlayfs.archive.choice import Choice
from overlayfs.errors import AmbiguousImage, ImageNotFound, InvalidImage
from overlayfs.image.platform import Platform
from tests.archive.conftest import Take
from tests.support.archives import (
    OCI,
    Link,
    Made,
    Members,
    attestation,
    blobs,
    contents,
    descriptor,
    digest,
    entry,
    image,
    layout,
    sha256,
    to_json,
)

ONE = image("base", "one")
TWO = image("base", "two")
HOST = Platform.host()
OTHER = "s390x" if HOST.architecture != "s390x" else "amd64"
HERE, THERE = image("here", architecture=HOST.architecture), image("there", architecture=OTHER)


def platform(architecture: str, variant: str | None = None) -> dict[str, str]:
    found = {"os": "linux", "architecture": architecture}
    return found if variant is None else {**found, "variant": variant}


def index(*entries: dict[str, Any]) -> bytes:
    return to_json({"schemaVersion": 2, "mediaType": f"{OCI}.index.v1+json", "manifests": entries})


def nested(data: bytes, **more: Any) -> dict[str, Any]:
    return descriptor(f"{OCI}.index.v1+json", data, **more)


def name(text: str) -> dict[str, Any]:
    return {"annotations": {"org.opencontainers.image.ref.name": text}}


# Names


@pytest.mark.parametrize(
    ("annotations", "expected"),
    [
        pytest.param({}, (), id="none"),
        pytest.param({"org.opencontainers.image.ref.name": "v1"}, ("app:v1",), id="bare-tag"),
        pytest.param(
            {"org.opencontainers.image.ref.name": "docker.io/library/x:1"}, ("x:1",), id="full"
        ),
        pytest.param(
            {"org.opencontainers.image.ref.name": "localhost/x:1"}, ("localhost/x:1",), id="host"
        ),
        pytest.param(
            {
                "io.containerd.image.name": "docker.io/library/x:2",
                "org.opencontainers.image.ref.name": "2",
            },
            ("x:2",),
            id="buildkit",
        ),
        pytest.param({"org.opencontainers.image.ref.name": "\x1b[2J"}, (), id="illegal"),
        pytest.param({"org.opencontainers.image.ref.name": ""}, (), id="empty"),
    ],
)
def test_names(take: Take, annotations: dict[str, str], expected: tuple[str, ...]) -> None:
    described = {**entry(ONE), "annotations": annotations}
    found = take(layout([described], *contents(ONE)))
    assert found.names == expected
    assert found.manifest == ONE.manifest()
    assert found.layers == ONE.layers


def test_two_names_of_one_image_are_no_choice(take: Take) -> None:
    found = take(layout([entry(ONE, "1"), entry(ONE, "latest")], *contents(ONE)))
    assert found.names == ("app:1", "app:latest")


SEVERAL = layout(
    [entry(ONE, "one"), entry(TWO, "example.org/two:2"), entry(image("x"))],
    *contents(ONE, TWO, image("x")),
)


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (":one", ONE),
        (":app:one", ONE),
        (":example.org/two:2", TWO),
        (":2", TWO),
        ("@1", TWO),
        (":@2", image("x")),
    ],
)
def test_one_of_several_is_chosen(take: Take, choice: str, expected: Made) -> None:
    assert take(SEVERAL, choice).id == expected.id


def test_several_are_listed_when_none_is_chosen(take: Take) -> None:
    with pytest.raises(AmbiguousImage) as caught:
        take(SEVERAL)
    assert caught.value.message.splitlines()[1:] == [
        "  @0 app:one",
        "  @1 example.org/two:2",
        "  @2",
    ]


# Platforms

MULTI = index(
    entry(THERE, platform=platform(OTHER)),
    attestation(THERE)[0],
    entry(HERE, platform=platform(HOST.architecture)),
    attestation(HERE)[0],
)
OUTER = index(nested(MULTI))
MULTI_CONTENTS = (
    MULTI,
    *contents(HERE, THERE),
    *attestation(HERE)[1],
    *attestation(THERE)[1],
)


@pytest.mark.parametrize(
    "members",
    [
        pytest.param(layout([nested(MULTI, **name("m"))], *MULTI_CONTENTS), id="nested"),
        pytest.param(
            layout(
                [nested(index(nested(MULTI)), **name("m"))], index(nested(MULTI)), *MULTI_CONTENTS
            ),
            id="nested-twice",
        ),
        pytest.param(
            layout(
                [
                    entry(THERE, "m", platform=platform(OTHER)),
                    entry(HERE, "m", platform=platform(HOST.architecture)),
                ],
                *MULTI_CONTENTS,
            ),
            id="one-name",
        ),
        pytest.param(
            layout(
                [
                    {**entry(THERE), "platform": platform(OTHER), **name("m")},
                    {**entry(HERE), "platform": platform(HOST.architecture), **name("m")},
                    attestation(HERE)[0],
                ],
                *MULTI_CONTENTS,
            ),
            id="one-name-and-attestations",
        ),
    ],
)
def test_the_platform_decides(take: Take, members: Members) -> None:
    assert take(members).id == HERE.id
    assert take(members).names == ("app:m",)
    assert take(members, platform=f"linux/{OTHER}").id == THERE.id
    assert take(members, ":m", platform=f"linux/{HOST.architecture}").id == HERE.id
    with pytest.raises(ImageNotFound) as caught:
        take(members, platform="linux/mips")
    assert f"there is one for linux/{OTHER}, {HOST}" in caught.value.message
    assert "unknown" not in caught.value.message


def test_an_index_for_other_machines_names_them(take: Take) -> None:
    members = layout([nested(index(entry(THERE, platform=platform(OTHER))))], *MULTI_CONTENTS)
    members = [*members, *blobs(index(entry(THERE, platform=platform(OTHER))))]
    with pytest.raises(ImageNotFound, match=f"no image for {HOST}; .* linux/{OTHER}") as caught:
        take(members)
    assert caught.value.hint == f"choose one with --platform linux/{OTHER}"
    assert take(members, platform=OTHER).id == THERE.id


def test_a_single_image_needs_no_platform(take: Take) -> None:
    members = layout([entry(THERE, "x", platform=platform(OTHER))], *contents(THERE))
    assert take(members).id == THERE.id


def test_an_index_without_platforms_is_chosen_from_by_configuration(take: Take) -> None:
    inner = index(entry(THERE), entry(HERE))
    members = layout([nested(inner)], inner, *contents(HERE, THERE))
    assert take(members).id == HERE.id
    assert take(members, platform=OTHER).id == THERE.id


def test_an_index_picks_one_entry_of_several_platforms(take: Take) -> None:
    members = layout(
        [
            entry(THERE, "m", platform=platform(OTHER)),
            entry(HERE, "m", platform=platform(HOST.architecture)),
        ],
        *contents(HERE, THERE),
    )
    assert take(members, "@0").id == THERE.id
    assert take(members, "@1").id == HERE.id


def test_two_images_for_one_platform_are_a_choice(take: Take) -> None:
    here = platform(HOST.architecture)
    members = layout([entry(ONE, platform=here), entry(TWO, platform=here)], *contents(ONE, TWO))
    with pytest.raises(AmbiguousImage):
        take(members)


def test_the_list_has_each_platform_that_is_there(
    listed: Callable[[Members], list[Choice]],
) -> None:
    gone = image("gone", architecture="riscv64")
    inner = index(
        entry(THERE, platform=platform(OTHER)),
        entry(HERE, platform=platform(HOST.architecture)),
        entry(gone, platform=platform("riscv64")),
        attestation(HERE)[0],
    )
    found = listed(layout([nested(inner, **name("m"))], inner, *contents(HERE, THERE)))
    assert [(one.names, one.index, str(one.platform), str(one.id)) for one in found] == [
        (("app:m",), 0, f"linux/{OTHER}", THERE.id),
        (("app:m",), 0, str(HOST), HERE.id),
    ]


def test_only_attestations_are_no_image(take: Take) -> None:
    described, more = attestation(ONE)
    with pytest.raises(InvalidImage, match="holds no container image"):
        take(layout([described], *more))


# Layouts with a right to be read


def test_docker_types_and_packed_layers(take: Take) -> None:
    docker = "application/vnd.docker"
    packed = [gzip.compress(layer) for layer in ONE.layers]
    kind = f"{docker}.image.rootfs.diff.tar.gzip"
    manifest = to_json(
        {
            "schemaVersion": 2,
            "mediaType": f"{docker}.distribution.manifest.v2+json",
            "config": descriptor(f"{docker}.container.image.v1+json", ONE.config),
            "layers": [descriptor(kind, layer) for layer in packed],
        }
    )
    listed = descriptor(f"{docker}.distribution.manifest.v2+json", manifest)
    found = take(layout([listed], manifest, ONE.config, *packed))
    assert found.layers == ONE.layers
    assert found.manifest == manifest


def test_sha512(take: Take) -> None:
    def named(data: bytes) -> dict[str, Any]:
        found = descriptor(f"{OCI}.layer.v1.tar", data)
        return {**found, "digest": f"sha512:{hashlib.sha512(data).hexdigest()}"}

    manifest = ONE.manifest(layers=[named(layer) for layer in ONE.layers])
    listed = {**named(manifest), "mediaType": f"{OCI}.manifest.v1+json"}
    files: Members = [
        (f"blobs/sha512/{hashlib.sha512(data).hexdigest()}", data)
        for data in (manifest, *ONE.layers)
    ]
    assert take([*layout([listed], ONE.config), *files]).layers == ONE.layers


def test_an_image_without_layers(take: Take) -> None:
    empty = Made(())
    assert take(layout([entry(empty, "scratch")], *contents(empty))).layers == ()


def test_a_layout_of_links(take: Take) -> None:
    members = dict(layout([entry(ONE)], *contents(ONE)))
    path = f"blobs/sha256/{sha256(ONE.layers[0])}"
    members[path] = Link("../../shared/layer")
    assert take([*members.items(), ("shared/layer", ONE.layers[0])]).layers == ONE.layers


def test_a_layout_needs_no_version(take: Take) -> None:
    members = [one for one in layout([entry(ONE)], *contents(ONE)) if one[0] != "oci-layout"]
    assert take(members).id == ONE.id


# Layouts that lie


def changed(**more: Any) -> Members:
    """A layout with an image whose manifest has been changed."""
    manifest = ONE.manifest(**more)
    listed = descriptor(f"{OCI}.manifest.v1+json", manifest)
    return layout([listed], manifest, *contents(ONE))


def without(members: Members, data: bytes) -> Members:
    return [one for one in members if not one[0].endswith(sha256(data))]


def swapped(data: bytes, other: bytes) -> Members:
    members = layout([entry(ONE)], *contents(ONE))
    return [*without(members, data), (f"blobs/sha256/{sha256(data)}", other)]


LAYER = descriptor(f"{OCI}.layer.v1.tar", ONE.layers[0])
FIRST, SECOND = ONE.layers
GOOD = layout([entry(ONE)], *contents(ONE))


@pytest.mark.parametrize(
    ("members", "message"),
    [
        pytest.param(without(GOOD, ONE.manifest()), "missing", id="manifest-missing"),
        pytest.param(without(GOOD, ONE.config), "missing", id="config-missing"),
        pytest.param(without(GOOD, SECOND), "layer sha256:.* missing", id="layer-missing"),
        pytest.param(
            swapped(ONE.config, ONE.config.replace(b"made", b"MADE")), "expected", id="config"
        ),
        pytest.param(
            swapped(ONE.manifest(), ONE.manifest().replace(b"layers", b"LAYERS")),
            "expected",
            id="manifest",
        ),
        pytest.param(swapped(FIRST, FIRST[:-1]), "bytes, got", id="layer-short"),
        pytest.param(swapped(FIRST, FIRST + b"x"), "bytes, got", id="layer-long"),
        pytest.param(swapped(FIRST, FIRST[::-1]), "expected sha256", id="layer-other"),
        pytest.param(changed(layers=[LAYER]), "1 layers, .* names 2", id="too-few"),
        pytest.param(changed(layers=[LAYER] * 3), "3 layers, .* names 2", id="too-many"),
        pytest.param(changed(layers=[LAYER] * 2), "expected sha256", id="twice-the-same"),
        pytest.param(
            changed(layers=[{**LAYER, "mediaType": "application/vnd.in-toto+json"}] * 2),
            "type application/vnd.in-toto",
            id="no-layer",
        ),
        pytest.param(
            changed(layers=[{**LAYER, "mediaType": f"{OCI}.layer.v1.tar+gzip+encrypted"}] * 2),
            "encrypted",
            id="encrypted",
        ),
        pytest.param(
            changed(config={**descriptor("application/vnd.cncf.helm.config.v1+json", b"{}")}),
            r"an artifact \(application/vnd.cncf.helm",
            id="artifact",
        ),
        pytest.param(
            changed(config={**descriptor(f"{OCI}.config.v1+json", ONE.config), "size": 1}),
            "expected 1 bytes",
            id="config-size",
        ),
        pytest.param(
            changed(manifests=[entry(TWO)]), "both an index and a manifest", id="both-at-once"
        ),
        pytest.param(
            changed(layers=[{**LAYER, "size": 1 << 62}, LAYER]), "bytes, got", id="absurd-size"
        ),
        pytest.param(
            changed(layers=[{**LAYER, "digest": "sha256:../../../etc/passwd"}, LAYER]),
            "not a digest",
            id="digest-is-a-path",
        ),
        pytest.param([*GOOD, ("index.json", b"{}")], "neither", id="index-empty"),
        pytest.param([*GOOD, ("index.json", b"[" * 100_000)], "index.json", id="index-deep"),
        pytest.param([*GOOD, ("index.json", b" " * (5 << 20))], "more than", id="index-long"),
        pytest.param([*GOOD, ("index.json", Link("/etc/passwd"))], "leads out", id="index-link"),
        pytest.param(
            [*GOOD, ("oci-layout", b'{"imageLayoutVersion":"2.0.0"}')],
            "not version 1",
            id="version",
        ),
        pytest.param(
            layout([{**entry(ONE), "size": 7}], *contents(ONE)), "expected 7", id="entry-size"
        ),
        pytest.param(
            layout([{**entry(ONE), "mediaType": f"{OCI}.index.v1+json"}], *contents(ONE)),
            "a manifest where an index",
            id="no-index",
        ),
        pytest.param(
            layout([{**nested(MULTI), "mediaType": f"{OCI}.manifest.v1+json"}], *MULTI_CONTENTS),
            "an index where a manifest",
            id="no-manifest",
        ),
        pytest.param(layout([nested(MULTI)]), "missing", id="inner-index-missing"),
    ],
)
def test_a_layout_that_lies_is_refused(take: Take, members: Members, message: str) -> None:
    with pytest.raises(InvalidImage, match=message) as caught:
        take(members)
    assert caught.value.message.isprintable()


def test_a_layer_kept_elsewhere_is_named(take: Take) -> None:
    foreign = {
        **descriptor(f"{OCI}.layer.nondistributable.v1.tar", b"elsewhere"),
        "urls": ["https://example.org/\x1b[2Jlayer"],
    }
    with pytest.raises(InvalidImage, match=r"kept at https://example.org/\\x1b\[2Jlayer"):
        take(changed(layers=[LAYER, foreign]))


def test_schema_1_is_refused_by_name(take: Take) -> None:
    old = to_json({"schemaVersion": 1, "fsLayers": [{"blobSum": digest(b"x")}], "history": []})
    kind = "application/vnd.docker.distribution.manifest.v1+prettyjws"
    with pytest.raises(InvalidImage, match="schema 1") as caught:
        take(layout([descriptor(kind, old)], old))
    assert "skopeo" in caught.value.hint


def test_indexes_in_indexes_end_somewhere(take: Take) -> None:
    deep = [index(entry(ONE))]
    for _ in range(20):
        deep.append(index(nested(deep[-1])))
    with pytest.raises(InvalidImage, match="too many indexes"):
        take(layout([nested(deep[-1])], *deep, *contents(ONE)))


def test_an_index_of_many_entries_is_refused(take: Take) -> None:
    entries = [entry(ONE, platform=platform(f"m{at}")) for at in range(12_000)]
    with pytest.raises(InvalidImage, match="too many indexes"):
        take(layout(entries, *contents(ONE)))


def test_an_index_of_a_million_images_is_refused(take: Take) -> None:
    wide = [index(entry(ONE))]
    for _ in range(3):
        wide.append(index(*[nested(wide[-1])] * 100))
    with pytest.raises(InvalidImage, match="too many indexes"):
        take(layout([nested(wide[-1])], *wide, *contents(ONE)))
