"""How many workers a backlog asks for: the formula, its bounds, and what a lull does to it."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.backlog import UNPINNED, Backlog, Held, Waiting
from shared.scaling import (
    FINALISE_SECONDS,
    UNMEASURED_JOB_SECONDS,
    UNMEASURED_SECONDS,
    ModelBacklog,
    RecentPeak,
    model_backlogs,
    workers_wanted,
)

names = st.sampled_from(["a", "b", "c"])
jobs = st.integers(1, 10_000_000)
seconds = st.floats(1e-4, 1e4)
waiting_rows = st.builds(
    Waiting,
    model=names,
    pin=st.sampled_from([UNPINNED, "p", "q"]),
    lane=names,
    recipe=names,
    jobs=jobs,
    cost=st.floats(1e-3, 1e9),
)
held_rows = st.builds(Held, model=names, lane=names, recipe=names, jobs=st.integers(1, 1024))
backlogs = st.builds(
    Backlog,
    at=st.just(0.0),
    waiting=st.lists(waiting_rows, max_size=8, unique_by=repr).map(tuple),
    held=st.lists(held_rows, max_size=8).map(tuple),
    finalising=st.dictionaries(names, st.integers(1, 3)),
)
lanes = st.tuples(names, names, names)


def make_waiting(count: int = 10, *, cost: float = 1.0, **values: Any) -> Waiting:
    given = {"model": "m", "pin": UNPINNED, "lane": "l", "recipe": "r"} | values
    return Waiting(**given, jobs=count, cost=count * cost)


def backlog_of(*rows: Waiting, **values: Any) -> Backlog:
    return Backlog(at=0.0, waiting=rows, **values)


def wanted(seconds: float, jobs: int = 1000, target: float = 60, most: int = 100) -> int:
    return workers_wanted(seconds, jobs, target_seconds=target, max_workers=most)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0.001, 1), (60, 1), (60.001, 2), (600, 10), (6000, 100), (6001, 100), (math.inf, 100)],
)
def test_wanted_is_the_backlog_by_the_target_rounded_up_within_its_bounds(
    seconds: float, expected: int
) -> None:
    assert wanted(seconds) == expected


def test_no_jobs_want_no_worker_and_a_few_never_more_than_there_are() -> None:
    assert wanted(1e9, jobs=0) == 0
    assert wanted(1e9, jobs=3) == 3
    assert wanted(0.0, jobs=3) == 1
    assert wanted(1e9, jobs=3, most=0) == 0


@given(st.floats(0, 1e12), st.integers(0, 10**9), st.floats(0.1, 1e5), st.integers(1, 10_000))
def test_wanted_is_the_documented_formula_whatever_the_numbers(
    seconds: float, count: int, target: float, most: int
) -> None:
    found = workers_wanted(seconds, count, target_seconds=target, max_workers=most)

    assert (found == 0) == (count == 0)
    if count:
        assert found == max(1, min(most, count, math.ceil(seconds / target)))


@given(backlogs, st.dictionaries(lanes, seconds))
def test_every_open_job_is_counted_once_and_takes_time(
    backlog: Backlog, rates: dict[tuple[str, str, str], float]
) -> None:
    found = model_backlogs(backlog, rates)

    assert sum(model.pending for model in found.values()) == sum(r.jobs for r in backlog.waiting)
    assert sum(model.leased for model in found.values()) == sum(r.jobs for r in backlog.held)
    assert set(found) == backlog.models
    for model in found.values():
        assert model.jobs > 0
        assert 0 < model.seconds < math.inf
        assert model.stranded == 0


@given(st.lists(waiting_rows, min_size=1, max_size=8, unique_by=repr), seconds)
def test_measured_jobs_take_what_was_measured(rows: list[Waiting], rate: float) -> None:
    rates = {(row.model, row.lane, row.recipe): rate for row in rows}

    found = model_backlogs(backlog_of(*rows), rates)

    total = sum(model.seconds for model in found.values())
    assert total == pytest.approx(rate * sum(row.jobs for row in rows))
    for model in found.values():
        assert model.job_seconds == pytest.approx(rate)


def test_an_unmeasured_lane_takes_as_long_for_its_cost_as_the_measured_ones_of_its_model() -> None:
    small, large = make_waiting(10, cost=2.0), make_waiting(10, cost=8.0, lane="large")
    rates = {("m", "l", "r"): 0.5}

    found = model_backlogs(backlog_of(small, large), rates)["m"]

    assert found.lanes["l"].seconds == pytest.approx(5)
    assert found.lanes["large"].seconds == pytest.approx(20)


def test_a_model_that_nobody_has_measured_is_guessed_by_its_cost() -> None:
    held = Held(model="m", lane="l", recipe="r", jobs=5)
    unknown = Held(model="m", lane="l", recipe="never seen", jobs=5)

    found = model_backlogs(backlog_of(make_waiting(10, cost=100.0), held=(held, unknown)), {})["m"]

    assert found.seconds == pytest.approx(
        15 * 100 * UNMEASURED_SECONDS + 5 * UNMEASURED_JOB_SECONDS
    )


@pytest.mark.parametrize("rate", [0.0, -1.0, math.inf, math.nan])
def test_a_measurement_that_cannot_be_is_not_believed(rate: float) -> None:
    found = model_backlogs(backlog_of(make_waiting()), {("m", "l", "r"): rate})["m"]

    assert found.seconds == pytest.approx(10 * UNMEASURED_SECONDS)


def test_an_index_to_be_written_wants_a_worker_though_every_job_is_done() -> None:
    found = model_backlogs(Backlog(at=0.0, finalising={"m": 2}), {})["m"]

    assert (found.jobs, found.pending, found.leased) == (2, 0, 0)
    assert wanted(found.seconds, found.jobs) == 1
    assert found.seconds == 2 * FINALISE_SECONDS


def test_jobs_pinned_to_weights_that_no_worker_has_want_none() -> None:
    rows = make_waiting(10, pin="old"), make_waiting(5, pin="new"), make_waiting(3)

    found = model_backlogs(backlog_of(*rows), {}, pins={"m": {"new"}})["m"]
    assert (found.pending, found.stranded) == (8, 10)

    # nobody is there to say what there is: a worker has to come and see
    assert model_backlogs(backlog_of(*rows), {}, pins={"m": set()})["m"].pending == 18
    assert model_backlogs(backlog_of(*rows), {}, pins={"other": {"x"}})["m"].pending == 18

    only = model_backlogs(backlog_of(rows[0]), {}, pins={"m": {"new"}})["m"]
    assert (only.jobs, only.seconds, only.stranded) == (0, 0.0, 10)


def test_nothing_open_is_no_model() -> None:
    assert model_backlogs(Backlog(at=0.0), {}) == {}
    assert (ModelBacklog().jobs, ModelBacklog().seconds, ModelBacklog().job_seconds) == (0, 0, 0)


steps = st.lists(st.tuples(st.floats(0, 30), st.integers(0, 50)), min_size=1, max_size=60)


@given(steps, st.floats(0, 60))
def test_a_recent_peak_is_the_most_within_its_window(
    moves: list[tuple[float, int]], window: float
) -> None:
    peak, now = RecentPeak(window), 0.0
    seen: list[tuple[float, int]] = []
    for passed, value in moves:
        now += passed
        seen.append((now, value))
        assert peak.add(now, value) == max(v for at, v in seen if at >= now - window)


def test_a_lull_costs_no_worker_and_an_end_costs_one_window() -> None:
    peak = RecentPeak(30)

    assert [peak.add(now, value) for now, value in [(0, 5), (10, 0), (20, 5), (45, 1)]] == [5] * 4
    assert peak.add(51, 0) == 1
    assert peak.add(76, 0) == 0
    assert peak.add(77, 9) == 9  # up at once
