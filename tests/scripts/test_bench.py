"""What scripts/bench makes of figures: medians, ratios, goals, tables, JSON, a picture."""

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from scripts.lib.bench import catalogue, goals, main, peers, plot, report
from scripts.lib.bench.results import Mode, Results, Sample
from scripts.lib.bench.stacks import STACK_ROWS, stack_row
from scripts.lib.bench.workload import Size

C = "fuse-overlayfs 1.10"
UNPINNED, ONE_CORE = Mode.UNPINNED, Mode.ONE_CORE


def results(*figures: tuple[str, Mode, str, list[float]]) -> Results:
    """Of these values."""
    made = Results()
    for row, mode, peer, values in figures:
        for value in values:
            made.add(Sample(row, value, cpu=value / 2, pss=3_000_000, rss=4_000_000), mode, peer)
    return made


def test_a_ratio_is_that_of_the_medians() -> None:
    found = results(
        ("find cold", UNPINNED, peers.OURS, [9, 1, 2]),
        ("find cold", UNPINNED, C, [4, 100, 3]),
        ("find cold", ONE_CORE, peers.OURS, [5, 7]),
    )
    assert found.median("find cold", UNPINNED, peers.OURS) == 2
    assert found.ratio("find cold", UNPINNED, peers.OURS, C) == 0.5
    assert found.median("find cold", ONE_CORE, peers.OURS) == 6
    assert found.ratio("find cold", ONE_CORE, peers.OURS, C) is None
    assert found.ratio("find warm", UNPINNED, peers.OURS, C) is None


def test_a_peer_that_fails_has_no_figure_even_if_it_had_one() -> None:
    found = results(("write", UNPINNED, peers.OURS, [1]), ("write", UNPINNED, C, [1]))
    found.fail("write", UNPINNED, C, "exit code 1")
    assert found.ratio("write", UNPINNED, peers.OURS, C) is None
    assert found.failed("write", UNPINNED, C)
    assert not found.failed("write", UNPINNED, peers.OURS)


@pytest.mark.parametrize(
    ("row", "mode", "ours", "other", "reached"),
    [
        pytest.param("tar cold", UNPINNED, 0.5, 1, True, id="as-good-as-the-goal"),
        pytest.param("tar cold", UNPINNED, 0.51, 1, False, id="a-little-worse"),
        pytest.param("tar cold", ONE_CORE, 0.51, 1, True, id="another-goal-on-one-core"),
        pytest.param("tar cold", ONE_CORE, 1.31, 1, False, id="missed-on-one-core"),
        pytest.param("chown -R", ONE_CORE, 3, 6, True, id="it-is-the-ratio"),
        pytest.param("tar cold", UNPINNED, None, 1, False, id="ours-is-not-there"),
        pytest.param("tar cold", UNPINNED, 0.1, None, False, id="the-other-is-not-there"),
    ],
)
def test_a_goal_is_reached_by_a_ratio_that_is_no_larger(
    row: str, mode: Mode, ours: float | None, other: float | None, reached: bool
) -> None:
    found = results(
        (row, mode, peers.OURS, [] if ours is None else [ours]),
        (row, mode, C, [] if other is None else [other]),
    )
    (verdict,) = goals.verdicts(found, [row], [mode], C)
    assert verdict.reached is reached
    assert str(verdict).startswith("reached" if reached else "MISSED")


def test_deep_stacks_are_compared_with_our_own_of_one_layer() -> None:
    found = results(
        (stack_row(1, "miss"), UNPINNED, peers.OURS, [10]),
        (stack_row(500, "miss"), UNPINNED, peers.OURS, [12]),
        (stack_row(1, "open"), UNPINNED, peers.OURS, [10]),
        (stack_row(500, "open"), UNPINNED, peers.OURS, [13]),
        # What these take there is no matter.
        (stack_row(500, "miss"), UNPINNED, C, [1]),
    )
    rows = [stack_row(layers, what) for layers in (1, 500) for what in ("miss", "open")]
    said = {each.row: each.reached for each in goals.verdicts(found, rows, [UNPINNED], C)}
    assert said == {stack_row(500, "miss"): True, stack_row(500, "open"): False}


@pytest.mark.parametrize(("value", "reached"), [(0, True), (0.01, False)])
def test_an_idle_daemon_may_take_no_time_at_all(value: float, reached: bool) -> None:
    found = results(("idle", UNPINNED, peers.OURS, [value]))
    (verdict,) = goals.verdicts(found, ["idle"], list(Mode), C)
    assert verdict.reached is reached


def test_every_goal_is_about_a_row_that_there_is() -> None:
    names = {row.name for row in catalogue.rows(catalogue.scenes(Size()))}
    assert {*goals.RATIOS, *goals.ABSOLUTE} <= names
    assert {stack_row(layers, what) for layers in (1, 500) for what in STACK_ROWS} <= names
    found = list(goals.verdicts(Results(), names, list(Mode), C))
    both = sum(limit is not None for pair in goals.RATIOS.values() for limit in pair)
    assert len(found) == both + len(goals.ABSOLUTE) + 2 * len(STACK_ROWS)
    assert not any(verdict.reached for verdict in found)


def test_rows_have_names_of_their_own_and_say_what_they_are() -> None:
    rows = catalogue.rows(catalogue.scenes(Size()))
    assert len({row.name for row in rows}) == len(rows) > 50
    assert all(row.what and row.unit for row in rows)


@pytest.mark.parametrize(
    ("words", "found"),
    [
        pytest.param(["tar"], ["tar cold", "tar warm"], id="as-they-begin"),
        pytest.param(["tar warm", "idle"], ["tar warm", "idle"], id="more-than-one"),
        pytest.param(["layers 10:"], None, id="one-depth"),
        pytest.param([], None, id="all"),
    ],
)
def test_rows_are_chosen_by_how_they_begin(words: list[str], found: list[str] | None) -> None:
    chosen = catalogue.chosen(Size(), words)
    if found is None:
        every = [row.name for row in catalogue.rows(catalogue.scenes(Size()))]
        found = [name for name in every if not words or name.startswith("layers 10:")]
    assert chosen == found


def test_a_row_that_is_not_there_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"tarr: no such row; there are: .*tar cold"):
        catalogue.chosen(Size(), ["tarr"])


def test_versions_are_read_from_what_a_program_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = {
        "debian": "fusermount3 version: 3.14.0\nfuse-overlayfs: version 1.10\nFUSE library 3.14.0",
        "rust": "fuse-overlayfs 2.0.1-dev",
        "again": "fuse-overlayfs: version 1.10",
        "silent": "",
    }
    for name, text in said.items():
        (tmp_path / name).write_text(f"#!/bin/sh\necho '{text}'\n")
        (tmp_path / name).chmod(0o755)
    found = peers.fuse_overlayfs(":".join(str(tmp_path / name) for name in said))
    names = [peer.name for peer in found]
    assert names == [
        "fuse-overlayfs 1.10",
        "fuse-overlayfs 2.0.1-dev",
        "fuse-overlayfs 1.10 (2)",
        "fuse-overlayfs silent",
    ]
    assert [peer.path for peer in found] == [tmp_path / name for name in said]
    assert peers.yardstick(reversed(names)) == "fuse-overlayfs 1.10 (2)"
    assert peers.yardstick(["fuse-overlayfs 2.0", peers.KERNEL]) is None
    with pytest.raises(peers.Missing, match="nothing"):
        peers.fuse_overlayfs(str(tmp_path / "nothing"))


def some() -> Results:
    found = results(
        ("getattr", UNPINNED, peers.OURS, [30]),
        ("getattr", UNPINNED, C, [20]),
        ("tar cold", UNPINNED, peers.OURS, [0.25]),
        ("tar cold", UNPINNED, C, [1.5]),
    )
    found.add(Sample("tar cold", 0.1), UNPINNED, peers.KERNEL)
    found.fail("getattr", UNPINNED, peers.KERNEL, "exit code 7")
    return found


def test_the_tables_show_medians_ratios_and_what_daemons_take(
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = catalogue.rows(catalogue.scenes(Size()))
    about = {
        **dict.fromkeys(("system", "kernel", "file_system", "python"), "x"),
        "processors": 2,
        "memory_gb": 1,
    }
    report.show(some(), rows, about, 3)
    lines = capsys.readouterr().out.splitlines()
    assert "| getattr, µs | 30 | 20 | - | 1.50 | - |" in lines
    assert "| tar cold, s | 0.25 | 1.5 | 0.1 | 0.17 | 2.50 |" in lines
    # Seconds of a call in microseconds, of a job in milliseconds; memory in MB.
    assert "| getattr, µs | 15,000,000 | 10,000,000 | 3 | 3 |" in lines
    assert "| tar cold, ms | 125 | 750 | 3 | 3 |" in lines
    assert "kernel overlayfs cannot do getattr (unpinned): exit code 7" in lines


def test_json_has_all_that_was_measured() -> None:
    rows = catalogue.rows(catalogue.scenes(Size()))
    verdicts = list(goals.verdicts(some(), ["tar cold"], [UNPINNED], C))
    found = json.loads(json.dumps(report.as_json(some(), rows, {}, {"rounds": 1}, verdicts)))
    assert found["results"][0] == {
        "row": "getattr",
        "mode": "unpinned",
        "peer": peers.OURS,
        "unit": "µs",
        "median": 30,
        "values": [30],
        "daemon_cpu_seconds": [15],
        "daemon_pss_bytes": [3_000_000],
        "daemon_rss_bytes": [4_000_000],
        "failed": None,
    }
    assert found["results"][-1]["failed"] == "exit code 7"
    assert {"row": "getattr", "mode": "unpinned", "to": C, "ratio": 1.5} in found["ratios"]
    assert [(goal["row"], goal["reached"]) for goal in found["goals"]] == [("tar cold", True)]


def test_the_picture_has_each_row_and_asks_nobody_for_anything(tmp_path: Path) -> None:
    file = tmp_path / "plot.svg"
    plot.draw(some(), catalogue.rows(catalogue.scenes(Size())), C, file)
    root = ET.parse(file).getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    texts = {text for element in root.iter() if (text := (element.text or "").strip())}
    assert {"getattr", "tar cold", "1.5"} <= texts
    assert any(text.startswith("pyoverlayfs, unpinned") for text in texts)
    values = [value for element in root.iter() for value in element.attrib.values()]
    assert [value for value in values if "//" in value] == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        pytest.param(["--only", "nothing"], "nothing: no such row", id="row"),
        pytest.param(["files", "--mode", "x"], "invalid choice: 'x'", id="mode"),
        pytest.param(["--work", "/a:b"], "options of a mount cannot name", id="colon"),
    ],
)
@pytest.mark.usefixtures("needs_root")
def test_what_cannot_be_run_is_said_with_exit_code_2(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main.main(words)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--help"], ["files", "-h"]])
def test_the_help_explains_each_row(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main.main(words)
    text = capsys.readouterr().out
    for row in catalogue.rows(catalogue.scenes(Size())):
        assert f"  {row.name} ({row.unit})\n      {row.what}\n" in f"{text}\n"


def test_a_word_that_is_no_measurement_is_answered_with_the_two(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main.main(["everything"]) == 2
    assert "scripts/bench images" in capsys.readouterr().err
