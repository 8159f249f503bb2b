"""Every hostile image, looked into and extracted without a store: the same tree, or one line."""

from pathlib import Path

import pytest

from overlayfs.union.names import Format
from tests.hostile.case import Case, Ground
from tests.hostile.corpus.every import CASES
from tests.hostile.doors import MEMORY, in_view, untouched

# What only a disk refuses: nothing is written by who looks.
NEED_A_DISK = frozenset(
    {
        "sparse-old-huge",
        "sparse-0.1-huge",
        "sparse-0.1-piece-at-the-end-of-time",
        "sparse-1.0-huge",
        "attribute-of-an-unknown-namespace",
        "attribute-name-too-long",
        "attribute-value-too-long",
        "attributes-too-many",
        "attribute-for-a-terminal",
        "bomb-fills-the-disk",
        "lower-file-copied-until-the-disk-is-full",
    }
)
# A disk keeps the nearest time that it can.
OTHERWISE_ON_A_DISK = frozenset({"pax-mtime-far"})


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case(case: Case, tmp_path: Path, needs_root: None) -> None:
    ground = Ground.make(tmp_path / "ground")
    spec = case.build(ground)
    expected = case.expected(ground, Format.USER)
    with untouched(ground):
        seen, extracted = in_view(ground, spec, case.env)
    if not isinstance(expected, str):
        assert seen.message == ""
        assert extracted.message == ""
        if case.name not in OTHERWISE_ON_A_DISK:
            assert seen.tree == expected
    elif case.name not in NEED_A_DISK:
        assert seen.tree is None
        assert seen.message
    assert max(seen.memory, extracted.memory) < MEMORY


def test_the_exceptions_are_cases() -> None:
    assert {case.name for case in CASES} >= NEED_A_DISK | OTHERWISE_ON_A_DISK
