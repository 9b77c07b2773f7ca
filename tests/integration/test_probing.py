"""The default batch size: timed, never guessed, and within memory."""

from __future__ import annotations

import pytest

pytest.importorskip("diffusers", reason="needs the worker's dependencies")

import torch

from shared.errors import UnsupportedJob
from tests.pictures import hooked, quick_job
from worker.engine import StockEngine
from worker.probing import measure_batch_size, smallest_good


@pytest.mark.parametrize(
    ("seconds_per_image", "batch_size"),
    [
        ({1: 1.0}, 1),
        ({1: 1.0, 2: 0.5, 4: 0.25, 8: 0.249}, 4),
        ({1: 1.0, 2: 0.98, 4: 0.97}, 1),
        ({1: 1.0, 2: 0.96, 4: 0.97}, 2),
        ({1: 1.0, 2: 0.6, 4: 0.7}, 2),
    ],
)
def test_the_smallest_batch_within_three_percent_of_the_best_is_chosen(
    seconds_per_image: dict[int, float], batch_size: int
) -> None:
    assert smallest_good(seconds_per_image) == batch_size


def test_a_probe_times_doubling_batches_and_keeps_its_figures(engine: StockEngine) -> None:
    result = measure_batch_size(engine, quick_job(num_inference_steps=50), most_rows=8)

    sizes = list(result.seconds_per_image)
    assert sizes == [1, 2, 4, 8][: len(sizes)]
    assert all(seconds > 0 for seconds in result.seconds_per_image.values())
    assert result.batch_size in sizes
    assert result.steps == 4
    assert result.out_of_memory is None


def test_a_probe_keeps_to_its_budget(engine: StockEngine) -> None:
    result = measure_batch_size(engine, quick_job(), budget_seconds=0.0)

    assert list(result.seconds_per_image) == [1]


def test_a_probe_stops_where_memory_ends(engine: StockEngine) -> None:
    def check(_: object, arguments: tuple[torch.Tensor, ...]) -> None:
        if arguments[0].shape[0] > 2 * 3:
            raise torch.OutOfMemoryError("full")

    with hooked(engine.loaded.pipeline.unet, check, before=True):
        result = measure_batch_size(engine, quick_job())

    assert max(result.seconds_per_image) <= 2
    assert result.out_of_memory in (None, 4), "None: two rows gained too little to try four"


def test_a_job_that_does_not_render_fails_the_probe(engine: StockEngine) -> None:
    with pytest.raises(UnsupportedJob):
        measure_batch_size(engine, quick_job(scheduler="NoScheduler"))
