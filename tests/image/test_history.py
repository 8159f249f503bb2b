"""Entries of the history meet their layers, also where an image has too few or too many."""

import pytest

from overlayfs.image.config import History
from overlayfs.image.history import Step, by_layer, paired

BASE = History(created_by="ADD rootfs")
ENV = History(created_by="ENV A=1", empty_layer=True)
RUN = History(created_by="RUN true")


@pytest.mark.parametrize(
    ("history", "layers", "expected"),
    [
        pytest.param(
            [BASE, ENV, RUN],
            ["a", "b"],
            [Step(BASE, "a", 1), Step(ENV, None, None), Step(RUN, "b", 2)],
            id="as-the-spec-wants-it",
        ),
        pytest.param(
            [ENV, BASE], ["a"], [Step(ENV, None, None), Step(BASE, "a", 1)], id="metadata-first"
        ),
        pytest.param([], ["a", "b"], [Step(None, "a", 1), Step(None, "b", 2)], id="no-history"),
        pytest.param(
            [BASE, ENV],
            ["a", "b"],
            [Step(BASE, "a", 1), Step(ENV, None, None), Step(None, "b", 2)],
            id="too-few-entries",
        ),
        pytest.param(
            [BASE, RUN, ENV],
            ["a"],
            [Step(BASE, "a", 1), Step(RUN, None, None), Step(ENV, None, None)],
            id="too-many-entries",
        ),
        pytest.param([ENV], [], [Step(ENV, None, None)], id="no-layers"),
        pytest.param([], [], [], id="nothing"),
    ],
)
def test_layers_are_given_out_from_the_base(
    history: list[History], layers: list[str], expected: list[Step[str]]
) -> None:
    assert paired(history, layers) == tuple(expected)


def test_an_entry_without_a_layer_is_not_called_metadata_unless_it_says_so() -> None:
    steps = paired([BASE, RUN, ENV], ["a"])
    assert [step.metadata_only for step in steps] == [False, False, True]
    assert [step.created_by for step in steps] == ["ADD rootfs", "RUN true", "ENV A=1"]


def test_every_layer_has_one_step() -> None:
    steps = by_layer([ENV, BASE, ENV], ["a", "b"])
    assert [(step.number, step.layer, step.created_by) for step in steps] == [
        (1, "a", "ADD rootfs"),
        (2, "b", ""),
    ]
