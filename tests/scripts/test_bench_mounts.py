"""scripts/bench on real mounts: a tiny work-load, and nothing is asserted about time."""

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from scripts.lib.bench import catalogue, files, jobs
from scripts.lib.bench.peers import KERNEL, OURS, UNIONFS, Peer, all_peers
from scripts.lib.bench.results import Mode, Results, Sample
from scripts.lib.bench.rounds import Rounds
from scripts.lib.bench.rows import Scene, Settings
from scripts.lib.bench.session import Failed, Session, mounted
from scripts.lib.bench.workload import HIDDEN, LISTED, OPAQUE, REPLACED, Size, Workload, prepared
from tests.conftest import mounts_below
from tests.support.images import run

ROOT = Path(__file__).parents[2]
TINY = Size(tree=1000, data=2 << 20, repo=200, stacks=(1, 500))

pytestmark = pytest.mark.usefixtures("needs_root", "needs_fuse", "needs_kernel_overlay")


def peer_called(name: str) -> Peer:
    """The peer whose name begins so."""
    return next(peer for peer in all_peers() if peer.name.startswith(name))


PEERS = [OURS, "fuse-overlayfs", UNIONFS, KERNEL]


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where all that is measured here lies."""
    return tmp_path_factory.mktemp("bench")


@pytest.fixture(scope="module")
def workload(work: Path, debian_archive: Path) -> Workload:
    """The tiny one; most of Debian's small files are taken away again."""
    made = prepared(work, TINY, print, debian=debian_archive)
    for name in ("locale", "zoneinfo", "i18n", "perl"):
        shutil.rmtree(made.layers / "debian/debian/usr/share" / name, ignore_errors=True)
    return made


@pytest.fixture(scope="module")
def client(work: Path) -> Path:
    """The client of the micro rows."""
    return files.compiled_client(work)


def test_there_is_one_of_each_kind_and_ours_is_the_first() -> None:
    names = [peer.name for peer in all_peers()]
    assert len(names) == len(PEERS)
    assert all(name.startswith(wanted) for name, wanted in zip(names, PEERS, strict=True))


@pytest.mark.parametrize("name", PEERS)
def test_a_peer_shows_all_layers_and_changes_the_upper_one_alone(
    name: str, workload: Workload, client: Path, tmp_path: Path
) -> None:
    peer = peer_called(name)
    scene = Scene((jobs.IDLE,), lambda _session, _settings: iter(()))
    place = tmp_path / "place"
    with mounted(peer, workload.layers, scene.lowers(), place, client) as session:
        root = session.root
        assert sorted(path.name for path in root.iterdir() if not path.name.startswith(".")) == [
            *("data", "debian", "list", "python", "repo", "tree")
        ]
        assert (root / "debian/etc/motd").read_text() == "replaced\n"
        assert (root / "debian/dev/null").is_char_device()
        assert (root / "data").stat().st_size == TINY.data
        assert len(list((root / "list").iterdir())) == LISTED
        shown = [path for path in (root / "tree").rglob("*") if path.is_file()]
        replaced = [path for path in shown if path.read_text() == "replaced\n"]
        expected = {
            at
            for at in range(TINY.tree)
            if at % HIDDEN and at % REPLACED == 1 and (at % 100, at // 100) != (99, 9)
        }
        assert len(replaced) == len(expected)
        # unionfs-fuse does not know these whiteouts.
        if name != UNIONFS:
            inodes = len(list((root / "tree").rglob("*"))) + 1
            assert inodes == workload.tree_inodes
            assert [path.name for path in (root / "tree" / OPAQUE).iterdir()] == ["alone"]
            assert not (root / "debian/usr/share/lintian").exists()
        names = workload.tree_names()
        assert len(names) == len(set(names)) > TINY.tree / 6
        assert all((root / each).is_file() for each in names)
        (root / "data").write_bytes(b"changed\n")
        (root / "new").mkdir()
        assert (session.daemon is not None) == peer.has_daemon
    assert (place / "upper/data").read_bytes() == b"changed\n"
    assert (place / "upper/new").is_dir()
    assert (workload.layers / "data/data").stat().st_size == TINY.data
    assert mounts_below(tmp_path) == []
    assert session.daemon is None or session.daemon.returncode is not None


@pytest.mark.parametrize("name", PEERS)
def test_a_peer_mounts_five_hundred_layers(
    name: str, workload: Workload, client: Path, tmp_path: Path
) -> None:
    lowers = tuple(str(number) for number in range(500))
    with mounted(peer_called(name), workload.stack(500), lowers, tmp_path, client) as session:
        found = {path.name: path.read_text() for path in (session.root / "dir").iterdir()}
    assert found == {f"name-{at:04}": f"{at}\n" for at in range(LISTED)}
    assert mounts_below(tmp_path) == []


def test_the_processor_time_is_what_proc_says(
    workload: Workload, client: Path, tmp_path: Path
) -> None:
    peer = peer_called(OURS)
    with mounted(peer, workload.stack(1), ("0",), tmp_path, client) as session:
        assert session.daemon is not None
        session.called("getattr", "getattr", "dir/name-0000", 5000)
        cpu = session.cpu()
        # proc_pid_stat(5): fields 14 and 15; what stands before may have spaces in it.
        stat = Path(f"/proc/{session.daemon.pid}/stat").read_text().rpartition(")")[2].split()
        ticks = (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")
        pss, rss = session.memory()
        status = Path(f"/proc/{session.daemon.pid}/status").read_text()
    assert cpu == pytest.approx(ticks, abs=0.05)
    assert pss is not None
    assert rss is not None
    assert 1_000_000 < pss <= rss
    resident = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    assert rss == pytest.approx(int(resident.split()[1]) * 1024, rel=0.1)


def test_a_mount_that_fails_says_why_and_leaves_nothing(
    workload: Workload, client: Path, tmp_path: Path
) -> None:
    for name in PEERS:
        place = tmp_path / name.replace(" ", "-")
        with (
            pytest.raises(Failed, match=r"mount: .*\w"),
            mounted(peer_called(name), workload.layers, ("nothing",), place, client),
        ):
            pass
    assert mounts_below(tmp_path) == []


def measuring(
    workload: Workload,
    work: Path,
    client: Path,
    peers: Sequence[Peer],
    mode: Mode = Mode.UNPINNED,
    *,
    rounds: int = 1,
) -> Rounds:
    """All rows, with few calls."""
    return Rounds(
        settings=Settings(workload, calls=130, creates=20, idle_seconds=0.05),
        peers=peers,
        modes=[mode],
        rows=frozenset(row.name for row in catalogue.rows(catalogue.scenes(TINY))),
        rounds=rounds,
        place=work / "runs",
        client=client,
        say=print,
    )


def test_a_daemon_that_ends_is_a_row_that_fails(
    workload: Workload, work: Path, client: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def play(on: Session, _settings: Settings) -> Iterator[Sample]:
        assert on.daemon is not None
        on.daemon.kill()
        os.waitid(os.P_PID, on.daemon.pid, os.WEXITED | os.WNOWAIT)
        yield on.timed("write", ["true"])

    results = Results()
    peer = peer_called("fuse-overlayfs")
    scene = Scene((jobs.WRITE,), play)
    measuring(workload, work, client, [peer]).run([scene], results)
    assert results.failed("write", Mode.UNPINNED, peer.name)
    assert "fuse-overlayfs" in capsys.readouterr().out
    assert mounts_below(work) == []


ALL = list(catalogue.scenes(TINY))


@pytest.mark.parametrize("scene", ALL, ids=[scene.rows[0].name.split(":")[0] for scene in ALL])
def test_every_row_has_a_figure_of_every_peer(
    scene: Scene, workload: Workload, work: Path, client: Path
) -> None:
    results = Results()
    mode = Mode.ONE_CORE if Mode.ONE_CORE in scene.modes else Mode.UNPINNED
    affinity = os.sched_getaffinity(0)
    measuring(workload, work, client, all_peers(), mode).run([scene], results)
    for row, peer in itertools.product(scene.rows, all_peers()):
        found = results.series.get((row.name, mode, peer.name))
        if not peer.has_daemon and (scene.daemons_only or row is jobs.MEMORY):
            assert found is None
            continue
        assert found is not None
        assert found.failed is None
        (value,) = found.values
        assert value > 0 or row in (jobs.IDLE, jobs.MEMORY)
        assert len(found.cpu) == len(found.pss) == (peer.has_daemon and row is not jobs.MEMORY)
    assert os.sched_getaffinity(0) == affinity
    assert mounts_below(work) == []


def test_a_row_that_cannot_be_is_told_and_the_others_go_on(
    workload: Workload, work: Path, client: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = Scene((jobs.READ_COLD,), lambda on, _: iter([on.timed("sequential read cold", ["ls"])]))
    bad = Scene((jobs.WRITE,), lambda on, _: iter([on.timed("write", ["cat", "no such file"])]))
    results = Results()
    measuring(workload, work, client, [peer_called(KERNEL)], rounds=2).run([bad, good], results)
    assert results.failed("write", Mode.UNPINNED, KERNEL)
    assert len(results.series["sequential read cold", Mode.UNPINNED, KERNEL].values) == 2
    # Once is enough.
    assert capsys.readouterr().out.count("cat: exit code 1") == 1


def test_one_command_measures_and_writes_all(
    workload: Workload, work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures, picture = tmp_path / "bench.json", tmp_path / "bench.svg"
    words = ["--work", work, "--keep", "--rounds", 1, "--quick", "--only", "git status", "idle"]
    words += ["--json", figures, "--plot", picture, "--check"]
    code = files.main([str(word) for word in words], TINY)
    said = capsys.readouterr().out
    found = json.loads(figures.read_text())
    missed = [goal["row"] for goal in found["goals"] if not goal["reached"]]
    assert sorted((goal["row"], goal["mode"]) for goal in found["goals"]) == [
        *(("git status", "one core"), ("git status", "unpinned"), ("idle", "unpinned"))
    ]
    assert code == (1 if missed else 0)
    assert f"3 goals, {len(missed)} missed" in said
    assert said.count("\nMISSED: ") == len(missed)
    assert "| git status, s |" in said
    assert found["settings"] == {
        "rounds": 1,
        "quick": True,
        "work_load": {"tree": 1000, "data": 2 << 20, "repo": 200, "stacks": [1, 500]},
    }
    of = {(result["row"], result["mode"], result["peer"]) for result in found["results"]}
    assert len(of) == 2 * 4 + 3
    assert ET.parse(picture).getroot().tag.endswith("svg")
    assert (workload.folder / "complete").exists()
    assert not (work / "runs").exists()


def waited_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        os.sched_yield()


def test_an_interrupted_run_leaves_nothing(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "srv").mkdir(parents=True)
    run("tar", "-C", root, "-cf", tmp_path / "root.tar", ".")
    work = tmp_path / "work"
    # A row that lasts.
    code = f"""
import sys
from pathlib import Path
from scripts.lib.bench import files
from scripts.lib.bench.workload import Size
size = Size(tree=1000, data=1 << 20, repo=200, stacks=(1,))
words = ["--work", {str(work)!r}, "--only", "idle", "--rounds", "1000"]
sys.exit(files.main(words, size, Path({str(tmp_path / "root.tar")!r})))
"""
    with subprocess.Popen(
        # What a shell runs in the background does not hear it.
        ["env", "--default-signal=INT", sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as running:
        waited_for(lambda: bool(mounts_below(work)) or running.poll() is not None)
        running.send_signal(signal.SIGINT)
        said, _ = running.communicate(timeout=120)
    assert running.returncode == 128 + signal.SIGINT, said
    assert "interrupted" in said
    assert mounts_below(tmp_path) == []
    assert not work.exists()
