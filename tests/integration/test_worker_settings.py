"""A worker's settings for speed and memory: installed as they say, and what they do to pixels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("diffusers", reason="needs the worker's dependencies")

import torch

from shared.errors import InvalidSettings
from shared.pin import Pin
from shared.worker_options import WorkerOptions
from tests.pictures import (
    LIBRARY_WARNINGS,
    all_rendered,
    assert_nearly_same,
    assert_same_picture,
    difference,
    hooked,
    mixed_jobs,
    quick_job,
    use_scheduler,
)
from worker.engine import StockEngine
from worker.loading import LoadedModel, ModelSource, load_pipeline
from worker.tuning import Tuning

pytestmark = [*LIBRARY_WARNINGS, pytest.mark.usefixtures("one_thread")]

CPU = torch.device("cpu")


@pytest.fixture
def load(demo_folder: Path) -> Any:
    def load_with(**settings: Any) -> LoadedModel:
        source = ModelSource(model=str(demo_folder))
        return load_pipeline(source, device=CPU, tuning=Tuning(**settings))

    return load_with


def test_a_tuning_is_what_the_options_say() -> None:
    options = WorkerOptions(
        models=("demo",),
        xformers=True,
        vae_slicing=False,
        vae_tiling=True,
        channels_last=True,
        offload="model",
        autocast="bfloat16",
    )
    assert Tuning.of(options) == Tuning(
        xformers=True,
        vae_slicing=False,
        vae_tiling=True,
        channels_last=True,
        offload="model",
        autocast="bfloat16",
    )
    assert Tuning.of(WorkerOptions(models=("demo",))) == Tuning()


def test_vae_slicing_is_on_unless_it_is_switched_off(engine: StockEngine, load: Any) -> None:
    assert engine.loaded.pipeline.vae.use_slicing
    whole = load(vae_slicing=False)
    assert not whole.pipeline.vae.use_slicing
    assert whole.pin == engine.loaded.pin
    rows: list[int] = []
    jobs = mixed_jobs()

    with hooked(whole.pipeline.vae.decoder, lambda _, given, out: rows.append(len(out))):
        together = all_rendered(StockEngine(whole).render(jobs))
    with hooked(engine.loaded.pipeline.vae.decoder, lambda _, given, out: rows.append(len(out))):
        one_by_one = all_rendered(engine.render(jobs))

    assert rows == [len(jobs)] + [1] * len(jobs)
    for first, second in zip(together, one_by_one, strict=True):
        assert_nearly_same(first.image, second.image)


def test_vae_tiling_changes_large_pictures_and_so_the_pin(engine: StockEngine, load: Any) -> None:
    tiled = load(vae_tiling=True)
    assert tiled.pipeline.vae.use_tiling
    assert Pin.from_text(tiled.pin) == replace(Pin.from_text(engine.loaded.pin), vae_tiling=True)
    edge = 2 * engine.loaded.native_height
    small, large = quick_job(), quick_job(height=edge, width=edge)

    plain = all_rendered(engine.render([small, large]))
    other = all_rendered(StockEngine(tiled).render([small, large]))

    assert plain[0].image.tobytes() == other[0].image.tobytes()
    assert difference(plain[1].image, other[1].image)[0] > 1


def test_tiling_without_a_vae_is_refused(load: Any) -> None:
    pipeline = load().pipeline
    pipeline.vae = None
    with pytest.raises(InvalidSettings, match="--vae-tiling needs a model whose VAE can decode"):
        Tuning(vae_tiling=True).apply(pipeline, "adaptive")


def test_channels_last_moves_the_channels_and_keeps_the_pixels(
    engine: StockEngine, load: Any
) -> None:
    moved = load(channels_last=True)
    assert moved.pin == engine.loaded.pin
    for part in (moved.pipeline.unet, moved.pipeline.vae.decoder):
        kernel = part.conv_in.weight
        assert kernel.is_contiguous(memory_format=torch.channels_last)
    jobs = mixed_jobs(height=128, width=128)

    for one, other in zip(
        all_rendered(engine.render(jobs)),
        all_rendered(StockEngine(moved).render(jobs)),
        strict=True,
    ):
        assert_same_picture(one.image, other.image)


def test_autocast_computes_in_its_format_and_makes_other_images(
    engine: StockEngine, load: Any, stock: Any
) -> None:
    cast = load(autocast="bfloat16")
    assert Pin.from_text(cast.pin) == replace(Pin.from_text(engine.loaded.pin), autocast="bfloat16")
    assert cast.pipeline.unet.dtype == torch.float32
    formats: set[torch.dtype] = set()
    job = quick_job()
    use_scheduler(stock, cast.native_scheduler, seed=0)  # other tests leave theirs

    # the hook returns nothing, or torch would take it for the output
    with hooked(cast.pipeline.unet.conv_out, lambda _, given, out: formats.update({out.dtype})):
        (outcome,) = all_rendered(StockEngine(cast).render([job]))

    assert formats == {torch.bfloat16}
    (plain,) = all_rendered(engine.render([job]))
    assert difference(outcome.image, plain.image)[0] > 1
    generator = torch.Generator("cpu").manual_seed(job.seed)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        expected = stock(
            job.prompt,
            num_inference_steps=job.num_inference_steps,
            guidance_scale=job.guidance_scale,
            generator=generator,
        ).images[0]
    assert difference(outcome.image, expected)[0] <= 3, "as the stock pipeline under autocast"


def test_an_overflow_under_autocast_is_decoded_again_in_float32(load: Any) -> None:
    cast = load(autocast="bfloat16")
    seen: list[torch.dtype] = []

    def overflow(module: Any, given: Any, output: torch.Tensor) -> torch.Tensor:
        seen.append(output.dtype)
        return output * float("inf") if output.dtype == torch.bfloat16 else output

    with hooked(cast.pipeline.vae.decoder.conv_out, overflow):
        (outcome,) = all_rendered(StockEngine(cast).render([quick_job()]))

    assert seen == [torch.bfloat16, torch.float32]
    assert outcome.notes == ("decoded again in float32",)


def modules_of(loaded: LoadedModel) -> list[torch.nn.Module]:
    found = loaded.pipeline.components.values()
    return [module for module in found if isinstance(module, torch.nn.Module)]


def test_models_that_are_offloaded_come_in_their_turn_and_keep_the_pixels(
    engine: StockEngine, load: Any
) -> None:
    # A CPU has nowhere to bring weights to, and a worker refuses it; accelerate's machinery does
    # not mind, so all but the transfer is run here.
    offloaded = load(offload="model")
    assert all(hasattr(module, "_hf_hook") for module in modules_of(offloaded))
    assert offloaded.pin == engine.loaded.pin
    jobs = mixed_jobs()

    outcomes = all_rendered(StockEngine(offloaded).render(jobs))

    for one, other in zip(outcomes, all_rendered(engine.render(jobs)), strict=True):
        assert one.image.tobytes() == other.image.tobytes()


def test_layers_that_are_offloaded_hold_nothing_where_it_is_computed(
    engine: StockEngine, load: Any
) -> None:
    offloaded = load(offload="sequential")

    assert offloaded.pin == engine.loaded.pin
    for module in modules_of(offloaded):
        assert any(hasattr(part, "_hf_hook") for part in module.modules())
        assert all(parameter.is_meta for parameter in module.parameters())


@pytest.mark.parametrize(
    ("settings", "device", "sentence"),
    [
        ({"offload": "model"}, "cpu", "--offload model needs a GPU to bring the weights to"),
        ({"offload": "sequential"}, "cpu", "--offload sequential needs a GPU"),
        ({"xformers": True}, "cpu", "--xformers needs the package xformers, which is not"),
        ({"xformers": True}, "cuda", "--xformers needs the package xformers, which is not"),
    ],
)
def test_what_cannot_be_had_here_is_refused_before_anything_is_loaded(
    settings: dict[str, Any], device: str, sentence: str
) -> None:
    with pytest.raises(InvalidSettings) as refused:
        Tuning(**settings).check(torch.device(device))
    assert str(refused.value).startswith(sentence)
    assert "leave it out" in str(refused.value)


@pytest.mark.parametrize("device", ["cuda", "mps"])
@pytest.mark.parametrize("kind", ["model", "sequential"])
def test_offloading_is_for_any_gpu(device: str, kind: str) -> None:
    Tuning(offload=kind).check(torch.device(device))
