"""A short round of faults on a real pool; ``make chaos`` plays each of them, and for longer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from tests.faults.catalogue import CATALOGUE
from tests.faults.pool import faulty_pool
from tests.faults.rounds import Player

pytestmark = [pytest.mark.acceptance, pytest.mark.slow]

SEED = 6
SEEDS = 40
"""Of each prompt and scale: 160 images."""
FAULTS = ("worker-killed", "redis-killed", "s3-errors", "messages-deleted", "redis-cut")


@pytest.fixture
def player(tmp_path: Path) -> Iterator[Player]:
    with faulty_pool(tmp_path) as pool:
        pool.staff()
        yield Player(pool, Random(SEED), seeds=SEEDS)


def test_nothing_is_lost_twice_or_wrong_after_faults_of_every_kind(player: Player) -> None:
    assert player.without_faults().problems == []

    played = player.in_turn([CATALOGUE[name] for name in FAULTS], marks=("raises", "non-finite"))

    assert played.problems == []
    assert played.audit.images == 4 * SEEDS + 1, "all but the two that can't be rendered"
    assert played.faults.total() == len(FAULTS) + 2
