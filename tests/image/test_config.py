"""Configurations are read with the freedoms that old tools took, and no others."""

import json
from typing import Any

import pytest

from overlayfs.errors import InvalidImage
from overlayfs.image.config import Execution, Healthcheck, History, ImageConfig
from overlayfs.image.digest import Digest
from overlayfs.image.json import CONFIG_LIMIT

DIFF_ID = "sha256:" + "1" * 64
ROOTFS = {"type": "layers", "diff_ids": [DIFF_ID]}


def parse(value: Any) -> ImageConfig:
    return ImageConfig.parse(json.dumps(value).encode(), "here")


def test_everything_is_read() -> None:
    config = parse(
        {
            "created": "2024-01-02T03:04:05.678Z",
            "author": "somebody",
            "architecture": "arm",
            "os": "linux",
            "variant": "v7",
            "os.version": "10.0",
            "comment": "said of it",
            "config": {
                "User": "1:2",
                "ExposedPorts": {"80/tcp": {}},
                "Env": ["A=1", "B"],
                "Entrypoint": ["/init"],
                "Cmd": ["a", "b"],
                "Volumes": {"/data": {}},
                "WorkingDir": "/w",
                "Labels": {"k": "v"},
                "StopSignal": "SIGINT",
                "Shell": ["/bin/sh", "-c"],
                "OnBuild": ["RUN true"],
                "ArgsEscaped": True,
                "Healthcheck": {
                    "Test": ["CMD-SHELL", "true"],
                    "Interval": 30_000_000_000,
                    "Timeout": 1,
                    "StartPeriod": 2,
                    "StartInterval": 3,
                    "Retries": 4,
                },
            },
            "rootfs": ROOTFS,
            "history": [{"created_by": "x", "empty_layer": True}, {"comment": "c"}],
        }
    )
    assert config.config == Execution(
        user="1:2",
        env=("A=1", "B"),
        entrypoint=("/init",),
        cmd=("a", "b"),
        working_dir="/w",
        labels={"k": "v"},
        exposed_ports=("80/tcp",),
        volumes=("/data",),
        stop_signal="SIGINT",
        shell=("/bin/sh", "-c"),
        on_build=("RUN true",),
        args_escaped=True,
        healthcheck=Healthcheck(("CMD-SHELL", "true"), 30_000_000_000, 1, 2, 3, 4),
    )
    assert (config.os_version, config.comment) == ("10.0", "said of it")
    assert config.diff_ids == (Digest.parse(DIFF_ID),)
    assert config.history == (History(created_by="x", empty_layer=True), History(comment="c"))
    assert str(config.platform) == "linux/arm/v7"
    assert config.created == "2024-01-02T03:04:05.678Z"
    assert config.id == Digest.of(config.raw)


@pytest.mark.parametrize(
    "found",
    [
        {"rootfs": ROOTFS},
        {"rootfs": {"type": "layers", "diff_ids": [DIFF_ID]}, "config": None, "history": None},
        {"rootfs": {"diff_ids": [DIFF_ID]}, "config": {"Env": None, "Cmd": None, "Labels": None}},
        {"rootfs": ROOTFS, "config": {"Healthcheck": None, "OnBuild": None, "ArgsEscaped": None}},
    ],
)
def test_what_is_missing_is_empty(found: Any) -> None:
    config = parse(found)
    assert config.config == Execution()
    assert config.history == ()
    assert config.diff_ids == (Digest.parse(DIFF_ID),)


def test_an_image_may_have_no_layers() -> None:
    assert parse({"rootfs": {"type": "layers", "diff_ids": None}}).diff_ids == ()


def test_a_health_check_may_say_little() -> None:
    config = parse({"rootfs": ROOTFS, "config": {"Healthcheck": {"Test": ["NONE"]}}}).config
    assert config.healthcheck == Healthcheck(("NONE",))


def test_a_command_may_be_one_text() -> None:
    assert parse({"rootfs": ROOTFS, "config": {"Cmd": "/bin/sh"}}).config.cmd == ("/bin/sh",)


@pytest.mark.parametrize(
    ("found", "message"),
    [
        pytest.param({}, "no rootfs", id="empty"),
        pytest.param({"rootfs": {"type": "squashfs"}}, "not made of layers", id="no-layers"),
        pytest.param({"rootfs": {**ROOTFS, "diff_ids": ["x"]}}, "not a digest", id="diff-id"),
        pytest.param({"rootfs": {**ROOTFS, "diff_ids": [1]}}, "diff_ids", id="number"),
        pytest.param({"rootfs": ROOTFS, "config": {"Env": [1]}}, "Env", id="env"),
        pytest.param({"rootfs": ROOTFS, "config": {"Cmd": {}}}, "Cmd", id="cmd"),
        pytest.param({"rootfs": ROOTFS, "config": {"Healthcheck": []}}, "Health", id="health"),
        pytest.param(
            {"rootfs": ROOTFS, "config": {"Healthcheck": {"Interval": 10**400}}},
            "Interval",
            id="interval",
        ),
        pytest.param({"rootfs": ROOTFS, "history": [[]]}, "history", id="history"),
        pytest.param([], "Expected `object`", id="array"),
    ],
)
def test_what_is_no_configuration_is_refused(found: Any, message: str) -> None:
    with pytest.raises(InvalidImage, match=f"here: .*{message}"):
        parse(found)


def test_a_configuration_has_a_largest_size() -> None:
    with pytest.raises(InvalidImage, match="at most"):
        ImageConfig.parse(b" " * (CONFIG_LIMIT + 1))
