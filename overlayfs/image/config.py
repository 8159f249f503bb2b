"""The configuration of an image (image-spec, config.md)."""

from dataclasses import dataclass, field
from typing import Annotated, Any, Self

from msgspec import Meta, Struct

from overlayfs.errors import InvalidImage
from overlayfs.image.digest import Digest
from overlayfs.image.json import CONFIG_LIMIT, decode
from overlayfs.image.platform import Platform

# What Go reads into a Duration or an int.
_Int64 = Annotated[int, Meta(ge=-(1 << 63), le=(1 << 63) - 1)]


class _Healthcheck(Struct, rename="pascal"):
    # The spec's reserved "Healthcheck"; Docker's HealthConfig has what is in it.
    test: tuple[str, ...] | None = None
    interval: _Int64 | None = None
    timeout: _Int64 | None = None
    start_period: _Int64 | None = None
    start_interval: _Int64 | None = None
    retries: _Int64 | None = None


class _Execution(Struct, rename="pascal"):
    user: str | None = None
    exposed_ports: dict[str, Any] | None = None
    env: tuple[str, ...] | None = None
    # Docker's strslice: old images have a bare string.
    entrypoint: tuple[str, ...] | str | None = None
    cmd: tuple[str, ...] | str | None = None
    volumes: dict[str, Any] | None = None
    working_dir: str | None = None
    labels: dict[str, str] | None = None
    stop_signal: str | None = None
    shell: tuple[str, ...] | None = None
    on_build: tuple[str, ...] | None = None
    args_escaped: bool | None = None
    healthcheck: _Healthcheck | None = None


class _RootFs(Struct):
    type: str | None = None
    diff_ids: tuple[Digest, ...] | None = None


class _History(Struct):
    created: str | None = None
    created_by: str | None = None
    author: str | None = None
    comment: str | None = None
    empty_layer: bool | None = None


class _Config(Struct, rename={"os_version": "os.version"}):
    created: str | None = None
    author: str | None = None
    architecture: str | None = None
    os: str | None = None
    variant: str | None = None
    os_version: str | None = None
    comment: str | None = None
    config: _Execution | None = None
    rootfs: _RootFs | None = None
    history: tuple[_History, ...] | None = None


@dataclass(frozen=True, slots=True)
class History:
    """How one layer came to be; *empty_layer* when the step changed no file."""

    created: str = ""
    created_by: str = ""
    author: str = ""
    comment: str = ""
    empty_layer: bool = False


@dataclass(frozen=True, slots=True)
class Healthcheck:
    """How a container is asked whether it is well; times in nanoseconds, 0 when not said.

    *test* begins with ``CMD`` or ``CMD-SHELL``; ``NONE`` alone switches off what a base has.
    """

    test: tuple[str, ...] = ()
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0


@dataclass(frozen=True, slots=True)
class Execution:
    """What a container made from the image runs, and how.

    *shell*, *on_build* (instructions for builds on top), *args_escaped* (Windows: the command
    is one line already) and *healthcheck* are Docker's; the spec reserves their names.
    """

    user: str = ""
    env: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    working_dir: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    exposed_ports: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    stop_signal: str = ""
    shell: tuple[str, ...] = ()
    on_build: tuple[str, ...] = ()
    args_escaped: bool = False
    healthcheck: Healthcheck | None = None


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """The configuration of an image, with the exact bytes whose digest is the image's id.

    Texts are the image's own: they pass through ``printable`` before a terminal sees them.
    Times are as written (RFC 3339), empty where there is none.  *comment* is Docker's.
    """

    architecture: str
    os: str
    variant: str
    created: str
    author: str
    config: Execution
    diff_ids: tuple[Digest, ...]
    history: tuple[History, ...]
    raw: bytes = field(repr=False)
    os_version: str = ""
    comment: str = ""

    @classmethod
    def parse(cls, raw: bytes, what: str = "image configuration") -> Self:
        """The configuration that *raw* is.

        Raises InvalidImage, beginning with *what*, when it is none: among the required is a
        ``rootfs`` of type ``layers``.
        """
        found = decode(raw, _Config, what, limit=CONFIG_LIMIT)
        if found.rootfs is None:
            raise InvalidImage(f"{what}: no rootfs, so this configures no container image")
        if found.rootfs.type not in (None, "", "layers"):
            raise InvalidImage(f"{what}: the rootfs is not made of layers")
        return cls(
            architecture=found.architecture or "",
            os=found.os or "",
            variant=found.variant or "",
            created=found.created or "",
            author=found.author or "",
            config=_execution(found.config or _Execution()),
            diff_ids=found.rootfs.diff_ids or (),
            history=tuple(_step(step) for step in found.history or ()),
            raw=raw,
            os_version=found.os_version or "",
            comment=found.comment or "",
        )

    @property
    def id(self) -> Digest:
        """The image's id: the digest of the exact bytes."""
        return Digest.of(self.raw)

    @property
    def platform(self) -> Platform:
        """The platform the image says it is for."""
        return Platform(os=self.os or "linux", architecture=self.architecture, variant=self.variant)


def _execution(found: _Execution) -> Execution:
    return Execution(
        user=found.user or "",
        env=found.env or (),
        entrypoint=_words(found.entrypoint),
        cmd=_words(found.cmd),
        working_dir=found.working_dir or "",
        labels=found.labels or {},
        exposed_ports=tuple(found.exposed_ports or ()),
        volumes=tuple(found.volumes or ()),
        stop_signal=found.stop_signal or "",
        shell=found.shell or (),
        on_build=found.on_build or (),
        args_escaped=bool(found.args_escaped),
        healthcheck=_healthcheck(found.healthcheck),
    )


def _healthcheck(found: _Healthcheck | None) -> Healthcheck | None:
    if found is None:
        return None
    return Healthcheck(
        test=found.test or (),
        interval=found.interval or 0,
        timeout=found.timeout or 0,
        start_period=found.start_period or 0,
        start_interval=found.start_interval or 0,
        retries=found.retries or 0,
    )


def _words(found: tuple[str, ...] | str | None) -> tuple[str, ...]:
    return (found,) if isinstance(found, str) else found or ()


def _step(found: _History) -> History:
    return History(
        created=found.created or "",
        created_by=found.created_by or "",
        author=found.author or "",
        comment=found.comment or "",
        empty_layer=bool(found.empty_layer),
    )
