"""The bytes of files against a copy in memory, and trees that several processes change.

Short versions; ``scripts/fuzz --fsx 300000 --stress 100000`` runs the long ones.
"""

import random
from pathlib import Path

import pytest

from tests.support import crowd, exerciser
from tests.support.crowd import Notes, Outcome, Worker, head, lower_layers
from tests.support.exerciser import Exerciser
from tests.support.union import Stack

pytestmark = pytest.mark.usefixtures("needs_kernel_overlay", "needs_fuse")


@pytest.mark.parametrize("seed", range(2))
def test_what_is_read_is_what_was_written(tmp_path: Path, seed: int) -> None:
    """Through handles, mappings, truncations and copies up; 20,000 operations, about 10 s."""
    exerciser.run(tmp_path / "stack", 20_000, seed)


@pytest.mark.parametrize("seed", range(2))
def test_a_tree_changed_by_four_processes_is_what_they_say(tmp_path: Path, seed: int) -> None:
    """10,000 operations, about 10 s."""
    crowd.run(tmp_path / "stack", 10_000, seed)


# -- the parts that find things ------------------------------------------------------------


@pytest.mark.parametrize("fault", ["a byte", "too short", "too long", "another file"])
def test_the_exerciser_sees_a_fault(tmp_path: Path, fault: str) -> None:
    bodies = {name: random.Random(name).randbytes(30_000) for name in ("one", "two", "three")}
    for name, body in bodies.items():
        (tmp_path / name).write_bytes(body)
    one = Exerciser(tmp_path, bodies, random.Random(0))
    one.run(500)
    one.check()
    body = bytearray((tmp_path / "one").read_bytes())
    if fault == "a byte":
        body[len(body) // 2] ^= 1
    elif fault == "too short":
        del body[-1]
    elif fault == "too long":
        body += b"x"
    else:
        body = bytearray((tmp_path / "two").read_bytes())
    (tmp_path / "one").write_bytes(body)
    with pytest.raises(AssertionError, match="one, all"):
        one.check()
    one.close()


@pytest.mark.parametrize(
    ("notes", "said"),
    [
        pytest.param(Notes(made=[("f", "root", "file")], gone=["f", "f"]), "2 times", id="twice"),
        pytest.param(Notes(gone=["f"]), "never made", id="never"),
        pytest.param(
            Notes(made=[("d", "root", "dir"), ("f", "d", "file")], gone=["d"]),
            "which was removed",
            id="in-a-removed-directory",
        ),
        pytest.param(Notes(wrong=["look: there"]), "look: there", id="seen-meanwhile"),
    ],
)
def test_notes_that_cannot_be_true(notes: Notes, said: str) -> None:
    assert any(said in line for line in Outcome(notes).wrong)


def test_what_notes_come_to(tmp_path: Path) -> None:
    notes = Notes(
        made=[("d1", "root", "dir"), ("f1", "d1", "file"), ("s1", "d1", "symlink")],
        linked=[("f2", "root", "f1")],
        moved=[("d2", "root", "d1"), ("s2", "d1", "s1")],
        gone=["f1"],
    )
    outcome = Outcome(notes)
    assert outcome.wrong == []
    assert {path: each.identity for path, each in outcome.tree.items()} == {
        "d2": "d1",
        "f2": "f1",
        "d2/s2": "s1",
    }
    (tmp_path / "d2").mkdir()
    (tmp_path / "d2/s2").symlink_to("1s")
    (tmp_path / "f2").write_bytes(head("f1"))
    (tmp_path / "f2").chmod(0o600)
    assert outcome.differences(tmp_path, numbered=True) == []
    faults = {
        "links": lambda: (tmp_path / "f3").hardlink_to(tmp_path / "f2"),
        "should not be there": lambda: None,
        "is missing": lambda: (tmp_path / "d2/s2").unlink(),
        "holds": lambda: (tmp_path / "f2").write_bytes(head("f4")),
        "mode": lambda: (tmp_path / "f2").chmod(0o400),
    }
    for said, do in faults.items():
        do()
        found = outcome.differences(tmp_path, numbered=True)
        assert any(said in line for line in found), (said, found)


def test_the_notes_are_right_where_the_kernel_serves_the_tree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = Stack.make(tmp_path / "stack", lowers=3)
    notes, folders, stable = lower_layers(stack, random.Random(1))
    with stack.by_kernel(index=True) as merged:
        monkeypatch.chdir(merged)
        worker = Worker(0, 1, folders, stable)
        worker.run(3000)
        monkeypatch.chdir(tmp_path)
        notes.add(worker.notes)
        outcome = Outcome(notes)
        assert outcome.wrong == []
        assert outcome.differences(merged, numbered=True) == []
