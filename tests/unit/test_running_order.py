"""The tests' own order: slow modules first in every process' part, nothing left out."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.running_order import SECONDS, SLOW_SECONDS, in_order

ROOT = Path(__file__).parents[2]
SLOW = sorted(SECONDS)


def test_every_slow_module_is_there_and_is_slow() -> None:
    assert [module for module in SECONDS if not (ROOT / module).is_file()] == []
    assert min(SECONDS.values()) >= SLOW_SECONDS


@pytest.mark.parametrize("processes", [1, 2, 3, 7])
def test_each_part_begins_with_its_share_of_the_slow_modules(processes: int) -> None:
    modules = [f"tests/unit/test_{number}.py" for number in range(1000)]
    modules[500:500] = [module for module in SLOW for _ in range(5)]

    order = in_order(modules, processes=processes)

    assert sorted(order) == list(range(len(modules)))
    seconds, start = [], 0
    for number in range(processes):  # as xdist deals them out
        end = start + (len(order) - start) // (processes - number)
        part = [modules[place] for place in order[start:end]]
        slow = [module for module in part if module in SECONDS]
        assert part[: len(slow)] == slow
        assert all(part.count(module) == 5 for module in slow), "a module is not split"
        seconds.append(sum(SECONDS[module] for module in set(slow)))
        start = end
    assert max(seconds) - min(seconds) <= max(SECONDS.values())


def test_more_slow_tests_than_a_part_holds_are_run_all_the_same() -> None:
    modules = [SLOW[0]] * 7 + [SLOW[1]] * 2 + ["tests/unit/test_it.py"]
    assert sorted(in_order(modules, processes=4)) == list(range(10))
