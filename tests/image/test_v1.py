"""A chain of v1 images becomes the configuration that Docker 1.10 made of it."""

import json

import pytest

from overlayfs.errors import InvalidImage
from overlayfs.image.config import ImageConfig
from overlayfs.image.digest import Digest
from overlayfs.image.saved import parse_manifest_json, parse_repositories
from overlayfs.image.v1 import V1Image, synthesise

BASE = b'{"id":"b","created":"2015-01-01T00:00:00Z","container_config":{"Cmd":["/bin/sh","-c","#(nop) ADD a & b"]}}'  # noqa: E501
TOP = (
    b'{"id":"t","parent":"b","created":"2015-01-02T00:00:00Z","author":"me",'
    b'"container_config":{"Cmd":["x"]},"config":{"Env":["A=<1>"],"Cmd":["/bin/sh"]},'
    b'"docker_version":"1.9.1","os":"linux","architecture":"amd64","Size":7,"throwaway":true}'
)


def test_the_bytes_are_docker_s() -> None:
    diff_id = Digest.of(b"layer")
    raw = synthesise([V1Image.parse(BASE), V1Image.parse(TOP)], [diff_id])
    assert raw == (
        b'{"architecture":"amd64","author":"me","config":{"Env":["A=\\u003c1\\u003e"],'
        b'"Cmd":["/bin/sh"]},"container_config":{"Cmd":["x"]},"created":"2015-01-02T00:00:00Z",'
        b'"docker_version":"1.9.1","history":[{"created":"2015-01-01T00:00:00Z","created_by":'
        b'"/bin/sh -c #(nop) ADD a \\u0026 b"},{"created":"2015-01-02T00:00:00Z","author":"me",'
        b'"created_by":"x","empty_layer":true}],"os":"linux","rootfs":{"type":"layers",'
        b'"diff_ids":["%s"]}}' % str(diff_id).encode()
    )
    config = ImageConfig.parse(raw)
    assert config.config.env == ("A=<1>",)
    assert config.diff_ids == (diff_id,)
    assert [step.empty_layer for step in config.history] == [False, True]


def test_a_v1_image_knows_its_parent() -> None:
    assert V1Image.parse(TOP).parent == "b"
    assert V1Image.parse(BASE).parent == ""
    assert V1Image.parse(TOP).throwaway
    assert not V1Image.parse(BASE).throwaway


@pytest.mark.parametrize("raw", [b"", b"[]", b'{"parent":1}', b'{"container_config":[]}'])
def test_what_is_no_v1_image_is_refused(raw: bytes) -> None:
    with pytest.raises(InvalidImage, match=r"^here: "):
        V1Image.parse(raw, "here")


def test_lists_of_names_are_read() -> None:
    listed = [{"Config": "c", "RepoTags": None, "Layers": None}, {"Config": "d", "RepoTags": ["x"]}]
    one, two = parse_manifest_json(json.dumps(listed).encode())
    assert (one.config, one.repo_tags, one.layers) == ("c", (), ())
    assert two.repo_tags == ("x",)
    repositories = {"a": {"1": "i", "2": "i"}, "b": {"1": "j"}}
    found = parse_repositories(json.dumps(repositories).encode())
    assert found == {"i": ("a:1", "a:2"), "j": ("b:1",)}


@pytest.mark.parametrize("raw", [b"{}", b"[{}]", b'[{"Config":1}]', b'["x"]', b"["])
def test_a_broken_list_is_refused(raw: bytes) -> None:
    with pytest.raises(InvalidImage, match=r"^here: "):
        parse_manifest_json(raw, "here")
