"""Every hostile image, given to a store in this process: the right tree, or one clear line."""

from collections import Counter
from pathlib import Path

import pytest

from overlayfs.union.names import Format
from tests.hostile.case import Case, Ground
from tests.hostile.corpus.every import CASES, FAMILIES
from tests.hostile.doors import MEMORY, in_store, untouched

# What lists and documents say is the same whatever the layers are unpacked to.
BEFORE_LAYERS = ("archives", "layouts", "documents")
CHOSEN = [
    pytest.param(case, fmt, id=f"{case.name}-{fmt}")
    for family, cases in FAMILIES.items()
    for case in cases
    for fmt in ((Format.KERNEL,) if family in BEFORE_LAYERS else (Format.KERNEL, Format.USER))
]


@pytest.mark.parametrize(("case", "fmt"), CHOSEN)
def test_case(case: Case, fmt: Format, tmp_path: Path, needs_root: None) -> None:
    ground = Ground.make(tmp_path / "ground")
    spec = case.build(ground)
    expected = case.expected(ground, fmt)
    with untouched(ground):
        outcome = in_store(ground, spec, fmt, case.env)
    if isinstance(expected, str):
        assert outcome.tree is None, "it was taken"
        assert expected in outcome.message
    else:
        assert outcome.message == ""
        assert outcome.tree == expected
    assert outcome.memory < MEMORY


def test_names_are_used_once() -> None:
    names = [case.name for case in CASES]
    assert [name for name, count in Counter(names).items() if count > 1] == []
    assert len(names) >= 150
