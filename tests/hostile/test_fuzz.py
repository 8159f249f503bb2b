"""Whatever is done to a hostile image, it is taken or refused in one line, and stays inside.

`scripts/fuzz archives` does the same for hours.
"""

import random
from pathlib import Path

import pytest

from tests.hostile.case import Ground
from tests.hostile.doors import untouched
from tests.hostile.trying import Trial


@pytest.mark.parametrize("seed", range(4))
def test_a_hundred_images(seed: int, tmp_path: Path, needs_root: None) -> None:
    ground = Ground.make(tmp_path / "ground")
    with untouched(ground):
        failures = Trial(ground).run(range(seed * 100, seed * 100 + 100))
    assert failures == []


def test_an_image_can_be_made_again() -> None:
    from tests.hostile.mutation import image

    assert image(random.Random(7), "/out") == image(random.Random(7), "/out")
