"""The HPA's and KEDA's rules, as their documentation has them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.simulation.autoscaler import (
    SCALE_DOWN,
    SCALE_UP,
    Activator,
    Autoscaler,
    Policy,
    Rules,
    ScaledObject,
    desired_replicas,
)

DEFAULTS = ScaledObject(max_replicas=1000)


@pytest.mark.parametrize(
    ("metric", "target", "replicas", "expected"),
    [
        (10, 1, 5, 10),
        (10.1, 1, 5, 11),  # the ceiling
        (10, 3, 1, 4),
        (10.9, 1, 10, 10),  # within a tenth of what there is
        (12, 1, 10, 12),
        (9.1, 1, 10, 10),
        (8.9, 1, 10, 9),
        (0, 1, 10, 0),
    ],
)
def test_the_metric_asks_for_its_ceiling_unless_it_is_within_the_tolerance(
    metric: float, target: float, replicas: int, expected: int
) -> None:
    assert desired_replicas(metric, target=target, replicas=replicas, tolerance=0.1) == expected


def follow(settings: ScaledObject, metrics: list[float], replicas: int = 1) -> list[int]:
    """Replicas after each sync, 15 seconds apart."""
    scaler, found = Autoscaler(settings), []
    for number, metric in enumerate(metrics):
        replicas = scaler.sync(15.0 * number, metric, replicas)
        found.append(replicas)
    return found


def test_by_default_it_doubles_or_adds_four_a_period_whichever_is_more() -> None:
    assert follow(DEFAULTS, [100] * 7) == [5, 10, 20, 40, 80, 100, 100]


def test_with_min_the_policy_that_allows_less_holds() -> None:
    settings = replace(DEFAULTS, up=replace(SCALE_UP, select="Min"))
    assert follow(settings, [100] * 5) == [2, 4, 8, 12, 16]


def test_what_was_added_within_the_period_counts() -> None:
    slow = Rules(
        stabilization_seconds=0.0, policies=(Policy(kind="Pods", value=4, period_seconds=60),)
    )
    assert follow(replace(DEFAULTS, up=slow), [100] * 9) == [5, 5, 5, 5, 9, 9, 9, 9, 13]


def test_disabled_scaling_leaves_what_there_is() -> None:
    settings = replace(
        DEFAULTS,
        up=replace(SCALE_UP, select="Disabled"),
        down=replace(SCALE_DOWN, select="Disabled"),
    )
    assert follow(settings, [100, 100, 1], replicas=7) == [7, 7, 7]


def test_never_more_than_the_most_nor_less_than_one() -> None:
    settings = replace(DEFAULTS, max_replicas=8, down=replace(SCALE_DOWN, stabilization_seconds=0))
    assert follow(settings, [100, 100, 0, 0]) == [5, 8, 1, 1]


def test_zero_replicas_stay_zero_for_the_hpa() -> None:
    assert follow(DEFAULTS, [100, 100], replicas=0) == [0, 0]


def test_it_shrinks_when_everything_desired_within_the_window_was_smaller() -> None:
    # 300 s are twenty syncs: the twenty-first sees the last wish for forty no more
    assert follow(DEFAULTS, [40] + [10] * 21, replicas=40) == [40] * 20 + [10, 10]


def test_a_window_on_the_way_up_takes_the_least_of_recent_wishes() -> None:
    settings = replace(DEFAULTS, up=replace(SCALE_UP, stabilization_seconds=30))
    assert follow(settings, [1, 100, 100, 100], replicas=1) == [1, 1, 5, 10]


def test_policies_bound_the_way_down() -> None:
    rules = Rules(stabilization_seconds=0, policies=(Policy(kind="Percent", value=50),))
    assert follow(replace(DEFAULTS, down=rules), [1] * 5, replicas=30) == [15, 7, 3, 1, 1]


@given(
    st.lists(st.floats(0, 2000), min_size=1, max_size=40), st.integers(1, 1000), st.integers(0, 600)
)
def test_replicas_stay_between_one_and_the_most(
    metrics: list[float], replicas: int, window: int
) -> None:
    settings = replace(DEFAULTS, down=replace(SCALE_DOWN, stabilization_seconds=float(window)))
    assert all(1 <= found <= 1000 for found in follow(settings, metrics, replicas=replicas))


@given(st.integers(1, 1000), st.integers(1, 1000))
def test_a_steady_metric_is_reached_to_within_the_tolerance(metric: int, replicas: int) -> None:
    found = follow(DEFAULTS, [float(metric)] * 60, replicas=replicas)[-1]
    assert abs(1 - metric / found) <= DEFAULTS.tolerance or found == metric


def test_keda_starts_one_when_the_value_is_above_the_activation() -> None:
    activator = Activator(replace(DEFAULTS, activation=2.0))
    assert [activator.poll(0.0, metric, 0) for metric in (0, 2, 3)] == [0, 0, 1]


def test_keda_leaves_none_once_nothing_was_active_for_the_cooldown() -> None:
    activator = Activator(DEFAULTS)
    assert activator.poll(0.0, 5, 3) == 3
    assert activator.poll(30.0, 0, 3) == 3
    assert activator.poll(299.0, 0, 1) == 1
    assert activator.poll(301.0, 0, 1) == 0
    assert activator.poll(330.0, 0, 0) == 0


def test_what_becomes_active_again_starts_the_cooldown_anew() -> None:
    activator = Activator(DEFAULTS)
    activator.poll(0.0, 5, 1)
    activator.poll(200.0, 1, 1)
    assert activator.poll(450.0, 0, 1) == 1
    assert activator.poll(501.0, 0, 1) == 0
