"""``pyoverlay info``: the store, and what it runs on."""

import json
from pathlib import Path
from typing import Any

import click

from overlayfs.cli.options import json_option, root_option
from overlayfs.cli.output import print_json, print_line, size
from overlayfs.store.paths import Paths, default_root
from overlayfs.version import VERSION


@click.command(
    name="info",
    epilog="A size of layers is what the files in them add up to, a size of blobs what they take "
    "as they came; `pyoverlay system df` measures the disk. No store is made.\n\n"
    "Examples:\n\n\b\n  pyoverlay info\n  pyoverlay info --json | jq -r .store.root\n",
)
@json_option
@root_option
def command(as_json: bool, root: Path | None) -> None:
    """Show where the store is, what is in it, and the versions of all that matters."""
    facts = {"store": _store((root or default_root()).absolute()), "versions": _versions()}
    if as_json:
        print_json(facts)
        return
    lines = list(_lines(facts))
    width = max(len(title) for title, _ in lines)
    for title, text in lines:
        print_line(f"{title.ljust(width)}  {text}")


def _store(root: Path) -> dict[str, Any]:
    """What is in the store, from its lists: no tree is walked."""
    settings = Paths(root).settings
    if not settings.exists():
        return {"root": str(root), "exists": False}
    from overlayfs import mounting
    from overlayfs.doctor.disk import free
    from overlayfs.store.store import Store

    store = Store.open(root)
    images = store.images()
    layers = {layer.path: layer.size for image in images for layer in image.layers}
    blobs = {layer.blob.digest: layer.blob.size for image in images for layer in image.layers}
    states = [record.state for record in mounting.mounts(store, kept=True)]
    return {
        "root": str(root),
        "exists": True,
        "version": json.loads(settings.read_bytes())["version"],
        "format": str(store.format),
        "images": len(images),
        "names": sum(len(image.names) for image in images),
        "layers": len(layers),
        "layers_size": sum(layers.values()),
        "blobs": len(blobs),
        "blobs_size": sum(blobs.values()),
        "mounts": sum(state != "kept" for state in states),
        "kept_changes": states.count("kept"),
        "free": free(root),
    }


def _versions() -> dict[str, str | None]:
    from overlayfs.doctor import versions

    return {
        "pyoverlay": VERSION,
        "python": versions.python(),
        "pyfuse3": versions.pyfuse3(),
        "libfuse": versions.libfuse(),
        "kernel": versions.kernel(),
    }


def _lines(facts: dict[str, Any]) -> list[tuple[str, str]]:
    store, versions = facts["store"], facts["versions"]
    lines = [("Store", store["root"] if store["exists"] else f"{store['root']} (not made yet)")]
    if store["exists"]:
        lines += [
            ("Format", f"{store['format']}, version {store['version']}"),
            ("Images", f"{store['images']}, with {store['names']} names"),
            ("Layers", f"{store['layers']}, {size(store['layers_size'])} unpacked"),
            ("Blobs", f"{store['blobs']}, {size(store['blobs_size'])}"),
            (
                "Mounts",
                f"{store['mounts']}, and kept changes of {store['kept_changes']} that ended",
            ),
            ("Free", size(store["free"])),
        ]
    return lines + [(name, version or "not there") for name, version in versions.items()]
