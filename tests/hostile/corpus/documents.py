"""JSON that is deep, long, twice, or no JSON."""

from typing import Any

from tests.hostile.case import Case, archive
from tests.hostile.corpus.archives import ONE, TREE, docker, listed
from tests.support.archives import Made

MB = 1 << 20


def as_config(name: str, data: bytes, *, says: str = "", tree: bool = False) -> Case:
    """That configuration in an archive that is otherwise good."""
    return archive(
        f"config-{name}", docker(listed(), config=data), TREE if tree else None, says or None
    )


def as_list(name: str, data: bytes, *, says: str = "manifest.json") -> Case:
    """That ``manifest.json`` in an archive that is otherwise good."""
    return archive(f"json-{name}", docker(data), says=says)


def config(**more: Any) -> bytes:
    return Made(ONE.layers, more).config


def text(raw: bytes) -> bytes:
    """A good configuration with *raw* among its fields."""
    return config()[:-1] + b"," + raw + b"}"


GOOD = listed()

CASES = [
    as_list("deep-lists", b"[" * (2 * MB)),
    as_list("deep-lists-closed", b"[" * 100_000 + b"]" * 100_000),
    as_list("deep-objects", b'[{"a":' * 400_000),
    as_list(
        "deep-in-an-unknown-field",
        b'[{"Config":"c.json","Layers":[],"x":' + b"[" * 1_000_000 + b"]" * 1_000_000 + b"}]",
    ),
    as_list("cut", GOOD[:-10]),
    as_list("goes-on", GOOD + b"[]"),
    as_list("with-comment", b"[/* x */]"),
    as_list("with-single-quotes", b"[{'Config':'c.json'}]"),
    as_list("with-trailing-comma", GOOD[:-1] + b",]"),
    as_list("in-utf-16", GOOD.decode().encode("utf-16"), says="not an image"),
    as_list("with-byte-order-mark", b"\xef\xbb\xbf" + GOOD, says="not an image"),
    as_list("not-utf-8", b'[{"Config":"\xff\xfe","Layers":[]}]'),
    as_list("lone-surrogate", b'[{"Config":"\\ud800","Layers":[]}]', says="image.tar"),
    as_list("lone-surrogate-raw", b'[{"Config":"\xed\xa0\x80","Layers":[]}]'),
    as_list("raw-newline", b'[{"Config":"a\nb","Layers":[]}]'),
    as_list("nul-bytes", GOOD.replace(b"c.json", b"c\0.json")),
    as_list("nul-escaped", GOOD.replace(b"c.json", b"c\\u0000.json"), says="NUL in a name"),
    as_list("nan", b"[NaN]"),
    as_list("infinity", b'[{"Config":-Infinity}]'),
    as_list("huge-integer", b"[" + b"9" * MB + b"]"),
    as_list("huge-exponent", b"[1e999999999]"),
    as_list("true", b"[true]"),
    as_list(
        "key-twice",
        b'[{"Config":"nowhere","Config":"c.json","Layers":["l.tar"],"Layers":["other"]}]',
        says="missing from the archive",
    ),
    as_list("million-objects", b"[" + b"{}," * 1_000_000 + b"{}]"),
    as_config(
        "key-twice",
        text(b'"rootfs":{"type":"layers","diff_ids":[]}'),
        says="the configuration names 0",
    ),
    as_config(
        "deep", text(b'"x":' + b"[" * 900_000 + b"]" * 900_000), says="JSON nested too deeply"
    ),
    as_config(
        "deep-labels",
        text(b'"config":{"Labels":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"}"),
        says="c.json",
    ),
    as_config("empty", b"", says="c.json"),
    as_config("null", b"null", says="c.json"),
    as_config("list", b"[]", says="c.json"),
    as_config("huge", b" " * (9 * MB), says="bytes"),
    as_config("huge-integer-in-unknown-field", text(b'"x":' + b"9" * MB), tree=True),
    as_config("not-utf-8", text(b'"author":"\xff"'), says="c.json"),
    as_config("nan", text(b'"x":NaN'), says="c.json"),
    as_config("numbers-for-text", config(architecture=1), says="architecture"),
    as_config(
        "history-of-millions",
        config(history=[])[:-3] + b"[" + b"{}," * (2 * MB) + b"{}]}",
        says="values in JSON",
    ),
    as_config("history-of-numbers", config(history=[1]), says="history"),
    as_config("history-is-text", config(history="x"), says="history"),
    as_config("history-shorter-than-layers", config(history=[]), tree=True),
    as_config(
        "history-longer-than-layers",
        config(history=[{"created_by": "\x1b[2J" * 100}] * 500),
        tree=True,
    ),
    as_config(
        "history-for-a-terminal",
        config(history=[{"created_by": "\x1b]0;x\x07\u202e", "comment": "\r\n"}]),
        tree=True,
    ),
    as_config(
        "labels-for-a-terminal",
        config(config={"Labels": {"\x1b[2J": "\x9b2J", "": "\0"}}),
        tree=True,
    ),
    as_config("labels-of-numbers", config(config={"Labels": {"a": 1}}), says="abels"),
    as_config(
        "labels-many", config(config={"Labels": {f"{at}": "" for at in range(300_000)}}), tree=True
    ),
    as_config(
        "environment-of-a-loader",
        config(config={"Env": ["LD_PRELOAD=/x", "=", "", "A", "A=1", "A=2", "\0"]}),
        tree=True,
    ),
    as_config(
        "environment-of-millions",
        config(config={"Env": []}).replace(b'"Env":[]', b'"Env":[' + b'"",' * (2 * MB) + b'""]'),
        says="values in JSON",
    ),
    as_config(
        "entrypoint-is-text",
        config(config={"Entrypoint": "/bin/sh -c evil", "Cmd": "x"}),
        tree=True,
    ),
    as_config("entrypoint-number", config(config={"Cmd": [1]}), says="md"),
    as_config(
        "directory-outside",
        config(config={"WorkingDir": "../../..", "User": "0:0\x1b", "Volumes": {"/../x": {}}}),
        tree=True,
    ),
    as_config(
        "created-is-no-time",
        config(created="\x1b[2J", os="\x1b[2J", author="x" * 100_000),
        tree=True,
    ),
    as_config(
        "health-check-huge",
        config(config={"Healthcheck": {"Interval": 10**30, "Test": [[]]}}),
        says="Healthcheck",
    ),
    as_config(
        "lists-in-any-field",
        config(config={"ExposedPorts": {"a": []}}).replace(
            b'"a":[]', b'"a":[' + b"[]," * MB + b"[]]"
        ),
        says="values in JSON",
    ),
]
