"""Random operations on three trees: ours, the kernel's overlayfs, a plain copy of it.

Hypothesis draws a bounded number of them, and ``scripts/fuzz`` goes on for hours.
"""

import os
import random
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from tests.support.actions import ACTIONS, Draw, Known, Operation
from tests.support.comparison import (
    HARD_LINKED,
    REMOUNT,
    SWAP,
    Comparison,
    Divergence,
    Flavour,
)
from tests.support.pieces import Piece, draw_layers, is_legal, merged
from tests.support.sequences import Plan, run_plan, run_random, shrunk

pytestmark = pytest.mark.usefixtures("needs_kernel_overlay", "needs_fuse")

CHANCE = st.randoms(use_true_random=False)


class ThreeTrees(RuleBasedStateMachine):
    """The rules are the actions, and to mount things again."""

    @initialize(chance=CHANCE, flavour=st.sampled_from(Flavour))
    def mount(self, chance: random.Random, flavour: Flavour) -> None:
        layers = draw_layers(chance, links=flavour in HARD_LINKED)
        self.folder = tempfile.TemporaryDirectory(prefix="pyoverlay-oracle-")
        base = Path(self.folder.name)
        base.chmod(0o755)
        self.comparison = Comparison(base, layers, flavour)

    @rule()
    def remount(self) -> None:
        self.comparison.step(REMOUNT)

    @rule()
    def swap(self) -> None:
        self.comparison.step(SWAP)

    def teardown(self) -> None:
        try:
            if hasattr(self, "comparison"):
                self.comparison.close()
        finally:
            if hasattr(self, "comparison"):
                self.comparison.abandon()
            if hasattr(self, "folder"):
                self.folder.cleanup()


def _doing(action: str) -> Callable[[ThreeTrees, random.Random], None]:
    def act(self: ThreeTrees, chance: random.Random) -> None:
        self.comparison.step(Draw(chance, self.comparison.known()).operation(action))

    act.__name__ = action
    return act


for _action in ACTIONS:
    setattr(ThreeTrees, _action, rule(chance=CHANCE)(_doing(_action)))


def test_every_operation_ends_as_in_the_kernel_and_as_in_a_plain_directory() -> None:
    """About 30 s."""
    run_state_machine_as_test(
        ThreeTrees,
        settings=settings(
            max_examples=25,
            stateful_step_count=50,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


SEEDS = range(40)


@pytest.mark.parametrize("seed", SEEDS)
def test_sequences_of_sixty_operations(tmp_path: Path, seed: int) -> None:
    """As ``scripts/fuzz --seed`` runs them; a second for two."""
    failure = run_random(tmp_path / "trees", seed)
    assert failure is None, failure.reason


def test_known_exceptions_are_the_only_ones(tmp_path: Path) -> None:
    """A plan in which the kernel shows a whiteout where it should not is a difference."""
    base = (Piece(b"", "dir"), Piece(b"a", "file"))
    top = (Piece(b"", "dir"), Piece(b"only-here", "dir"), Piece(b"only-here/w", "whiteout"))
    assert not is_legal((base, top))
    failure = run_plan(tmp_path / "trees", Plan((base, top), (), Flavour.PLAIN))
    assert failure is not None
    assert "only-here/w" in failure.reason


@pytest.mark.parametrize("what", ["content", "mode", "name", "time", "attribute"])
def test_a_difference_is_seen(tmp_path: Path, what: str) -> None:
    """The plain copy is changed behind the back of the comparison."""
    layer = (Piece(b"", "dir"), Piece(b"file", "file", size=5))
    comparison = Comparison(tmp_path, [layer], Flavour.PLAIN)
    try:
        path = comparison.plain / "file"
        {
            "content": lambda: path.write_bytes(b"other"),
            "mode": lambda: path.chmod(0o600),
            "name": lambda: path.rename(path.with_name("other")),
            "time": lambda: os.utime(path, ns=(5, 8)),
            "attribute": lambda: os.setxattr(path, "user.k", b""),
        }[what]()
        with pytest.raises(Divergence, match="plain"):
            comparison.compare("now")
    finally:
        comparison.abandon()


@pytest.mark.parametrize("action", ["read", "chmod", "unlink", "set_xattr", "open_file"])
def test_a_difference_in_an_answer_is_seen(tmp_path: Path, action: str) -> None:
    layer = (Piece(b"", "dir"), Piece(b"file", "file", size=5))
    comparison = Comparison(tmp_path, [layer], Flavour.PLAIN)
    try:
        (comparison.plain / "file").unlink()
        operation = Draw(random.Random(5), Known([b"file"])).operation(action)
        with pytest.raises(Divergence, match="ENOENT"):
            comparison.step(Operation(action, (b"file", *operation.arguments[1:])))
    finally:
        comparison.abandon()


# -- the parts that find things ------------------------------------------------------------


@pytest.mark.parametrize("links", [False, True])
def test_drawn_layers_are_legal_and_of_all_kinds(links: bool) -> None:
    chance = random.Random(3)
    drawn = [draw_layers(chance, links=links) for _ in range(60)]
    assert all(is_legal(layers) for layers in drawn)
    assert {len(layers) for layers in drawn} == {1, 2, 3, 4, 5, 6}
    pieces = [piece for layers in drawn for layer in layers for piece in layer]
    kinds = {"file", "dir", "symlink", "fifo", "socket", "char", "block", "whiteout", "white"}
    assert {piece.kind for piece in pieces} == kinds | ({"link"} if links else set())
    assert {piece.opaque for piece in pieces} == {b"", b"x", b"y"}
    assert any(len(piece.path.rpartition(b"/")[2]) == 255 for piece in pieces)


def test_merging_layers() -> None:
    base = (Piece(b"", "dir"), Piece(b"d", "dir"), Piece(b"d/f", "file"), Piece(b"g", "file"))
    middle = (Piece(b"", "dir"), Piece(b"d", "dir"), Piece(b"d/h", "symlink"))
    opaque = (Piece(b"", "dir"), Piece(b"d", "dir", opaque=b"y"), Piece(b"g", "whiteout"))
    known = {b"": "dir", b"d": "dir"}
    assert merged([base, middle]) == {**known, b"d/f": "file", b"d/h": "symlink", b"g": "file"}
    assert merged([base, middle, opaque]) == known


def test_a_plan_is_made_smaller_and_survives_a_file() -> None:
    layers = tuple(draw_layers(random.Random(7), links=True))
    draw = Draw(random.Random(7), Known(sorted(merged(layers))))
    operations = tuple(draw.operation() for _ in range(60))
    needed = next(piece for layer in layers for piece in layer if piece.kind == "file")
    last = draw.operation("unlink")

    def fails(plan: Plan) -> bool:
        there = any(piece.path == needed.path for layer in plan.layers for piece in layer)
        return there and last in plan.operations and operations[20] in plan.operations

    smallest = shrunk(Plan(layers, (*operations, last), Flavour.LINKS), fails)
    assert smallest.operations == (operations[20], last)
    assert len(smallest.layers) == 1
    parents = needed.path.count(b"/")
    assert len(smallest.layers[0]) == 1 + parents + 1
    assert Plan.from_text(smallest.text()) == smallest
