"""Caps and knees from a few batches, on devices made up to be easy, awkward and noisy."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from shared.capacity import Curve, Point
from shared.errors import OutOfMemory
from worker.capacity import HEADROOM, NEARLY, Room, find_curve, knee_of

MIB = 1 << 20
GIB = 1 << 30
PLENTY = 10_000.0


class FakeDevice:
    """Time and memory by rules of the test's own; its clock moves only while it computes.

    Args:
        memory: Bytes that so many rows hold at most; None: it can't tell.
        seconds: What they take.
        holds: Bytes after which it is out of memory.
    """

    def __init__(
        self,
        *,
        memory: Callable[[int], float] | None = None,
        seconds: Callable[[int], float] = lambda rows: 1.0,
        holds: float = math.inf,
    ) -> None:
        self.memory = memory
        self.seconds = seconds
        self.holds = holds
        self.now = 0.0
        self.ran: list[int] = []

    def measure(self, rows: int) -> Point:
        self.ran.append(rows)
        held = self.memory(rows) if self.memory else 0.0
        if held > self.holds:
            raise OutOfMemory(f"{rows} rows")
        took = self.seconds(rows)
        self.now += took
        return Point(rows=rows, seconds=took, peak_bytes=int(held) if self.memory else None)

    def curve(self, *, rows: int = 128, budget: float = PLENTY) -> Curve:
        holds = None if math.isinf(self.holds) else int(self.holds)
        room = Room(memory_bytes=holds, rows=rows, seconds=budget)
        return find_curve(self.measure, room, clock=lambda: self.now)

    def most_rows(self) -> int:
        """What truly fits beside the headroom."""
        assert self.memory is not None
        limit = self.holds * (1 - HEADROOM)
        return max((rows for rows in range(1, 129) if self.memory(rows) <= limit), default=1)


def linear(rows: int) -> float:
    return 2 * GIB + rows * 100 * MIB


def behind_a_workspace(rows: int) -> float:
    """A convolution's workspace of 500 MiB is all there is until the rows outgrow it."""
    return 1 * GIB + max(500 * MIB + rows * 10 * MIB, rows * 130 * MIB)


def with_a_step(rows: int) -> float:
    """From 20 rows on, another algorithm wants 3 GiB of its own."""
    return 1 * GIB + rows * 60 * MIB + (3 * GIB if rows >= 20 else 0)


def saturating(at: float) -> Callable[[int], float]:
    """Rows are free until the device is full, and cost their share from there on."""
    return lambda rows: 0.1 * max(1.0, rows / at)


@pytest.mark.parametrize(
    ("memory", "holds"),
    [
        (linear, 4 * GIB),
        (linear, 8 * GIB),
        (linear, 2.5 * GIB),
        (behind_a_workspace, 4 * GIB),
        (behind_a_workspace, 12 * GIB),
    ],
)
def test_the_cap_is_all_that_fits_where_memory_grows_by_the_row(
    memory: Callable[[int], float], holds: float
) -> None:
    device = FakeDevice(memory=memory, seconds=lambda rows: 0.1 + 0.01 * rows, holds=holds)

    curve = device.curve()

    assert curve.cap == device.most_rows()
    assert curve.bound == "memory"
    assert max(device.ran) <= curve.cap, "one batch confirms it, none is in vain"


def test_a_flat_device_confirms_its_cap_with_a_single_batch() -> None:
    device = FakeDevice(memory=linear, seconds=lambda rows: 0.1 * rows, holds=8 * GIB)

    curve = device.curve()

    assert device.ran == [1, 1, 2, 4, device.most_rows()], "the first warms it up"
    assert (curve.knee, curve.cap) == (1, device.most_rows())


def test_a_workspace_hides_the_slope_at_small_batches_and_the_last_two_points_tell_it() -> None:
    # as measured: 135, 152, 200, 265, 395, 526 MiB at 1, 2, 3, 4, 6, 8 rows
    measured = {1: 135.0, 2: 152.0, 3: 200.0, 4: 265.0, 6: 395.0, 8: 526.0}
    device = FakeDevice(
        memory=lambda rows: measured.get(rows, 526 + (rows - 8) * 65.5) * MIB,
        seconds=saturating(at=8),
        holds=2000 * MIB,
    )

    curve = device.curve()

    assert curve.cap == device.most_rows() == 27
    assert curve.knee == 8


@pytest.mark.parametrize("holds", [5 * GIB, 6 * GIB, 9 * GIB])
def test_a_step_is_found_by_looking_between_what_fits_and_what_does_not(holds: float) -> None:
    device = FakeDevice(memory=with_a_step, seconds=saturating(at=4), holds=holds)

    curve = device.curve()

    most = device.most_rows()
    assert most * 7 / 8 - 1 <= curve.cap <= most
    assert curve.knee == 4


@pytest.mark.parametrize("fits", [1, 2, 3, 5, 11, 20])
def test_memory_that_ends_without_notice_is_found_by_halving(fits: int) -> None:
    device = FakeDevice(memory=lambda rows: 0 if rows <= fits else 2 * GIB, holds=1 * GIB)

    curve = device.curve()

    assert fits * 7 / 8 - 1 <= curve.cap <= fits
    assert fits > 8 or curve.cap == fits
    assert len(device.ran) <= 12


def test_without_knowing_its_memory_a_device_is_asked_for_all_the_rows() -> None:
    curve = FakeDevice(seconds=saturating(at=4)).curve(rows=64)

    assert (curve.knee, curve.cap, curve.bound) == (4, 64, "rows")


def test_a_single_row_within_the_headroom_still_runs() -> None:
    device = FakeDevice(memory=lambda rows: rows * 0.95 * GIB, holds=1 * GIB)

    curve = device.curve()

    assert (curve.knee, curve.cap, curve.bound) == (1, 1, "memory")


def test_a_single_row_that_does_not_fit_is_out_of_memory() -> None:
    with pytest.raises(OutOfMemory):
        FakeDevice(memory=lambda rows: 2 * GIB, holds=1 * GIB).curve()


@pytest.mark.parametrize("at", [1, 2, 4, 8, 16, 32, 64])
def test_the_knee_is_where_more_rows_gain_no_more(at: int) -> None:
    curve = FakeDevice(memory=linear, seconds=saturating(at), holds=80 * GIB).curve()

    assert curve.knee == at


def test_gains_that_fade_end_within_three_percent_of_the_best() -> None:
    device = FakeDevice(memory=linear, seconds=lambda rows: 0.05 + 0.01 * rows, holds=80 * GIB)

    curve = device.curve()

    rates = {point.rows: point.rate for point in curve.points}
    assert rates[curve.knee] >= max(rates.values()) * (1 - NEARLY)
    assert curve.knee == 128


def test_a_turbo_models_sixfold_gain_and_a_large_models_two_percent_are_told_apart() -> None:
    turbo = FakeDevice(memory=linear, seconds=saturating(at=6), holds=20 * GIB).curve()
    large = FakeDevice(
        memory=linear, seconds=lambda rows: 0.02 + 1.0 * rows, holds=20 * GIB
    ).curve()

    assert turbo.knee == 8
    assert large.knee == 1


@pytest.mark.parametrize("unlucky", [2, 4, 8])
def test_one_unlucky_measurement_does_not_end_the_search(unlucky: int) -> None:
    quick = saturating(at=16)
    device = FakeDevice(
        memory=linear,
        seconds=lambda rows: quick(rows) * (2.2 if rows == unlucky else 1),
        holds=80 * GIB,
    )

    assert device.curve().knee == 16


@pytest.mark.parametrize("seed", range(20))
def test_noise_within_three_percent_leaves_the_knee_where_it_is(seed: int) -> None:
    assert noisy(0.025, seed).curve().knee == 8


@pytest.mark.parametrize("seed", range(20))
def test_more_noise_costs_memory_but_no_speed(seed: int) -> None:
    assert noisy(0.2, seed).curve().knee >= 8


def noisy(share: float, seed: int) -> FakeDevice:
    """A knee at 8 rows, on a machine that is up to this share late."""
    noise = random.Random(seed)
    quick = saturating(at=8)
    return FakeDevice(
        memory=linear,
        seconds=lambda rows: quick(rows) * noise.uniform(1, 1 + share),
        holds=80 * GIB,
    )


def test_what_the_time_does_not_allow_is_not_run() -> None:
    device = FakeDevice(memory=linear, seconds=lambda rows: 1.0 * rows, holds=80 * GIB)

    curve = device.curve(budget=10)

    assert (curve.cap, curve.bound) == (4, "time")
    assert device.now <= 10
    assert curve.reach == 128, "as far as its memory would go"


def test_what_could_not_be_confirmed_in_time_is_still_reckoned() -> None:
    device = FakeDevice(memory=linear, seconds=lambda rows: 1.0 * rows, holds=8 * GIB)

    curve = device.curve(budget=10)

    assert (curve.cap, curve.bound) == (4, "time")
    assert curve.reach == device.most_rows()


def test_at_least_one_row_is_run_however_little_time_there_is() -> None:
    curve = FakeDevice().curve(budget=0)

    assert (curve.knee, curve.cap, curve.bound) == (1, 1, "time")


@given(
    a_row=st.integers(0, 2 * GIB),
    jumps=st.dictionaries(st.integers(1, 128), st.integers(0, 20 * GIB), max_size=5),
    holds=st.integers(1 * GIB, 100 * GIB),
    times=st.lists(st.floats(0.001, 10), min_size=8, max_size=8),
    rows=st.integers(1, 128),
    budget=st.floats(0, 1000),
)
def test_the_cap_has_run_within_the_headroom_and_the_knee_is_never_above_it(
    a_row: int, jumps: dict[int, int], holds: int, times: list[float], rows: int, budget: float
) -> None:
    device = FakeDevice(
        memory=lambda count: count * a_row + sum(more for at, more in jumps.items() if at <= count),
        seconds=lambda count: times[count.bit_length() - 1],
        holds=holds,
    )
    assert device.memory is not None
    assume(device.memory(1) <= holds)

    curve = device.curve(rows=rows, budget=budget)

    assert 1 <= curve.knee <= curve.cap <= min(device.most_rows(), rows)
    assert curve.cap <= curve.reach <= rows
    assert curve.reach == curve.cap or curve.bound == "time"
    assert curve.cap in device.ran
    assert knee_of([point for point in curve.points if point.rows <= curve.cap]) == curve.knee
    assert len(device.ran) < 30


@given(
    fixed=st.integers(0, 4 * GIB),
    a_row=st.integers(1 * MIB, 2 * GIB),
    holds=st.integers(8 * GIB, 100 * GIB),
)
def test_memory_that_grows_evenly_is_used_to_an_eighth(fixed: int, a_row: int, holds: int) -> None:
    device = FakeDevice(
        memory=lambda rows: fixed + rows * a_row, seconds=lambda rows: 0.1 * rows, holds=holds
    )

    curve = device.curve()

    assert device.most_rows() * 7 / 8 - 1 <= curve.cap <= device.most_rows()
