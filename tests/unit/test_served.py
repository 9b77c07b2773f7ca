"""What workers announce, put together by model and weights."""

from __future__ import annotations

from typing import Any

from producer.served import mixed_weights, served_models
from tests.factories import make_pin

PIN = make_pin(scheduler="DDIMScheduler")


def entry(model: str = "demo", *, pin: str | None = PIN.to_text(), **more: Any) -> dict[str, Any]:
    known = {} if pin is None else {"pin": pin, "batch_size": 4, "schedulers": ["DDIMScheduler"]}
    names = {"key": f"key-{model}", "model": model, "revision": None, "variant": None}
    return names | known | more


def worker(*served: dict[str, Any], loaded: str = "") -> dict[str, Any]:
    return {"id": "w", "served": list(served), "loaded_key": loaded}


def test_workers_with_equal_weights_are_one_line() -> None:
    (found,) = served_models(
        [
            worker(entry(batch_size=8), loaded="key-demo"),
            worker(entry(), loaded="key-demo"),
            worker(entry(), loaded="key-other"),
        ]
    )
    assert (found.workers, found.loaded, found.batch_sizes) == (3, 2, (4, 8))
    assert (found.weights, found.dtype) == (PIN.weights, PIN.dtype)
    assert (found.height, found.width, found.scheduler) == (64, 64, "DDIMScheduler")
    assert found.schedulers == ("DDIMScheduler",)


def test_a_model_that_nobody_has_loaded_has_no_fingerprint() -> None:
    (found,) = served_models([worker(entry("a/b", pin=None, revision="v1"))])
    assert (found.option, found.workers, found.loaded) == ("a/b@v1", 1, 0)
    assert (found.weights, found.schedulers, found.batch_sizes) == (None, (), ())


def test_a_worker_that_has_yet_to_load_it_counts_with_those_that_have() -> None:
    (found,) = served_models([worker(entry(pin=None)), worker(entry(), loaded="key-demo")])
    assert (found.workers, found.loaded, found.weights) == (2, 1, PIN.weights)


def test_different_weights_of_one_model_are_told_apart() -> None:
    other = make_pin(weights="sha256:" + "1" * 64)
    found = served_models(
        [worker(entry()), worker(entry(pin=other.to_text())), worker(entry(pin=None))]
    )
    assert [item.weights for item in found] == [None, PIN.weights, other.weights]
    assert list(mixed_weights(found)) == [("demo", 2)]


def test_models_come_by_name_and_a_pool_without_workers_has_none() -> None:
    found = served_models([worker(entry("b")), worker(entry("a"), entry("c", pin=None))])
    assert [item.option for item in found] == ["a", "b", "c"]
    assert served_models([{"id": "starting"}]) == ()
    assert list(mixed_weights(found)) == []


def test_a_worker_of_another_version_is_listed_without_its_fingerprint() -> None:
    (found,) = served_models([worker(entry(pin='{"of": "tomorrow"}'))])
    assert (found.weights, found.scheduler, found.workers) == (None, None, 1)
    assert found.pin is not None
