"""Which ended processes of a stack are started again, after which pause, and when that ends."""

from __future__ import annotations

from itertools import repeat

from producer.services.restarts import EARLY_SECONDS, MAX_EARLY_ENDS, MAX_SERVED_ENDS, Restarts


def test_a_service_that_ends_early_again_and_again_is_given_up_after_growing_pauses() -> None:
    restarts = Restarts()
    pauses = [restarts.pause("redis", lived_seconds=1) for _ in range(MAX_EARLY_ENDS + 1)]
    assert pauses == [1, 2, 4, 8, None]


def test_a_service_that_lived_is_started_at_once_and_begins_anew() -> None:
    restarts = Restarts()
    lives = [1, 1, EARLY_SECONDS, 1, 1]
    assert [restarts.pause("s3", lived_seconds=lived) for lived in lives] == [1, 2, 0, 1, 2]


def test_services_are_counted_apart() -> None:
    restarts = Restarts()
    pauses = [restarts.pause(name, lived_seconds=1) for name in ("redis", "s3", "redis")]
    assert pauses == [1, 1, 2]


def test_a_worker_that_gives_up_soon_after_its_start_is_not_tried_again() -> None:
    assert Restarts().pause("worker", lived_seconds=1, gave_up=True) is None
    assert Restarts().pause("worker", lived_seconds=EARLY_SECONDS, gave_up=True) == 0


def test_a_worker_that_a_job_has_killed_is_started_at_once_a_hundred_times() -> None:
    restarts = Restarts()
    ends = [
        restarts.pause("worker", lived_seconds=1, served=True, gave_up=True)
        for _ in range(MAX_SERVED_ENDS + 1)
    ]
    assert ends == [*repeat(0, MAX_SERVED_ENDS), None]
