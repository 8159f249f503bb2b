"""Everything about an image, under the names that ``docker inspect`` has for it."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from overlayfs.cli.facts import ImageFacts, LayerFacts
from overlayfs.cli.output import size
from overlayfs.cli.templates.template import Fields
from overlayfs.image.config import Execution, Healthcheck
from overlayfs.image.history import Step


def inspected(image: ImageFacts) -> Fields:
    """*image* in the shape of Docker's API (``GET /images/{name}/json``) and a little more.

    All names are always there.  What has no value is empty; only what nobody can know (a
    size), and a health check that there is not, is None.  From podman's shape come ``Digest``,
    ``Annotations`` and ``History``; ``Platform`` and ``Layers`` are ours.
    """
    config = image.config
    return Fields(
        Id=str(image.id),
        RepoTags=list(image.names),
        RepoDigests=list(image.repo_digests),
        Digest=str(image.manifest.digest) if image.manifest else "",
        Comment=config.comment or (config.history[-1].comment if config.history else ""),
        Created=config.created,
        Author=config.author,
        Config=_execution(config.config),
        Architecture=config.architecture,
        Variant=config.variant,
        Os=config.os,
        OsVersion=config.os_version,
        Size=image.unpacked,
        RootFS=Fields(Type="layers", Layers=[str(layer.diff_id) for layer in image.layers]),
        Descriptor=_descriptor(image),
        Annotations=image.annotations,
        Platform=str(config.platform),
        Layers=[_layer(step) for step in image.steps if step.layer is not None],
        History=[_entry(step) for step in image.steps if step.entry is not None],
    )


def _execution(found: Execution) -> Fields:
    return Fields(
        User=found.user,
        ExposedPorts={port: Fields() for port in found.exposed_ports},
        Env=list(found.env),
        Entrypoint=list(found.entrypoint),
        Cmd=list(found.cmd),
        Volumes={volume: Fields() for volume in found.volumes},
        WorkingDir=found.working_dir,
        Labels=found.labels,
        StopSignal=found.stop_signal,
        ArgsEscaped=found.args_escaped,
        Healthcheck=None if found.healthcheck is None else _healthcheck(found.healthcheck),
        OnBuild=list(found.on_build),
        Shell=list(found.shell),
    )


def _healthcheck(found: Healthcheck) -> Fields:
    return Fields(
        Test=list(found.test),
        Interval=found.interval,
        Timeout=found.timeout,
        StartPeriod=found.start_period,
        StartInterval=found.start_interval,
        Retries=found.retries,
    )


def _descriptor(image: ImageFacts) -> Fields | None:
    if image.manifest is None:
        return None
    return Fields(
        mediaType=image.manifest.media_type,
        digest=str(image.manifest.digest),
        size=image.manifest.size,
    )


def _layer(step: Step[LayerFacts]) -> Fields:
    layer = step.layer
    assert layer is not None
    return Fields(
        Number=step.number,
        DiffID=str(layer.diff_id),
        Digest=str(layer.digest) if layer.digest else "",
        MediaType=layer.media_type,
        Size=layer.size,
        UnpackedSize=layer.unpacked,
        Entries=layer.entries,
        Path=str(layer.path) if layer.path else "",
        CreatedBy=step.created_by,
    )


def _entry(step: Step[LayerFacts]) -> Fields:
    """An entry of the history in the spec's words, as podman has it, and its layer's number."""
    assert step.entry is not None
    return Fields(asdict(step.entry), layer=step.number)


def summary(image: ImageFacts) -> Iterator[tuple[str, str]]:
    """*image* for people: what there is to say, line by line, as title and text."""
    config, execution = image.config, image.config.config
    yield "Names", " ".join(image.names)
    yield "Id", str(image.id)
    if image.manifest:
        yield "Digest", f"{image.manifest.digest} ({image.manifest.media_type})"
    if image.origin:
        yield "Came as", str(image.origin)
    yield "Platform", " ".join(word for word in (str(config.platform), config.os_version) if word)
    yield "Created", config.created
    yield "Author", config.author
    yield "Comment", config.comment
    yield "User", execution.user
    yield "Directory", execution.working_dir
    yield "Entry point", _words(execution.entrypoint)
    yield "Command", _words(execution.cmd)
    yield "Shell", _words(execution.shell)
    yield from _many("Environment", execution.env)
    yield "Ports", " ".join(execution.exposed_ports)
    yield "Volumes", " ".join(execution.volumes)
    yield from _many("Labels", [f"{key}={value}" for key, value in execution.labels.items()])
    yield "Stop signal", execution.stop_signal
    if execution.healthcheck is not None:
        yield "Health check", _health(execution.healthcheck)
    yield from _many("On build", execution.on_build)
    yield from _many("Layers", [_layer_line(step) for step in image.steps if step.layer])


def _many(title: str, lines: Any) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(lines):
        yield "" if number else title, line


def _words(words: tuple[str, ...]) -> str:
    """A command as a shell would take it."""
    import shlex

    return shlex.join(words)


def _health(found: Healthcheck) -> str:
    times = (
        ("every", found.interval),
        ("timeout", found.timeout),
        ("start period", found.start_period),
        ("start interval", found.start_interval),
    )
    said = [f"{what} {nanoseconds / 1e9:g} s" for what, nanoseconds in times if nanoseconds]
    said += [f"{found.retries} retries"] if found.retries else []
    return " ".join(found.test) + (f" ({', '.join(said)})" if said else "")


def _layer_line(step: Step[LayerFacts]) -> str:
    layer = step.layer
    assert layer is not None
    sizes = f"{size(layer.size)} {packing(layer.media_type)}"
    if layer.unpacked is not None:
        sizes = f"{size(layer.unpacked)}, {sizes}"
    return f"{step.number}  {layer.diff_id.short}  {sizes}  {step.created_by}".rstrip()


def packing(media_type: str) -> str:
    """How a layer of *media_type* is packed, in a word."""
    for suffix in ("gzip", "zstd"):
        if media_type.endswith((f"+{suffix}", f".{suffix}")):
            return suffix
    return "tar"
