"""OCI layouts whose indexes, manifests, digests and directories lie."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.hostile.case import UP, Ground, archive, directory
from tests.hostile.corpus.archives import ONE, TREE
from tests.support.archives import (
    DOCKER,
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

MANIFEST, INDEX = f"{OCI}.manifest.v1+json", f"{OCI}.index.v1+json"
LAYER = ONE.layers[0]
VERSION = ("oci-layout", b'{"imageLayoutVersion":"1.0.0"}')


def with_manifest(manifest: bytes, *more: bytes, kind: str = MANIFEST) -> Members:
    """A layout of this manifest, which its index names rightly."""
    return layout([descriptor(kind, manifest)], manifest, ONE.config, LAYER, *more)


def manifest(**more: Any) -> bytes:
    """The manifest of an image, with other fields than usual."""
    return ONE.manifest(**more)


def layers(*descriptors: Any) -> bytes:
    return manifest(layers=list(descriptors))


def good(**more: Any) -> dict[str, Any]:
    """The descriptor of the layer, with other fields than usual."""
    return descriptor(f"{OCI}.layer.v1.tar", LAYER) | more


def listing(*entries: Any, **more: Any) -> Members:
    """A layout whose index has these entries."""
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": list(entries)} | more
    return [*blobs(*contents(ONE)), ("index.json", to_json(index)), VERSION]


def nested(depth: int) -> Members:
    """Indexes, one in the other."""
    inner, kind = ONE.manifest(), MANIFEST
    made = [*contents(ONE)]
    for _ in range(depth):
        inner, kind = (
            to_json(
                {
                    "schemaVersion": 2,
                    "mediaType": INDEX,
                    "manifests": [
                        descriptor(kind, inner, platform={"os": "linux", "architecture": "amd64"})
                    ],
                }
            ),
            INDEX,
        )
        made.append(inner)
    return layout([descriptor(INDEX, inner)], *made)


def wide() -> Members:
    """An index with the same index in it hundreds of times, and that again."""
    inner = to_json({"schemaVersion": 2, "manifests": [entry(ONE)] * 200})
    outer = to_json({"schemaVersion": 2, "manifests": [descriptor(INDEX, inner)] * 200})
    return layout([descriptor(INDEX, outer)] * 200, inner, outer, *contents(ONE))


BLOB = f"blobs/sha256/{sha256(LAYER)}"


def replaced(path: str, by: Callable[[Ground, Path], None]) -> Callable[[Ground, Path], None]:
    """Something else in the place of the file *path* of the layout."""

    def spoil(ground: Ground, folder: Path) -> None:
        (ground.outside / "blob").write_bytes(
            (folder / path).read_bytes() if (folder / path).is_file() else b""
        )
        if (folder / path).is_dir():
            (folder / path).rename(ground.outside / "moved")
        else:
            (folder / path).unlink()
        by(ground, folder / path)

    return spoil


def away(ground: Ground, path: Path) -> None:
    path.symlink_to(ground.outside / "blob")


def moved(ground: Ground, path: Path) -> None:
    path.symlink_to(ground.outside / "moved")


def up(ground: Ground, path: Path) -> None:
    path.symlink_to(os.path.relpath(ground.outside / "blob", path.parent))


def itself(_: Ground, path: Path) -> None:
    path.symlink_to(path.name)


def fifo(_: Ground, path: Path) -> None:
    os.mkfifo(path)


def device(_: Ground, path: Path) -> None:
    os.mknod(path, 0o20666, os.makedev(1, 5))  # /dev/zero's numbers


def folder(_: Ground, path: Path) -> None:
    path.mkdir()


LAYOUT = layout([entry(ONE, "hostile:1")], *contents(ONE))
WAYS = {
    "away": (away, "leads out of the archive"),
    "up": (up, "leads out of the archive"),
    "to-itself": (itself, "Too many levels"),
}
KINDS = {
    "fifo": (fifo, "not a regular file"),
    "device": (device, "not a regular file"),
    "directory": (folder, "not a regular file"),
}
PLACES = {
    "blob": BLOB,
    "config": f"blobs/sha256/{sha256(ONE.config)}",
    "manifest": f"blobs/sha256/{sha256(ONE.manifest())}",
    "index": "index.json",
    "version": "oci-layout",
}

MANY: list[Made] = [image(str(at)) for at in range(300)]
FOREIGN = layers(
    good(mediaType=f"{OCI}.layer.nondistributable.v1.tar", urls=["file:///etc/passwd\x1b[2J"])
)
FAR = layers(good(urls=["x" * 1_000_000]))

CASES = [
    *(
        directory(
            f"{place}-is-{kind}" if kind in KINDS else f"{place}-links-{kind}",
            LAYOUT,
            says=says,
            spoil=replaced(path, by),
        )
        for place, path in PLACES.items()
        for kind, (by, says) in (WAYS | KINDS).items()
    ),
    directory(
        "blobs-link-away", LAYOUT, says="leads out of the archive", spoil=replaced("blobs", moved)
    ),
    directory(
        "blobs-of-an-algorithm-link-away",
        LAYOUT,
        says="leads out of the archive",
        spoil=replaced("blobs/sha256", moved),
    ),
    directory("layout-without-anything", [("readme", b"nothing")], says="not an image"),
    archive(
        "blob-links-within",
        [*LAYOUT[:-2], (BLOB, Link("../../copy")), ("copy", LAYER), *LAYOUT[-2:]],
        TREE,
    ),
    archive(
        "blob-links-away-in-a-tar",
        [*LAYOUT, (BLOB, Link(UP + "x"))],
        says="leads out of the archive",
    ),
    archive(
        "index-links-away-in-a-tar",
        [("index.json", Link("/x")), *LAYOUT[:-2]],
        says="leads out of the archive",
    ),
    archive(
        "index-links-to-itself-in-a-tar",
        [("index.json", Link("index.json"))],
        says="too many links",
    ),
    # digests
    *(
        archive(f"digest-{name}", listing(entry(ONE) | {"digest": text}), says="not a digest")
        for name, text in {
            "above": "sha256:../../../../outside/kept",
            "absolute": "sha256:/etc/passwd",
            "with-slash": f"sha256:{'0' * 32}/../{'0' * 28}",
            "of-a-path": "../outside",
            "empty": "",
            "without-hex": "sha256:",
            "short": "sha256:" + "0" * 63,
            "long": "sha256:" + "0" * 65,
            "in-capitals": digest(ONE.manifest()).upper(),
            "in-capital-hex": "sha256:" + sha256(ONE.manifest()).upper(),
            "of-md5": "md5:" + "0" * 32,
            "of-sha1": "sha1:" + "0" * 40,
            "of-a-made-up-algorithm": "../sha256:" + "0" * 64,
            "with-newline": "sha256:" + "0" * 64 + "\n",
            "with-nul": "sha256:" + "0" * 64 + "\0",
            "with-other-digits": "sha256:" + "\u0660" * 64,
            "for-a-terminal": "\x1b[2J",
            "very-long": "sha256:" + "0" * 1_000_000,
        }.items()
    ),
    archive("digest-number", listing(entry(ONE) | {"digest": 5}), says="digest"),
    archive(
        "digest-of-another-manifest",
        [
            *blobs(ONE.config, LAYER),
            (f"blobs/sha256/{'1' * 64}", ONE.manifest()),
            (
                "index.json",
                to_json(
                    {
                        "schemaVersion": 2,
                        "manifests": [entry(ONE) | {"digest": "sha256:" + "1" * 64}],
                    }
                ),
            ),
        ],
        says="expected sha256:1111",
    ),
    archive(
        "digest-of-another-config",
        with_manifest(
            manifest(
                config=descriptor(f"{OCI}.config.v1+json", ONE.config)
                | {"digest": digest(LAYER), "size": len(LAYER)}
            )
        ),
        says="configuration sha256:",
    ),
    archive(
        "digest-of-another-layer",
        with_manifest(layers(good(digest=digest(image("two").layers[0]))), *image("two").layers),
        says="expected sha256:",
    ),
    archive(
        "digest-of-sha512",
        listing(entry(ONE) | {"digest": "sha512:" + "0" * 128}),
        says="missing from the archive",
    ),
    # sizes
    *(
        archive(f"size-{name}-of-{what}", make(value), says=says)
        for what, make, wrong in (
            ("manifest", lambda size: listing(entry(ONE) | {"size": size}), "bytes, got"),
            (
                "config",
                lambda size: with_manifest(
                    manifest(
                        config=descriptor(f"{OCI}.config.v1+json", ONE.config) | {"size": size}
                    )
                ),
                "bytes, got",
            ),
            ("layer", lambda size: with_manifest(layers(good(size=size))), "bytes, got"),
        )
        for name, value, says in (
            ("wrong", 7, wrong),
            ("zero", 0, wrong),
            ("huge", (1 << 63) - 1, wrong),
            ("negative", -1, "size"),
            ("beyond-64-bits", 1 << 64, "size"),
            ("fraction", 1.5, "size"),
            ("text", "10", "size"),
            ("null", None, "size"),
        )
    ),
    # what a document is
    archive(
        "both-index-and-manifest",
        with_manifest(manifest(manifests=[])),
        says="both an index and a manifest",
    ),
    archive("both-as-an-index", listing(layers=[]), says="both an index and a manifest"),
    archive(
        "both-as-a-nested-index",
        with_manifest(
            to_json(
                {
                    "schemaVersion": 2,
                    "manifests": [entry(ONE)],
                    "config": descriptor(f"{OCI}.config.v1+json", ONE.config),
                    "layers": [],
                }
            ),
            kind=INDEX,
        ),
        says="both an index and a manifest",
    ),
    archive(
        "manifest-that-says-index",
        with_manifest(manifest(mediaType=INDEX)),
        says="contradicts its fields",
    ),
    archive("index-that-says-manifest", listing(mediaType=MANIFEST), says="contradicts its fields"),
    archive(
        "manifest-where-an-index-is",
        [*LAYOUT[:-2], ("index.json", ONE.manifest())],
        says="a manifest where an index is needed",
    ),
    archive(
        "index-where-a-manifest-is",
        listing(descriptor(MANIFEST, to_json({"schemaVersion": 2, "manifests": []})))
        + list(blobs(to_json({"schemaVersion": 2, "manifests": []}))),
        says="an index where a manifest is needed",
    ),
    archive(
        "schema-1",
        with_manifest(
            to_json({"schemaVersion": 1, "name": "x", "fsLayers": [{"blobSum": digest(LAYER)}]}),
            kind=f"{DOCKER}.distribution.manifest.v1+prettyjws",
        ),
        says="schema 1",
    ),
    archive(
        "schema-1-in-disguise",
        with_manifest(manifest(fsLayers=[{"blobSum": digest(LAYER)}])),
        says="schema 1",
    ),
    archive(
        "schema-3", with_manifest(manifest(schemaVersion=3)), says="schema version 3 is not known"
    ),
    archive("schema-huge", with_manifest(manifest(schemaVersion=10**30)), says="manifest"),
    archive(
        "artifact",
        with_manifest(
            manifest(config=descriptor("application/vnd.oci.empty.v1+json", b"{}")), b"{}"
        ),
        says="an artifact",
    ),
    archive(
        "artifact-with-terminal-codes",
        with_manifest(manifest(config=descriptor("\x1b[2J", b"{}")), b"{}"),
        says="an artifact (\\x1b[2J)",
    ),
    archive(
        "artifact-of-a-long-type",
        with_manifest(manifest(config=descriptor("x" * 100000, b"{}")), b"{}"),
        says="an artifact (xxx",
    ),
    archive(
        "attestations-only",
        lambda _: layout([attestation(ONE)[0]], *attestation(ONE)[1], *contents(ONE)),
        says="holds no container image",
    ),
    archive("index-of-nothing", listing(), says="holds no container image"),
    archive(
        "index-of-unknown-types",
        listing(entry(ONE) | {"mediaType": "text/plain"}),
        says="holds no container image",
    ),
    archive("index-of-nulls", listing(None), says="index.json"),
    archive("index-of-indexes", nested(8), TREE),
    archive("index-of-too-many-indexes", nested(12), says="too many indexes, one in the other"),
    archive("index-of-indexes-wide", wide(), says="too many indexes, one in the other"),
    archive(
        "index-of-itself",
        listing(descriptor(INDEX, b"x") | {"digest": "sha256:" + "a" * 64, "size": 100}),
        says="missing from the archive",
    ),
    archive(
        "index-of-5000-images",
        listing(*[entry(ONE, f"n:{at}") for at in range(5000)]),
        says="too many indexes",
    ),
    archive(
        "index-of-the-same-image",
        listing(*[entry(ONE, f"n:{at}") for at in range(4000)]),
        says="more than 1000 names",
    ),
    archive(
        "index-of-many-images",
        lambda _: layout([entry(one, f"a:{at}") for at, one in enumerate(MANY)], *contents(*MANY)),
        says="holds several images",
    ),
    archive(
        "layer-of-an-unknown-type",
        with_manifest(layers(good(mediaType="application/x-rpm"))),
        says="a layer of type application/x-rpm",
    ),
    archive(
        "layer-encrypted",
        with_manifest(layers(good(mediaType=f"{OCI}.layer.v1.tar+gzip+encrypted"))),
        says="which cannot be unpacked",
    ),
    archive(
        "layer-of-a-type-for-terminals",
        with_manifest(layers(good(mediaType="\x1b]0;x\x07" * 5000))),
        says="a layer of type \\x1b]0;x\\x07",
    ),
    archive(
        "layer-says-gzip", with_manifest(layers(good(mediaType=f"{OCI}.layer.v1.tar+gzip"))), TREE
    ),
    archive(
        "layer-elsewhere",
        layout([descriptor(MANIFEST, FOREIGN)], FOREIGN, ONE.config),
        says="it is kept at file:///etc/passwd\\x1b[2J",
    ),
    archive(
        "layer-far-elsewhere",
        layout([descriptor(MANIFEST, FAR)], FAR, ONE.config),
        says="it is kept at xxx",
    ),
    archive("layer-in-the-manifest", with_manifest(layers(good(data="AAAA"))), TREE),
    archive(
        "layers-fewer-than-diff-ids",
        with_manifest(layers()),
        says="0 layers, but the configuration names 1",
    ),
    archive(
        "layers-more-than-diff-ids",
        with_manifest(layers(good(), good())),
        says="2 layers, but the configuration names 1",
    ),
    archive(
        "layers-beyond-all-limits",
        with_manifest(layers(*[good()] * 5000)),
        says="5000 layers, at most 4096",
    ),
    archive("layers-are-text", with_manifest(manifest(layers="x")), says="layers"),
    archive("layers-of-numbers", with_manifest(layers(1)), says="layers"),
    archive(
        "config-missing-in-manifest",
        with_manifest(manifest(config=None)),
        says="neither a manifest nor an index",
    ),
    archive(
        "config-is-the-layer",
        with_manifest(manifest(config=descriptor(f"{OCI}.config.v1+json", LAYER))),
        says="configuration sha256:",
    ),
    archive(
        "subject-is-passed-over", with_manifest(manifest(subject=descriptor(MANIFEST, b"x"))), TREE
    ),
    archive(
        "version-2-of-the-layout",
        [*LAYOUT[:-1], ("oci-layout", b'{"imageLayoutVersion":"2.0.0"}')],
        says="not version 1",
    ),
    archive(
        "version-huge", [*LAYOUT[:-1], ("oci-layout", b" " * 100000)], says="more than 4096 bytes"
    ),
    archive("version-missing", LAYOUT[:-1], TREE),
    archive(
        "platform-for-a-terminal",
        listing(entry(ONE, platform={"os": "\x1b[2J", "architecture": "x" * 100000})),
        TREE,
    ),
    archive("platform-numbers", listing(entry(ONE, platform={"os": 1})), says="os"),
    archive(
        "annotations-numbers", listing(entry(ONE) | {"annotations": {"a": 1}}), says="annotations"
    ),
    archive(
        "annotations-many",
        listing(entry(ONE) | {"annotations": {f"k{at}": "v" for at in range(100000)}}),
        TREE,
    ),
    archive(
        "names-for-a-terminal",
        listing(entry(ONE, "\x1b[2J"), entry(image("two"), "a\nb")),
        says="\\x1b[2J",
    ),
    directory(
        "dir-above",
        [
            ("version", b"Directory Transport Version: 1.1\n"),
            ("manifest.json", layers(good(digest="sha256:../../outside/kept"))),
            (sha256(ONE.config), ONE.config),
        ],
        says="not a digest",
    ),
    directory(
        "dir-blob-links-away",
        [
            ("version", b"Directory Transport Version: 1.1\n"),
            ("manifest.json", ONE.manifest()),
            (sha256(ONE.config), ONE.config),
            (sha256(LAYER), LAYER),
        ],
        says="leads out of the archive",
        spoil=replaced(sha256(LAYER), away),
    ),
    directory(
        "dir-list-is-a-fifo",
        [("version", b"Directory Transport Version: 1.1\n"), ("manifest.json", ONE.manifest())],
        says="not a regular file",
        spoil=replaced("manifest.json", fifo),
    ),
    directory(
        "docker-list-links-away",
        [("manifest.json", b"[]")],
        says="leads out of the archive",
        spoil=replaced("manifest.json", away),
    ),
]
