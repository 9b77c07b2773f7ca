"""Why jobs wait, by what workers announce."""

from __future__ import annotations

from typing import Any

import pytest

from producer.waiting import Wait, all_refused, why_waiting
from shared.weights import WeightsName
from tests.unit.test_progress import status_of

PLAIN = WeightsName(model="demo")
STYLED = WeightsName(model="demo", loras=("owner/style",))


def worker(*served: WeightsName, **more: Any) -> dict[str, Any]:
    """One that was started with ``demo``."""
    entries = [
        {"key": name.key, "model": name.model, "revision": None, "variant": None, "pin": "here"}
        for name in served
    ]
    return {"id": "w", "served": entries, "model_options": ["demo"], "variant": None} | more


def waits(
    *workers: dict[str, Any], name: WeightsName = STYLED, pin: str | None = None
) -> tuple[Wait, ...]:
    pins = {} if pin is None else {name.key: pin}
    return why_waiting({name.key: name}, workers, pins=pins)


def test_what_one_worker_serves_or_may_load_does_not_wait() -> None:
    no = worker(PLAIN, unserved={STYLED.key: "lora 'owner/style' is gated"})
    assert waits(worker(PLAIN, STYLED)) == ()
    assert waits(no, worker(PLAIN, STYLED)) == ()
    assert waits(no, worker(PLAIN, loras=["owner/style"])) == ()
    assert waits(no, worker(PLAIN, allow=["owner/*"])) == ()
    assert len(waits(no, worker(PLAIN))) == 1


def test_a_reason_of_a_worker_goes_before_what_others_may_not_load() -> None:
    gated = worker(PLAIN, unserved={STYLED.key: "lora 'owner/style' is gated"}, loras=STYLED.loras)
    (wait,) = waits(worker(PLAIN), gated)
    assert wait.reason == (
        "no worker can serve model 'demo' with lora 'owner/style' (the pool serves demo): "
        "lora 'owner/style' is gated"
    )
    assert wait.refused


def test_a_pool_without_workers_refuses_nothing() -> None:
    (wait,) = waits()
    assert "no worker is ready in the pool" in wait.reason
    assert not wait.refused


@pytest.mark.parametrize(("pin", "count"), [("here", 0), ("elsewhere", 1)])
def test_a_sweep_that_was_begun_with_other_weights_waits(pin: str, count: int) -> None:
    found = waits(worker(PLAIN), name=PLAIN, pin=pin)
    assert len(found) == count
    assert all("than those that the sweep was begun with" in wait.reason for wait in found)


def test_a_worker_that_has_not_loaded_it_may_have_the_right_weights() -> None:
    (entry,) = worker(PLAIN)["served"]
    entry.pop("pin")
    assert waits(worker(PLAIN), worker(served=[entry]), name=PLAIN, pin="elsewhere") == ()


def test_a_long_list_is_cut_and_a_variant_is_part_of_the_remedy() -> None:
    served = [WeightsName(model=f"m{number:02}") for number in range(12)]
    (wait,) = waits(worker(*served), name=WeightsName(model="demo", variant="fp16"))
    assert wait.reason == (
        "no worker serves model 'demo' with variant 'fp16', and none may load variant 'fp16' "
        "(the pool serves m00, m01, m02, m03, m04, m05, m06, m07, m08, m09 and 2 more): "
        "start one with 'seedbed worker --model demo --variant=fp16'"
    )


def test_nothing_more_happens_where_all_is_refused_and_nobody_renders() -> None:
    refused = Wait(weights=PLAIN, reason="no", refused=True)
    maybe = Wait(weights=STYLED, reason="not yet", refused=False)
    assert all_refused([refused], status_of())
    assert not all_refused([refused], status_of(leased=1))
    assert not all_refused([refused, maybe], status_of())
    assert not all_refused([], status_of())
