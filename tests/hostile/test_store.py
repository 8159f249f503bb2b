"""Every hostile image, given to a store in this process: the right tree, or one clear line."""

from pathlib import Path

import pytest

from overlayfs.union.names import Format
from tests.hostile.case import Case, Ground
from tests.hostile.corpus.every import CASES
from tests.hostile.doors import MEMORY, in_store, untouched


@pytest.mark.parametrize("fmt", [Format.KERNEL, Format.USER], ids=str)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
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
    assert sorted(set(names)) == sorted(names)
    assert len(names) >= 150
