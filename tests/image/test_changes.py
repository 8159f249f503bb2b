"""What ``--change`` and a Dockerfile say of a configuration, as docker and podman take it."""

from typing import Any

import pytest

from overlayfs.errors import OverlayError
from overlayfs.image.changes import changed
from overlayfs.image.config import History, ImageConfig
from overlayfs.image.digest import Digest
from overlayfs.image.edits import Document, new, to_json, with_config, with_layer, with_step
from overlayfs.image.platform import Platform
from overlayfs.image.words import plain, split

EMPTY = new(Platform.parse("linux/arm/v7"), "2020-01-01T00:00:00Z")
BASE = with_config(
    EMPTY, Env=["PATH=/bin", "EMPTY="], WorkingDir="/srv", Unknown={"kept": True}, Cmd=["old"]
)


def after(*changes: str, base: Document = BASE) -> dict[str, Any]:
    """The fields of *base*'s config that *changes* changed."""
    document = base
    for change in changes:
        document = changed(document, change)
    before = base["config"]
    assert all(document[key] == base[key] for key in base if key != "config")
    return {key: one for key, one in document["config"].items() if before.get(key) != one}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (['CMD ["/bin/sh", "-l"]'], {"Cmd": ["/bin/sh", "-l"]}),
        (["CMD []"], {"Cmd": []}),
        (["cmd echo $PATH  'x'"], {"Cmd": ["/bin/sh", "-c", "echo $PATH  'x'"]}),
        (["CMD [ -f x ] && y"], {"Cmd": ["/bin/sh", "-c", "[ -f x ] && y"]}),
        (["CMD [1]"], {"Cmd": ["/bin/sh", "-c", "[1]"]}),
        (
            ['SHELL ["/bin/ash", "-ec"]', "CMD x"],
            {"Shell": ["/bin/ash", "-ec"], "Cmd": ["/bin/ash", "-ec", "x"]},
        ),
        (["CMD=/bin/sh"], {"Cmd": ["/bin/sh", "-c", "/bin/sh"]}),
        (['ENTRYPOINT ["a"]'], {"Entrypoint": ["a"]}),
        (["ENV A=b"], {"Env": ["PATH=/bin", "EMPTY=", "A=b"]}),
        (["ENV=A=b"], {"Env": ["PATH=/bin", "EMPTY=", "A=b"]}),
        (["ENV A b  c"], {"Env": ["PATH=/bin", "EMPTY=", "A=b  c"]}),
        (["ENV PATH=$PATH:/x"], {"Env": ["PATH=/bin:/x", "EMPTY="]}),
        (
            ["ENV A=\"x $PATH\" B='$PATH' C=a\\ b D=${NO:-d}${PATH:+e}"],
            {"Env": ["PATH=/bin", "EMPTY=", "A=x /bin", "B=$PATH", "C=a b", "D=de"]},
        ),
        # One line sees the values from before it.
        (["ENV A=1 B=$A"], {"Env": ["PATH=/bin", "EMPTY=", "A=1", "B="]}),
        (["ENV A==x"], {"Env": ["PATH=/bin", "EMPTY=", "A==x"]}),
        (
            ["LABEL b=1 a=\"two words\" 'c d'=3"],
            {"Labels": {"a": "two words", "b": "1", "c d": "3"}},
        ),
        (
            ["EXPOSE 80 53/UDP 8000-8002", "EXPOSE 80/tcp"],
            {
                "ExposedPorts": {
                    "53/udp": {},
                    "80/tcp": {},
                    "8000/tcp": {},
                    "8001/tcp": {},
                    "8002/tcp": {},
                }
            },
        ),
        (["VOLUME /b /a", 'VOLUME ["/c d"]'], {"Volumes": {"/a": {}, "/b": {}, "/c d": {}}}),
        (["WORKDIR sub/../x"], {"WorkingDir": "/srv/x"}),
        (["WORKDIR //abs/"], {"WorkingDir": "/abs"}),
        (["WORKDIR ../../.."], {"WorkingDir": "/"}),
        (["WORKDIR $PATH", "WORKDIR a"], {"WorkingDir": "/bin/a"}),
        (["USER 1000:1000"], {"User": "1000:1000"}),
        (["STOPSIGNAL SIGKILL"], {"StopSignal": "SIGKILL"}),
        (["ONBUILD RUN x", "ONBUILD RUN y"], {"OnBuild": ["RUN x", "RUN y"]}),
    ],
)
def test_instructions(changes: list[str], expected: dict[str, Any]) -> None:
    assert after(*changes) == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("RUN x", "not an instruction that is known here"),
        ("CMD", "not an instruction"),
        ("", "not an instruction"),
        ("CMD ", "--change CMD: nothing behind it"),
        ("ENV A", "--change ENV: no value for 'A'"),
        ("ENV A=1 B", "'B' is not NAME=VALUE"),
        ("ENV =1", "'=1' is not NAME=VALUE"),
        ("ENV A='x", "no ' at its end"),
        ('LABEL A="x', 'no " at its end'),
        ("ENV A=${x", "only :- and :\\+ are known"),
        ("ENV A=${x:-y", "no } at its end"),
        ("ENV A=${}", "no name behind"),
        ("ENV A=" + "${x:-" * 99 + "}" * 99, "too many braces"),
        ("EXPOSE 0", "'0' is not a port"),
        ("EXPOSE 65536", "not a port"),
        ("EXPOSE 9-8", "not a port"),
        ("EXPOSE http\x1b[31m", "'http\\\\\\\\x1b\\[31m' is not a port"),
        ("VOLUME $NOTHING", "a volume without a path"),
        ("SHELL /bin/sh", "write it as a list"),
    ],
)
def test_what_makes_no_sense(change: str, message: str) -> None:
    with pytest.raises(OverlayError, match=message):
        changed(BASE, change)


def test_a_document_is_not_changed_in_place() -> None:
    before = to_json(BASE)
    changed(changed(BASE, "ENV A=1"), "EXPOSE 1")
    with_layer(BASE, Digest.of(b""), History())
    assert to_json(BASE) == before


def test_layers_and_steps_make_the_history() -> None:
    document = with_layer(EMPTY, Digest.of(b"1"), History("2021-01-01T00:00:00Z", comment="one"))
    document = with_step(document, History(created_by="CMD x", empty_layer=True))
    config = ImageConfig.parse(to_json(document))
    assert config.created == "2021-01-01T00:00:00Z"
    assert str(config.platform) == "linux/arm/v7"
    assert config.diff_ids == (Digest.of(b"1"),)
    assert [(step.comment, step.created_by, step.empty_layer) for step in config.history] == [
        ("one", "", False),
        ("", "CMD x", True),
    ]


def test_unknown_fields_of_a_strangers_document_stay() -> None:
    document = {"moby.buildkit": {"a": [1]}, "config": None, "rootfs": {"type": "layers", "x": 1}}
    changed_ = with_layer(changed(document, "USER me"), Digest.of(b""), History())
    assert changed_["moby.buildkit"] == {"a": [1]}
    assert changed_["rootfs"] == {"type": "layers", "x": 1, "diff_ids": [str(Digest.of(b""))]}
    assert changed_["config"] == {"User": "me"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        ("  a  b\tc ", ["a", "b", "c"]),
        ("a\\ b 'c d' \"e ' f\"", ["a\\ b", "'c d'", '"e \' f"']),
        ("a\\", ["a\\"]),
    ],
)
def test_words_end_at_spaces_that_nothing_protects(text: str, words: list[str]) -> None:
    assert split(text) == words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a$", "a$"),
        ("$X$Y", "1"),
        ("${X}${Y}", "1"),
        ("\\$X '$X' \"\\$X \\q\"", "$X $X $X \\q"),
        ("${Y-d}${E-d}${Y:-d}${E:-d}", "ddd"),
        ("${Y+d}${E+d}${X:+d}${E:+d}", "dd"),
        ("${Y:-${X}}", "1"),
        ('${Y:-"a } b"}', "a } b"),
        ("$X-$X.", "1-1."),
        ("\\", ""),
    ],
)
def test_variables_and_quotes(text: str, expected: str) -> None:
    assert plain(text, {"X": "1", "E": ""}) == expected
