"""Changes of a configuration, made on its JSON so that what is unknown here stays.

Pure functions: a document in, a new document out.  *Document* is the whole of what an image's
configuration is (image-spec, config.md), *config* the part of it that containers are made by.
"""

import posixpath
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from overlayfs.image.config import History
from overlayfs.image.digest import Digest
from overlayfs.image.json import encode
from overlayfs.image.platform import Platform

Document = Mapping[str, Any]


def new(platform: Platform, created: str) -> Document:
    """The document of an image for *platform* that has no layer yet; *created* as RFC 3339."""
    named = {"architecture": platform.architecture, "os": platform.os}
    variant = {"variant": platform.variant} if platform.variant else {}
    return {
        "created": created,
        **named,
        **variant,
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": []},
        "history": [],
    }


def to_json(document: Document) -> bytes:
    """The bytes whose digest is the image's id."""
    return encode(document)


def with_layer(document: Document, diff_id: Digest, step: History) -> Document:
    """*document* with one layer more, which *step* made."""
    rootfs = document["rootfs"]
    grown = {**rootfs, "diff_ids": [*(rootfs.get("diff_ids") or ()), str(diff_id)]}
    return {**with_step(document, step), "rootfs": grown}


def with_step(document: Document, step: History) -> Document:
    """*document* with *step* at the end of its history, created when that was."""
    fields = {
        "created": step.created,
        "created_by": step.created_by,
        "author": step.author,
        "comment": step.comment,
        "empty_layer": step.empty_layer,
    }
    said = {key: value for key, value in fields.items() if value}
    created = {"created": step.created} if step.created else {}
    return {**document, **created, "history": [*(document.get("history") or ()), said]}


def with_config(document: Document, **fields: object) -> Document:
    """*document* with these fields of its *config*; None takes one away."""
    config = {**(document.get("config") or {}), **fields}
    return {**document, "config": {key: one for key, one in config.items() if one is not None}}


def variables(document: Document) -> dict[str, str]:
    """The environment of *document*, by name."""
    pairs = (entry.partition("=") for entry in _config(document).get("Env") or ())
    return {name: value for name, _, value in pairs}


def with_env(document: Document, pairs: Mapping[str, str]) -> Document:
    """*document* with these variables: a known one keeps its place, a new one comes last."""
    return with_config(
        document,
        Env=[f"{name}={value}" for name, value in {**variables(document), **pairs}.items()],
    )


def with_labels(document: Document, pairs: Mapping[str, str]) -> Document:
    """*document* with these labels added."""
    labels = {**(_config(document).get("Labels") or {}), **pairs}
    return with_config(document, Labels=dict(sorted(labels.items())))


def with_ports(document: Document, ports: Iterable[str]) -> Document:
    """*document* with these ports exposed too, each as ``80/tcp``."""
    return _with_set(document, "ExposedPorts", ports)


def with_volumes(document: Document, paths: Iterable[str]) -> Document:
    """*document* with these volumes too."""
    return _with_set(document, "Volumes", paths)


def with_directory(document: Document, path: str) -> Document:
    """*document* with the working directory *path*, relative to the one it has."""
    joined = posixpath.join("/", _config(document).get("WorkingDir") or "", path)
    # normpath keeps two slashes at the beginning, which POSIX leaves open.
    return with_config(document, WorkingDir="/" + posixpath.normpath(joined).lstrip("/"))


def in_shell(document: Document, command: str) -> Sequence[str]:
    """*command* as the words that make the shell of *document* run it."""
    return (*(_config(document).get("Shell") or ("/bin/sh", "-c")), command)


def _config(document: Document) -> Mapping[str, Any]:
    found: Mapping[str, Any] = document.get("config") or {}
    return found


def _with_set(document: Document, key: str, names: Iterable[str]) -> Document:
    """Go has no sets: they are objects whose values are empty."""
    known = {**(_config(document).get(key) or {}), **{name: {} for name in names}}
    return with_config(document, **{key: dict(sorted(known.items()))})
