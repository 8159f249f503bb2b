"""Random sequences of operations over random layers, and the smallest one that still fails."""

import ast
import pprint
import random
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import astuple, dataclass, replace
from pathlib import Path

from tests.support.actions import Draw, Operation
from tests.support.comparison import (
    HARD_LINKED,
    REMOUNT,
    SWAP,
    Comparison,
    Divergence,
    Flavour,
)
from tests.support.pieces import Layer, Piece, draw_layers, is_legal

LENGTH = 60


@dataclass(frozen=True, slots=True)
class Plan:
    """The layers, the base first, and what is done to them."""

    layers: tuple[Layer, ...]
    operations: tuple[Operation, ...]
    flavour: Flavour

    def text(self) -> str:
        """The plan for a file."""
        layers, operations, flavour = astuple(self)
        return pprint.pformat((layers, operations, str(flavour)), width=100) + "\n"

    @classmethod
    def from_text(cls, text: str) -> "Plan":
        """What ``text`` gave."""
        layers, operations, flavour = ast.literal_eval(text)
        return cls(
            tuple(tuple(Piece(*piece) for piece in layer) for layer in layers),
            tuple(Operation(*operation) for operation in operations),
            Flavour(flavour),
        )


@dataclass(frozen=True, slots=True)
class Failure:
    """How a plan went wrong; its operations end with the one that did."""

    plan: Plan
    reason: str


def run_random(base: Path, seed: int) -> Failure | None:
    """The sequence of *seed*, which also chooses among the flavours.

    It is remounted amid, and at the end each is mounted on the upper directory of the other
    and goes on.
    """
    chance = random.Random(seed)
    flavour = list(Flavour)[seed % len(Flavour)]
    layers = tuple(draw_layers(chance, links=flavour in HARD_LINKED))
    done: list[Operation] = []

    def drawn(comparison: Comparison) -> Iterator[Operation]:
        for number in range(LENGTH):
            if number == LENGTH * 2 // 5:
                yield REMOUNT
            if number == LENGTH * 4 // 5:
                yield SWAP
            if not number % 4:
                draw = Draw(chance, comparison.known())
            yield draw.operation()

    reason = _run(base, layers, drawn, done, flavour)
    return Failure(Plan(layers, tuple(done), flavour), reason) if reason else None


def run_plan(base: Path, plan: Plan) -> Failure | None:
    """Exactly *plan*."""
    done: list[Operation] = []
    reason = _run(base, plan.layers, lambda _: plan.operations, done, plan.flavour)
    return Failure(replace(plan, operations=tuple(done)), reason) if reason else None


def _run(
    base: Path,
    layers: tuple[Layer, ...],
    operations: Callable[[Comparison], Iterable[Operation]],
    done: list[Operation],
    flavour: Flavour,
) -> str:
    base.mkdir(parents=True)
    comparison = None
    try:
        comparison = Comparison(base, layers, flavour)
        for operation in operations(comparison):
            done.append(operation)
            comparison.step(operation)
        comparison.close()
    except (Divergence, AssertionError, OSError) as exc:
        return f"{type(exc).__name__}: {exc}"
    finally:
        if comparison is not None:
            comparison.abandon()
        shutil.rmtree(base)
    return ""


# -- making it smaller ---------------------------------------------------------------------


def shrunk(plan: Plan, fails: Callable[[Plan], bool], *, tries: int = 400) -> Plan:
    """The smallest plan that was found within *tries* and still *fails*."""
    left = tries

    def still(candidate: Plan) -> bool:
        nonlocal left
        left -= 1
        return left >= 0 and is_legal(candidate.layers) and fails(candidate)

    best = plan
    while True:
        before = best
        best = _fewer_operations(best, still)
        best = _fewer_layers(best, still)
        best = _fewer_pieces(best, still)
        if best == before or left <= 0:
            return best


def _fewer_operations(plan: Plan, still: Callable[[Plan], bool]) -> Plan:
    step = max(len(plan.operations) // 2, 1)
    while True:
        at = 0
        while at < len(plan.operations):
            rest = plan.operations[:at] + plan.operations[at + step :]
            candidate = replace(plan, operations=rest)
            if still(candidate):
                plan = candidate
            else:
                at += step
        if step == 1:
            return plan
        step //= 2


def _fewer_layers(plan: Plan, still: Callable[[Plan], bool]) -> Plan:
    for number in reversed(range(len(plan.layers))):
        if len(plan.layers) > 1:
            candidate = replace(plan, layers=plan.layers[:number] + plan.layers[number + 1 :])
            plan = candidate if still(candidate) else plan
    return plan


def _fewer_pieces(plan: Plan, still: Callable[[Plan], bool]) -> Plan:
    """Without one name after another, and what is beneath it; then with plainer ones."""
    for number in range(len(plan.layers)):
        for piece in plan.layers[number][1:]:
            layer = plan.layers[number]
            beneath = piece.path + b"/"
            rest = tuple(p for p in layer if p != piece and not p.path.startswith(beneath))
            candidate = _with_layer(plan, number, rest)
            if piece in layer and still(candidate):
                plan = candidate
        for at, piece in enumerate(plan.layers[number]):
            plainer = Piece(piece.path, piece.kind, target=piece.target, opaque=piece.opaque)
            layer = plan.layers[number]
            candidate = _with_layer(plan, number, (*layer[:at], plainer, *layer[at + 1 :]))
            if plainer != piece and still(candidate):
                plan = candidate
    return plan


def _with_layer(plan: Plan, number: int, layer: Layer) -> Plan:
    return replace(plan, layers=(*plan.layers[:number], layer, *plan.layers[number + 1 :]))
