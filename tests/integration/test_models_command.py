"""``seedbed models``: what the pool's workers say they serve."""

from __future__ import annotations

import json

import pytest

from producer import Client
from tests.command_line import Call
from tests.producer_pool import HandWorker


def test_it_lists_weights_size_schedulers_fields_and_workers(seedbed: Call, client: Client) -> None:
    worker = HandWorker(client)
    worker.announce()
    answer = seedbed("models")
    assert (answer.code, answer.err) == (0, "")
    assert answer.out.splitlines() == [
        "demo",
        f"  weights    {worker.pin.weights} (float32)",
        "  size       64 x 64",
        "  schedulers PNDMScheduler (its own), DDIMScheduler",
        "  fields     model, prompt, seed",
        "  workers    1, 1 with it loaded, batches of 4",
    ]
    (found,) = json.loads(seedbed("models", "--json").out)
    assert found["weights"] == worker.pin.weights
    assert found["schedulers"] == ["DDIMScheduler", "PNDMScheduler"]


def test_a_pool_without_workers_says_how_to_start_one(seedbed: Call) -> None:
    answer = seedbed("models")
    assert (answer.code, answer.out) == (0, "")
    assert "seedbed worker --model" in answer.err
    assert seedbed("models", "--json").out == "[]\n"


def test_without_a_pool_it_exits_2(seedbed: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SEEDBED_REDIS_URL")
    answer = seedbed("models")
    assert answer.code == 2
    assert answer.is_one_sentence
