"""Manifests and indexes are told apart, and what is both or neither is refused."""

import json
from typing import Any

import pytest

from overlayfs.errors import InvalidImage
from overlayfs.image.descriptor import Descriptor, MediaType, oci_twin
from overlayfs.image.digest import Digest
from overlayfs.image.json import MANIFEST_LIMIT
from overlayfs.image.manifest import Index, Manifest, parse
from overlayfs.image.platform import Platform

DIGEST = "sha256:" + "0" * 64
CONFIG = {"mediaType": MediaType.OCI_CONFIG, "digest": DIGEST, "size": 2}
LAYER = {"mediaType": MediaType.OCI_LAYER_GZIP, "digest": DIGEST, "size": 3}
ENTRY = {"mediaType": MediaType.OCI_MANIFEST, "digest": DIGEST, "size": 4}
MANIFEST = {"schemaVersion": 2, "config": CONFIG, "layers": [LAYER]}
INDEX = {"schemaVersion": 2, "manifests": [ENTRY]}


def raw(value: Any) -> bytes:
    return json.dumps(value).encode()


def test_a_manifest_is_read() -> None:
    manifest = Manifest.parse(raw(MANIFEST))
    assert manifest.config.digest == Digest.parse(DIGEST)
    assert [layer.size for layer in manifest.layers] == [3]
    assert manifest.media_type == MediaType.OCI_MANIFEST


def test_an_index_is_read() -> None:
    platform = {"os": "linux", "architecture": "arm", "variant": "v7", "os.version": "1"}
    index = Index.parse(raw({**INDEX, "manifests": [{**ENTRY, "platform": platform, "x": 1}]}))
    assert index.manifests[0].platform == Platform.parse("linux/arm/v7")


@pytest.mark.parametrize(
    "media_type", [MediaType.DOCKER_MANIFEST, MediaType.OCI_MANIFEST, "", None]
)
def test_a_declared_type_may_be_docker_s_or_missing(media_type: str | None) -> None:
    manifest = Manifest.parse(raw({**MANIFEST, "mediaType": media_type}))
    assert manifest.media_type == (media_type or MediaType.OCI_MANIFEST)


def test_go_s_nulls_are_empty() -> None:
    empty = {"schemaVersion": 2, "config": CONFIG, "layers": None, "annotations": None}
    assert Manifest.parse(raw({**empty, "manifests": None})).layers == ()
    listed = {"schemaVersion": 2, "mediaType": MediaType.OCI_INDEX, "manifests": None}
    assert Index.parse(raw(listed)).manifests == ()


@pytest.mark.parametrize(
    ("document", "message"),
    [
        pytest.param({**MANIFEST, **INDEX}, "both an index and a manifest", id="both"),
        pytest.param({**INDEX, "layers": []}, "both an index and a manifest", id="both-but-empty"),
        pytest.param({**INDEX, "config": CONFIG}, "both an index", id="index-with-config"),
        pytest.param({"schemaVersion": 2}, "neither", id="neither"),
        pytest.param({"schemaVersion": 2, "layers": [LAYER]}, "neither", id="no-config"),
        pytest.param({"schemaVersion": 1, "fsLayers": []}, "schema 1", id="schema1"),
        pytest.param({"fsLayers": [{"blobSum": DIGEST}]}, "schema 1", id="schema1-unsaid"),
        pytest.param({**MANIFEST, "mediaType": MediaType.SCHEMA1_SIGNED}, "schema 1", id="signed"),
        pytest.param({**MANIFEST, "schemaVersion": 3}, "schema version 3", id="schema3"),
        pytest.param({**MANIFEST, "mediaType": MediaType.OCI_INDEX}, "contradicts", id="liar"),
        pytest.param({**INDEX, "mediaType": MediaType.OCI_MANIFEST}, "contradicts", id="liar-too"),
        pytest.param({**MANIFEST, "mediaType": "\x1b[2J"}, r"\\x1b\[2J", id="escape"),
        pytest.param({**MANIFEST, "layers": {}}, r"\$\.layers", id="layers-object"),
        pytest.param(
            {**MANIFEST, "config": {**CONFIG, "digest": "sha256:1"}}, "not a digest", id="digest"
        ),
        pytest.param({**MANIFEST, "config": {**CONFIG, "size": -1}}, r"config\.size", id="minus"),
        pytest.param({**MANIFEST, "config": {**CONFIG, "size": 1 << 63}}, "size", id="huge"),
        pytest.param({**MANIFEST, "config": {**CONFIG, "size": 1.5}}, "size", id="fraction"),
        pytest.param({**MANIFEST, "config": {**CONFIG, "size": "1"}}, "size", id="text"),
        pytest.param({**MANIFEST, "config": {"size": 1}}, "missing required", id="incomplete"),
        pytest.param([], "Expected `object`", id="array"),
        pytest.param(None, "Expected `object`", id="null"),
    ],
)
def test_what_is_not_one_of_them_is_refused(document: Any, message: str) -> None:
    with pytest.raises(InvalidImage, match=message) as caught:
        parse(raw(document), "here")
    assert caught.value.message.startswith("here: ")
    assert caught.value.message.isprintable()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param(b"", "truncated", id="empty"),
        pytest.param(raw(MANIFEST)[:-5], "truncated", id="truncated"),
        pytest.param(raw(MANIFEST) + b"x", "malformed", id="trailing"),
        pytest.param(b"\xff\xfe", "malformed", id="binary"),
        pytest.param(b'{"mediaType":"\xff"}', "UTF-8|utf-8", id="not-utf8"),
        pytest.param(b"[" * 1_000_000, "Expected `object`", id="deep-array"),
        pytest.param(b'{"x":' * 200_000, "nested too deeply", id="deep-object"),
        pytest.param(b'{"fsLayers":' + b"[" * 500_000, "nested too deeply", id="deep-anything"),
        pytest.param(b'{"annotations":{"x":' + b"[" * 500_000, "Expected `str`", id="deep-inside"),
        pytest.param(b" " * (MANIFEST_LIMIT + 1), "at most", id="long"),
    ],
)
def test_what_is_no_sound_json_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(InvalidImage, match=message):
        parse(data)


def test_an_index_is_no_manifest_nor_the_other_way_round() -> None:
    with pytest.raises(InvalidImage, match="an index where a manifest"):
        Manifest.parse(raw(INDEX))
    with pytest.raises(InvalidImage, match="a manifest where an index"):
        Index.parse(raw(MANIFEST))


def test_what_is_written_reads_back_and_is_always_the_same() -> None:
    config = Descriptor(MediaType.OCI_CONFIG, Digest.of(b"c"), 1)
    layer = Descriptor(
        MediaType.OCI_LAYER, Digest.of(b"l"), 1, platform=Platform.parse("linux/arm/v7")
    )
    one = Manifest(config=config, layers=(layer,), annotations={"b": "2", "a": "1"})
    same = Manifest(config=config, layers=(layer,), annotations={"a": "1", "b": "2"})
    assert Manifest.parse(one.to_json()) == one
    assert one.to_json() == same.to_json()
    assert list(json.loads(one.to_json())) == [
        "schemaVersion",
        "mediaType",
        "config",
        "layers",
        "annotations",
    ]
    index = Index(manifests=(config,))
    assert Index.parse(index.to_json()) == index


@pytest.mark.parametrize(
    ("docker", "oci"),
    [
        (MediaType.DOCKER_MANIFEST, MediaType.OCI_MANIFEST),
        (MediaType.DOCKER_LAYER_GZIP, MediaType.OCI_LAYER_GZIP),
        (MediaType.OCI_LAYER_ZSTD, MediaType.OCI_LAYER_ZSTD),
        ("text/plain", "text/plain"),
    ],
)
def test_docker_s_types_have_a_twin(docker: str, oci: str) -> None:
    assert oci_twin(docker) == oci


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"annotations": {"vnd.docker.reference.type": "attestation-manifest"}}, True),
        ({"platform": {"os": "unknown", "architecture": "unknown"}}, True),
        ({"platform": {"os": "linux", "architecture": "unknown"}}, False),
        ({"annotations": {"other": "x"}}, False),
        ({}, False),
    ],
)
def test_attestations_are_known(more: dict[str, Any], expected: bool) -> None:
    index = Index.parse(raw({**INDEX, "manifests": [{**ENTRY, **more}]}))
    assert index.manifests[0].is_attestation is expected
