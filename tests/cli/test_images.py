"""What ``images`` lists, in which order and form; tests/real asks podman for the same."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from overlayfs.archive.detect import open_image
from overlayfs.cli.times import ago, moment, written_out
from overlayfs.store.store import Store
from tests.support.archives import Made, from_1_10, image, write_tar
from tests.support.command import PyOverlay

YEAR = "2020-01-01T00:00:00Z"


def config(**labels: str) -> dict[str, object]:
    return {"Labels": labels}


OLD = image("old", created="2019-05-06T07:08:09.123456789Z", config=config(kind="base", v="1"))
NEW = image("old", "new", created="2024-01-02T03:04:05+02:00", config=config(kind="app"))
NAMELESS = image("nameless", created=YEAR)
TIMELESS = image("timeless", created="0001-01-01T00:00:00Z")
KEPT = (
    (OLD, ["base:1", "base:latest"]),
    (NEW, ["localhost/team/app:2"]),
    (NAMELESS, []),
    (TIMELESS, ["timeless:latest"]),
)


@pytest.fixture
def stocked(pyoverlay: PyOverlay, tmp_path: Path) -> PyOverlay:
    """A store with four images, added out of order."""
    store = Store.open(pyoverlay.store)
    for number, (made, names) in enumerate(KEPT):
        archive = write_tar(tmp_path / f"{number}.tar", from_1_10([(made, names)]))
        with open_image(str(archive), scratch=tmp_path) as source:
            store.add(source)
    return pyoverlay


def short(made: Made) -> str:
    return made.id.removeprefix("sha256:")[:12]


def names(pyoverlay: PyOverlay, *options: str) -> list[str]:
    """The names that ``images`` shows."""
    return pyoverlay.ok("images", "--format", "{{.Repository}}:{{.Tag}}", *options).splitlines()


def test_the_table_has_dockers_columns_a_row_for_each_name_and_the_newest_first(
    stocked: PyOverlay,
) -> None:
    head, *rows = [line.split() for line in stocked.ok("images").splitlines()]
    assert head == ["REPOSITORY", "TAG", "IMAGE", "ID", "CREATED", "SIZE"]
    assert [row[:3] for row in rows] == [
        ["localhost/team/app", "2", short(NEW)],
        ["<none>", "<none>", short(NAMELESS)],
        ["base", "1", short(OLD)],
        ["base", "latest", short(OLD)],
        ["timeless", "latest", short(TIMELESS)],
    ]
    assert [" ".join(row[3:]) for row in rows][-1] == "N/A 8 B"
    assert rows[0][-2:] == ["6", "B"]  # both layers
    assert rows[2][4:6] == ["years", "ago"]


def test_ids_alone_come_once_each(stocked: PyOverlay) -> None:
    order = [NEW, NAMELESS, OLD, TIMELESS]
    assert stocked.ok("images", "-q").split() == [short(made) for made in order]
    assert stocked.ok("images", "-a", "-q", "--no-trunc").split() == [made.id for made in order]


def test_ids_in_full_and_digests(stocked: PyOverlay) -> None:
    known = {one["id"]: one["manifest"] for one in stocked.json("images")}
    head, *rows = [
        line.split() for line in stocked.ok("images", "--digests", "--no-trunc").splitlines()
    ]
    assert head[:5] == ["REPOSITORY", "TAG", "DIGEST", "IMAGE", "ID"]
    assert {row[3]: row[2] for row in rows} == known
    assert set(known) == {made.id for made, _ in KEPT}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["base"], ["base:1", "base:latest"]),
        (["base:1"], ["base:1"]),
        (["docker.io/library/base"], ["base:1", "base:latest"]),
        (["app"], []),
        (["*/app"], []),
        (["*/*/app"], ["localhost/team/app:2"]),
        (["*:latest"], ["base:latest", "timeless:latest"]),
        (["[a-c]ase:?"], ["base:1"]),
        (["[^a-c]*"], ["timeless:latest"]),
        (["b\\ase:1"], ["base:1"]),
        (["--filter=reference=base:1", "--filter=reference=time*"], ["base:1", "timeless:latest"]),
        (["--filter=reference=base", "base:latest"], ["base:latest"]),
        (["--filter=dangling=true"], ["<none>:<none>"]),
        (["--filter=dangling=false", "base"], ["base:1", "base:latest"]),
        (["--filter=label=kind"], ["localhost/team/app:2", "base:1", "base:latest"]),
        (["--filter=label=kind=app"], ["localhost/team/app:2"]),
        (["--filter=label=kind", "-f", "label=v=1"], ["base:1", "base:latest"]),
        (["--filter=label=kind="], []),
        ([f"--filter=before={short(NAMELESS)}"], ["base:1", "base:latest"]),
        (["--filter=since=base"], ["localhost/team/app:2", "<none>:<none>"]),
        (["-f", "since=base", "-f", "before=localhost/team/app:2"], ["<none>:<none>"]),
    ],
)
def test_filters(stocked: PyOverlay, options: list[str], expected: list[str]) -> None:
    assert names(stocked, *options) == expected


@pytest.mark.parametrize(
    ("word", "complaint"),
    [
        ("colour=red", "--filter colour=red: not known"),
        ("dangling", "--filter dangling: not known"),
        ("dangling=perhaps", "true or false?"),
        ("before=nothing", "nothing: no image of that name"),
        ("since=timeless", "it does not say when it was made"),
        ("reference=[a", "--filter reference=[a: "),
        ("reference=[z-a]", "--filter reference=[z-a]: "),
    ],
)
def test_a_filter_that_makes_no_sense_is_refused(
    stocked: PyOverlay, word: str, complaint: str
) -> None:
    done = stocked("images", "--filter", word)
    assert (done.returncode, done.stdout) == (1, "")
    assert complaint in done.stderr


def test_forms(stocked: PyOverlay) -> None:
    lines = stocked.ok("images", "--format", r"{{.ID}}\t{{.CreatedAt}}", "base:1").splitlines()
    assert lines == [f"{short(OLD)}\t2019-05-06 07:08:09 +0000 UTC"]
    (line,) = stocked.ok("images", "--format=json", "*/*/app").splitlines()
    assert json.loads(line) == json.loads(line) | {
        "ID": short(NEW),
        "Repository": "localhost/team/app",
        "Tag": "2",
        "CreatedAt": "2024-01-02 01:04:05 +0000 UTC",
        "Size": "6 B",
        "Platform": "linux/amd64",
        "Layers": "2",
        "Labels": "kind=app",
    }
    table = stocked.ok("images", "--format", r"table {{.ID}}\t{{.Repository}}:{{.Tag}}", "base")
    assert table.splitlines() == [
        "IMAGE ID      REPOSITORY:TAG",
        f"{short(OLD)}  base:1",
        f"{short(OLD)}  base:latest",
    ]
    assert stocked.ok("images", "--format=table") == stocked.ok("images")
    done = stocked("images", "--format", "{{.Colour}}")
    assert (done.returncode, done.stdout) == (1, "")
    assert "no field .Colour; there are ID, Repository" in done.stderr


def test_json_has_each_image_once_with_all_it_knows(stocked: PyOverlay) -> None:
    found = stocked.json("images", "base")
    assert [one["names"] for one in found] == [["base:1", "base:latest"]]
    assert found[0] == found[0] | {
        "id": OLD.id,
        "platform": "linux/amd64",
        "created": "2019-05-06T07:08:09.123456789Z",
        "labels": {"kind": "base", "v": "1"},
        "size": 3,
        "source_manifest": None,
    }
    (layer,) = found[0]["layers"]
    assert Path(layer["path"], "file").read_text() == "old"
    assert (layer["size"], layer["entries"]) == (3, 1)


def test_what_an_image_says_does_not_reach_the_terminal(
    pyoverlay: PyOverlay, tmp_path: Path
) -> None:
    made = image("x", created="\x1b[31m", config=config(**{"\x1b]0;": "\x07"}))
    archive = write_tar(tmp_path / "x.tar", from_1_10([(made, ["x:1"])]))
    with open_image(str(archive), scratch=tmp_path) as source:
        Store.open(pyoverlay.store).add(source)
    for form in ("table {{.Labels}}", "json"):
        assert "\x1b" not in pyoverlay.ok("images", "--format", form)
    # A program gets the bytes as they are.
    assert pyoverlay.ok("images", "--format", "{{.Labels}}") == "\x1b]0;=\x07\n"


NOW = datetime(2024, 6, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        (timedelta(seconds=-5), "Less than a second ago"),
        (timedelta(seconds=1.5), "1 second ago"),
        (timedelta(seconds=59), "59 seconds ago"),
        (timedelta(seconds=90), "About a minute ago"),
        (timedelta(minutes=59), "59 minutes ago"),
        (timedelta(minutes=70), "About an hour ago"),
        (timedelta(hours=47), "47 hours ago"),
        (timedelta(days=13), "13 days ago"),
        (timedelta(days=15), "2 weeks ago"),
        (timedelta(days=61), "2 months ago"),
        (timedelta(days=729), "24 months ago"),
        (timedelta(days=1000), "2 years ago"),
    ],
)
def test_ages_in_dockers_words(before: timedelta, expected: str) -> None:
    assert ago(NOW - before, NOW) == expected


@pytest.mark.parametrize(
    "written",
    [
        *("", "yesterday", "0001-01-01T00:00:00Z", "2024-13-01"),
        *("0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59-23:59"),
    ],
)
def test_a_time_that_is_none(written: str) -> None:
    assert moment(written) is None
    assert ago(moment(written), NOW) == written_out(moment(written)) == "N/A"
