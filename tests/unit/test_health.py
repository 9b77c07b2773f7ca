"""A worker is alive while its loops turn, and ready while it has a pipeline and takes work."""

from __future__ import annotations

import pytest

from worker.health import STUCK_SECONDS, Health
from worker.metrics import BusyClock


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_worker_is_alive_before_any_loop_turns() -> None:
    clock = Clock()
    health = Health(clock)
    clock.now = 1e6  # a hub may be slow
    assert health.alive_fault() is None


def test_a_loop_that_is_late_for_long_is_stuck_and_one_that_waits_as_long_as_it_said_is_not() -> (
    None
):
    clock = Clock()
    health = Health(clock)
    health.turned("heartbeat", within=3600)
    health.turned("lease keeper", within=1)
    clock.now = STUCK_SECONDS
    assert health.alive_fault() is None
    clock.now = STUCK_SECONDS + 2
    assert health.alive_fault() == (
        "the lease keeper has not turned for 601 s longer than it meant to"
    )
    health.turned("lease keeper", within=1)
    assert health.alive_fault() is None


def test_ready_is_between_listening_and_draining() -> None:
    health = Health()
    assert health.ready_fault() == "starting"
    health.be_ready()
    assert health.ready_fault() is None
    health.wait_for("draining")
    assert health.ready_fault() == "draining"


def fail_after_a_second(clock: Clock, device: BusyClock) -> None:
    with device.busy():
        clock.now += 1.0
        raise RuntimeError


def test_what_is_on_the_device_now_is_busy_time() -> None:
    clock = Clock()
    device = BusyClock(clock)
    with device.busy():
        clock.now = 5.0
        assert device.seconds() == 5.0
    clock.now = 9.0
    assert device.seconds() == 5.0
    with pytest.raises(RuntimeError):
        fail_after_a_second(clock, device)
    clock.now = 20.0
    assert device.seconds() == 6.0
