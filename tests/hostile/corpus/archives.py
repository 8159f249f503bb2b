"""What `docker save` writes, with lists that lie or lead out, and files that are no tar."""

import gzip
import tarfile

from tests.hostile.blocks import END, block, entry, extended, octal, pax
from tests.hostile.case import OUT, UP, Ground, archive, directory, file_of
from tests.support.archives import (
    Link,
    Made,
    Members,
    Special,
    before_1_10,
    from_1_10,
    image,
    sha256,
    tar_bytes,
    to_json,
    v1_id,
)
from tests.support.layers import file, tar

ONE = image("one")
LAYER = ONE.layers[0]
TREE = {"file": "file one"}
GOOD = from_1_10([(ONE, ["hostile:1"])])
CONFIG = f"{sha256(ONE.config)}.json"


def listed(*, config: object = "c.json", layers: object = ("l.tar",), tags: object = None) -> bytes:
    """A ``manifest.json`` of one image."""
    return to_json([{"Config": config, "RepoTags": tags, "Layers": layers}])


def docker(manifest: bytes, *more: tuple[str, object], config: bytes = ONE.config) -> Members:
    """An archive with that list, a configuration and a layer under plain names."""
    members = [("c.json", config), ("l.tar", LAYER), ("manifest.json", manifest), *more]
    return members  # type: ignore[return-value]  # what *more* may be is said there


def aimed(ground: Ground, path: str) -> str:
    """*path*, with something to find at its end: the configuration itself."""
    (ground.outside / "c.json").write_bytes(ONE.config)
    (ground.outside / "l.tar").write_bytes(LAYER)
    return ground.aimed(path)


def away(name: str, path: str, *, says: str) -> list[object]:
    """Configuration and layer at *path*, by a path and by a link, in a tar and a directory."""
    return [
        archive(
            f"config-{name}", lambda g: docker(listed(config=aimed(g, path + "/c.json"))), says=says
        ),
        archive(
            f"layer-{name}", lambda g: docker(listed(layers=[aimed(g, path + "/l.tar")])), says=says
        ),
        directory(
            f"directory-config-{name}",
            lambda g: docker(listed(config=aimed(g, path + "/c.json"))),
            says=says,
        ),
        directory(
            f"directory-layer-{name}",
            lambda g: docker(listed(layers=[aimed(g, path + "/l.tar")])),
            says=says,
        ),
    ]


def linked(name: str, target: str, *, says: str, hard: bool = False) -> list[object]:
    """Configuration and layer that are links to *target*."""

    def members(ground: Ground) -> Members:
        link = Link(aimed(ground, target + "/l.tar"), hard=hard)
        return [("c.json", ONE.config), ("manifest.json", listed()), ("l.tar", link)]

    made = [archive(f"layer-linked-{name}", members, says=says)]
    return (
        made if hard else [*made, directory(f"directory-layer-linked-{name}", members, says=says)]
    )


def config(**more: object) -> bytes:
    """A configuration with other fields than usual."""
    return Made(ONE.layers, more).config


def count(number: int) -> bytes:
    """A configuration with that many diff ids."""
    ids = [f"sha256:{sha256(LAYER)}"] * number
    return config(rootfs={"type": "layers", "diff_ids": ids})


def text(value: object) -> Members:
    return docker(to_json(value))


CASES = [
    *away("above", "../outside", says="leads out of the archive"),
    *away("far-above", UP + OUT, says="leads out of the archive"),
    *away("at-an-absolute-path", OUT, says="leads out of the archive"),
    *away("by-dots", "a/../../outside", says="leads out of the archive"),
    *linked("away", OUT, says="leads out of the archive"),
    *linked("away-relative", UP + OUT, says="leads out of the archive"),
    *linked("hard", OUT, says="missing from the archive", hard=True),
    *linked("hard-relative", UP + OUT, says="leads out of the archive", hard=True),
    archive(
        "layer-links-to-itself",
        docker(listed(layers=["x"]), ("x", Link("x"))),
        says="too many links",
    ),
    archive(
        "layer-links-in-a-ring",
        docker(listed(layers=["x"]), ("x", Link("y")), ("y", Link("./x"))),
        says="too many links",
    ),
    archive("layer-links-within", docker(listed(layers=["x"]), ("x", Link("l.tar"))), TREE),
    archive(
        "layer-links-to-a-directory",
        docker(listed(layers=["x"]), ("x", Link("d")), ("d", None)),
        says="not a regular file",
    ),
    archive(
        "layer-is-a-directory", docker(listed(layers=["d"]), ("d", None)), says="not a regular file"
    ),
    archive(
        "layer-is-a-fifo",
        docker(listed(layers=["d"]), ("d", Special(tarfile.FIFOTYPE))),
        says="not a regular file",
    ),
    archive(
        "layer-is-a-device",
        docker(listed(layers=["d"]), ("d", Special(tarfile.BLKTYPE))),
        says="not a regular file",
    ),
    archive(
        "layer-is-sparse",
        docker(listed(layers=["d"]), ("d", Special(tarfile.GNUTYPE_SPARSE))),
        says="stored as a sparse file",
    ),
    archive(
        "layer-is-missing", docker(listed(layers=["nowhere"])), says="missing from the archive"
    ),
    archive("layer-without-a-name", docker(listed(layers=[""])), says="an empty path"),
    archive("layer-with-nul", docker(listed(layers=["l.tar\0"])), says="NUL in a name"),
    archive(
        "layer-name-too-long", docker(listed(layers=["x" * 100000])), says="the path is too long"
    ),
    archive(
        "layer-name-too-deep", docker(listed(layers=["x/" * 2000])), says="the path is too long"
    ),
    archive(
        "layer-for-a-terminal",
        docker(listed(layers=["\x1b[2J\u202e"])),
        says="\\x1b[2J\\u202e: missing",
    ),
    archive("layer-is-the-list", docker(listed(layers=["manifest.json"])), says="expected sha256:"),
    archive(
        "layer-is-the-configuration", docker(listed(layers=["c.json"])), says="expected sha256:"
    ),
    archive(
        "layer-of-another", docker(listed(), config=image("two").config), says="expected sha256:"
    ),
    archive(
        "layer-is-no-tar",
        docker(listed(layers=["x"]), ("x", b"no tar" * 500)),
        says="not a readable tar",
    ),
    archive("layer-listed-twice", docker(listed(layers=["l.tar"] * 2), config=count(2)), TREE),
    archive(
        "layer-listed-1000-times", docker(listed(layers=["l.tar"] * 1000), config=count(1000)), TREE
    ),
    archive(
        "layers-too-many",
        docker(listed(layers=["l.tar"] * 5000), config=count(5000)),
        says="5000 layers, at most 4096",
    ),
    archive(
        "diff-ids-too-few",
        docker(listed(layers=["l.tar"] * 2), config=count(1)),
        says="2 layers, but the configuration names 1",
    ),
    archive(
        "diff-ids-too-many",
        docker(listed(), config=count(2)),
        says="1 layers, but the configuration names 2",
    ),
    archive(
        "diff-ids-none",
        docker(listed(), config=count(0)),
        says="1 layers, but the configuration names 0",
    ),
    archive(
        "diff-ids-missing",
        docker(listed(), config=config(rootfs={"type": "layers"})),
        says="the configuration names 0",
    ),
    archive(
        "diff-ids-that-are-paths",
        docker(
            listed(),
            config=config(rootfs={"type": "layers", "diff_ids": ["sha256:../../../outside/kept"]}),
        ),
        says="not a digest",
    ),
    archive(
        "diff-ids-short",
        docker(listed(), config=config(rootfs={"type": "layers", "diff_ids": ["sha256:ab"]})),
        says="not a digest",
    ),
    archive(
        "diff-ids-of-md5",
        docker(listed(), config=config(rootfs={"type": "layers", "diff_ids": ["md5:" + "0" * 32]})),
        says="not a digest",
    ),
    archive(
        "diff-ids-in-capitals",
        docker(
            listed(),
            config=config(
                rootfs={"type": "layers", "diff_ids": [f"sha256:{sha256(LAYER).upper()}"]}
            ),
        ),
        says="not a digest",
    ),
    archive(
        "diff-ids-numbers",
        docker(listed(), config=config(rootfs={"type": "layers", "diff_ids": [1]})),
        says="xpected",
    ),
    archive(
        "rootfs-of-another-type",
        docker(listed(), config=config(rootfs={"type": "windows", "diff_ids": []})),
        says="not made of layers",
    ),
    archive(
        "rootfs-missing",
        docker(listed(), config=to_json({"architecture": "amd64"})),
        says="no rootfs",
    ),
    archive(
        "config-of-another-digest",
        [(CONFIG, image("two").config), ("l.tar", LAYER), ("manifest.json", listed(config=CONFIG))],
        says="expected sha256:",
    ),
    archive("config-is-a-link", docker(listed(config="x"), ("x", Link("c.json"))), TREE),
    archive(
        "config-is-a-directory", docker(listed(config="x"), ("x", None)), says="not a regular file"
    ),
    archive("config-missing", docker(listed(config="nowhere")), says="missing from the archive"),
    archive("config-without-a-name", docker(listed(config="")), says="an empty path"),
    archive("config-twice", docker(listed(), ("c.json", b"{}")), says="no rootfs"),
    archive("list-empty", docker(b"[]"), says="holds no container image"),
    archive("list-of-nothing", text([{}]), says="manifest.json"),
    archive("list-of-numbers", text([1, 2]), says="manifest.json"),
    archive("list-of-lists", text([[[]]]), says="manifest.json"),
    archive("list-is-text", text("manifest"), says="not an image"),
    archive("list-layers-is-text", docker(listed(layers="l.tar")), says="manifest.json"),
    archive("list-layers-null", docker(listed(layers=None), config=count(0)), {}),
    archive("list-config-null", docker(listed(config=None)), says="manifest.json"),
    archive("list-config-number", docker(listed(config=5)), says="manifest.json"),
    archive("list-without-bytes", docker(b""), says="not an image"),
    archive(
        "list-is-a-directory",
        [("manifest.json", None), ("c.json", b"{}")],
        says="not a regular file",
    ),
    archive(
        "list-links-to-itself", [("manifest.json", Link("manifest.json"))], says="too many links"
    ),
    archive(
        "list-links-away",
        lambda g: [("manifest.json", Link(g.aimed(OUT + "/kept")))],
        says="leads out of the archive",
    ),
    archive("list-twice", docker(b"garbage", ("manifest.json", listed())), TREE),
    archive(
        "list-by-another-path",
        [("c.json", ONE.config), ("l.tar", LAYER), ("././/manifest.json", listed())],
        TREE,
    ),
    archive("list-beneath-a-folder", [("x/manifest.json", listed())], says="not an image"),
    archive(
        "list-too-long", docker(b"[" + b" " * (4 << 20) + b"]"), says="more than 4194304 bytes"
    ),
    archive(
        "list-of-many-images",
        docker(
            to_json(
                [
                    {"Config": "c.json", "RepoTags": None, "Layers": ["l.tar", str(at)]}
                    for at in range(40000)
                ]
            )
        ),
        says="holds several images",
    ),
    archive(
        "list-of-the-same-image",
        docker(
            to_json(
                [
                    {"Config": "c.json", "RepoTags": [f"n:{at}"], "Layers": ["l.tar"]}
                    for at in range(50000)
                ]
            )
        ),
        says="more than 1000 names",
    ),
    archive("tags-without-end", docker(listed(tags=["a"] * 700_000)), says="values in JSON"),
    archive("tags-that-are-options", docker(listed(tags=["-x", "--root=/", "-", ""])), TREE),
    archive(
        "tags-that-are-paths",
        docker(listed(tags=["../../outside/kept:1", "/etc/passwd", "a/../b:1", ".:x"])),
        TREE,
    ),
    archive("tags-for-a-terminal", docker(listed(tags=["\x1b[2J:1", "a\nb:1", "\u202e:x"])), TREE),
    archive("tags-null", docker(listed(tags=[None])), says="manifest.json"),
    archive("tags-too-long", docker(listed(tags=["a" * 300 + ":1", "a:" + "b" * 200])), TREE),
    archive(
        "choice-of-what-is-not-there",
        docker(listed(tags=["\x1b[2J:1", "ok:1"])),
        says="no image other:1",
        choice=":other:1",
    ),
    archive(
        "choice-among-terminal-codes",
        docker(
            to_json(
                [
                    {"Config": "c.json", "RepoTags": [f"\x1b[{at}J"], "Layers": ["l.tar", str(at)]}
                    for at in range(2)
                ]
            )
        ),
        says="\\x1b[0J",
    ),
    archive(
        "v1-its-own-parent",
        before_1_10([(v1_id(1), {"parent": v1_id(1)}, LAYER)], {"a": {"1": v1_id(1)}}),
        says="does not end",
    ),
    archive(
        "v1-parents-in-a-ring",
        before_1_10(
            [(v1_id(1), {"parent": v1_id(2)}, LAYER), (v1_id(2), {}, LAYER)], {"a": {"1": v1_id(2)}}
        ),
        says="does not end",
    ),
    archive(
        "v1-parent-outside",
        before_1_10([(v1_id(1), {"parent": "../outside"}, LAYER)], {"a": {"1": v1_id(1)}}),
        says="leads out of the archive",
    ),
    archive(
        "v1-parent-missing",
        before_1_10([(v1_id(2), {"parent": v1_id(1)}, LAYER)], {"a": {"1": v1_id(2)}}),
        says="missing from the archive",
    ),
    archive(
        "v1-id-outside",
        before_1_10([(v1_id(1), {}, LAYER)], {"a": {"1": "../outside"}}),
        says="leads out of the archive",
    ),
    archive("v1-names-of-no-image", before_1_10([(v1_id(1), {}, LAYER)], {"a": {}}), tree=TREE),
    archive(
        "v1-bomb",
        before_1_10([(v1_id(1), {}, gzip.compress(bytes(64 << 20)))], {"a": {"1": v1_id(1)}}),
        tree={},
    ),
    file_of("file-empty", lambda _: b"", says="the file is empty"),
    file_of("file-of-one-byte", lambda _: b"x", says="image.tar"),
    file_of("file-of-text", lambda _: b"hello, world\n" * 100, says="not a tar"),
    file_of("file-of-zeros", lambda _: bytes(10240), says="not an image"),
    file_of("file-of-one-zero-block", lambda _: bytes(512), says="not an image"),
    file_of("file-is-zip", lambda _: b"PK\x03\x04" + bytes(600), says="not a tar"),
    file_of(
        "file-is-ar",
        lambda _: (
            b"!<arch>\nmanifest.json/  0           0     0     100644  2         `\n[]" + bytes(600)
        ),
        says="not a tar",
    ),
    file_of(
        "file-is-cpio",
        lambda _: b"070701" + b"0" * 104 + b"manifest.json\0" + bytes(600),
        says="not a tar",
    ),
    file_of("file-is-elf", lambda _: b"\x7fELF\2\1\1" + bytes(700), says="not a tar"),
    file_of("file-is-a-root", lambda _: tar(file("etc/passwd", b"x")), says="not an image"),
    file_of(
        "file-for-a-terminal",
        lambda _: b"x" * 600,
        says="\\x1b[2J\\x0apyoverlay: fine.tar",
        called="\x1b[2J\npyoverlay: fine.tar",
    ),
    file_of("file-of-a-bad-name", lambda _: b"x" * 600, says="\\xff.tar", called="\udcff.tar"),
    *(
        file_of(f"file-cut-at-{name}", lambda _, at=at: tar_bytes(GOOD)[:at], says=says)  # type: ignore[misc]  # mypy infers no lambda with a default
        for name, at, says in (
            ("header", 100, "image.tar"),
            ("block", 512, "image"),
            ("body", 1024 + 300, "image.tar"),
            ("list", -3000 - 7600, "image.tar"),
        )
    ),
    file_of(
        "file-goes-on-behind-the-end", lambda _: tar_bytes(GOOD) + b"trailing garbage" * 1000, TREE
    ),
    file_of(
        "file-goes-on-as-a-tar",
        lambda _: tar_bytes(GOOD) + tar_bytes([("manifest.json", b"[]")]),
        TREE,
    ),
    file_of(
        "file-with-one-zero-block",
        lambda _: tar_bytes(GOOD[:-2])[:0] + tar_bytes(GOOD).rstrip(b"\0") + bytes(1024),
        TREE,
    ),
    file_of(
        "file-of-too-many-members",
        lambda _: entry(name=b"x") * 100_100 + END,
        says="too many members",
    ),
    file_of(
        "file-with-a-header-of-digits",
        lambda _: extended(b"x", b"1" * 60000) + entry(b"1") + END,
        says="no length",
    ),
    file_of(
        "file-with-a-giant-header",
        lambda _: extended(b"x", b"", octal(1 << 30)) + entry(b"1") + END,
        says="absurdly long",
    ),
    file_of(
        "file-with-a-giant-name",
        lambda _: extended(b"L", b"a" * (1 << 20)) + entry(b"1") + END,
        says="absurdly long",
    ),
    file_of(
        "file-with-a-negative-size", lambda _: block(size=b"\xff" * 12) + END, says="a size of -1"
    ),
    file_of(
        "file-with-a-huge-size",
        lambda _: block(size=b"\x80" + b"\x7f" * 11) + END,
        says="image.tar",
    ),
    file_of(
        "file-larger-than-it-is",
        lambda _: block(size=octal(1 << 30)) + END,
        says="the tar ends too early",
    ),
    file_of(
        "file-of-headers-only",
        lambda _: extended(b"g", b"9 comment=") * 5000 + END,
        says="image.tar",
    ),
    file_of("file-with-global-size", lambda _: extended(b"g", b"") + tar_bytes(GOOD), TREE),
    file_of(
        "file-with-pax-names",
        lambda _: (
            b"".join(pax((b"path", b"p" * 90 + b"%d" % at)) + entry(b"1") for at in range(2000))
            + tar_bytes(GOOD)
        ),
        TREE,
    ),
]
