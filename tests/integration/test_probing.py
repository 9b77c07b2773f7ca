"""Probes of the real engine: what its stages take, within the time, and without a trace."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("diffusers", reason="needs the worker's dependencies")

import torch

from shared.errors import OutOfMemory, RenderError, UnsupportedJob
from tests.pictures import LIBRARY_WARNINGS, all_rendered, hooked, quick_job
from tests.tiny_models import save_sd3, save_sdxl
from worker.engine import StockEngine
from worker.loading import ModelSource, load_pipeline
from worker.probing import probe

pytestmark = LIBRARY_WARNINGS


@contextmanager
def decoding(engine: StockEngine, check: Callable[[int], None]) -> Iterator[None]:
    """Ask ``check`` of the images of every call of the VAE."""
    vae = engine.loaded.pipeline.vae
    decode = vae.decode

    def checked(latents: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        check(latents.shape[0])
        return decode(latents, *args, **kwargs)

    vae.decode = checked
    try:
        yield
    finally:
        del vae.decode


@pytest.fixture
def launching(engine: StockEngine) -> Iterator[None]:
    """Every call of the denoiser has a fixed cost, so that rows are worth it on any machine."""

    def launch(*_: Any) -> None:
        time.sleep(0.1)

    with hooked(engine.loaded.pipeline.unet, launch, before=True):
        yield


def test_both_stages_are_timed_and_weighed(engine: StockEngine, launching: None) -> None:
    found = probe(engine, quick_job(num_inference_steps=50), most_rows=4, budget_seconds=60)

    assert found.steps == 5, "four steps of PNDM are five calls of the model"
    assert found.decode is not None
    for curve in (found.denoise, found.decode):
        rows = [point.rows for point in curve.points]
        assert rows[:2] == [1, 2]
        assert curve.knee in rows
        assert curve.cap == rows[-1] <= 4
        assert all(point.seconds > 0 for point in curve.points)
    assert found.decode.cap <= found.denoise.knee, "more never come together"


def test_a_row_of_the_denoiser_is_an_image_and_the_vae_is_left_out_of_its_curve(
    engine: StockEngine, launching: None
) -> None:
    rows: list[int] = []
    images: list[int] = []
    job = quick_job(guidance_scale=7.5)
    unet = engine.loaded.pipeline.unet

    def check(_: Any, arguments: tuple[torch.Tensor, ...]) -> None:
        rows.append(arguments[0].shape[0])

    with hooked(unet, check, before=True), decoding(engine, images.append):
        found = probe(engine, job, most_rows=4, budget_seconds=60)

    assert set(rows) == {1, 2, 4} == {point.rows for point in found.denoise.points}
    denoising = len([count for count in rows if count]) // found.steps
    assert images[:denoising] == [1] * denoising
    assert max(images[denoising:]) > 1


def test_memory_is_the_processs_own_on_a_cpu(engine: StockEngine) -> None:
    found = probe(engine, quick_job(height=256, width=256), most_rows=4, budget_seconds=60)

    assert found.memory_bytes is not None
    for point in found.denoise.points:
        assert point.peak_bytes is not None
        assert 50 << 20 < point.peak_bytes < found.memory_bytes


def test_a_probe_keeps_to_its_time(engine: StockEngine) -> None:
    found = probe(engine, quick_job(), budget_seconds=0.0)

    assert [point.rows for point in found.denoise.points] == [1]
    assert (found.denoise.cap, found.denoise.bound) == (1, "time")


@pytest.mark.parametrize("fits", [1, 3, 11])
def test_the_denoisers_cap_is_where_its_memory_ends(engine: StockEngine, fits: int) -> None:
    def check(_: Any, arguments: tuple[torch.Tensor, ...]) -> None:
        if arguments[0].shape[0] > fits:
            raise torch.OutOfMemoryError("full")

    with hooked(engine.loaded.pipeline.unet, check, before=True):
        found = probe(engine, quick_job(), most_rows=16, budget_seconds=120)

    assert fits - 1 <= found.denoise.cap <= fits
    assert found.denoise.bound == "memory"
    assert found.denoise.knee <= found.denoise.cap


def test_the_vaes_cap_is_its_own(engine: StockEngine, launching: None) -> None:
    def check(images: int) -> None:
        if images > 1:
            raise torch.OutOfMemoryError("full")

    with decoding(engine, check):
        found = probe(engine, quick_job(), most_rows=2, budget_seconds=60)

    assert found.decode is not None
    assert (found.decode.cap, found.decode.reach, found.decode.bound) == (1, 1, "memory")
    assert found.denoise.cap > 1


def test_a_probe_leaves_the_engine_as_it_was(engine: StockEngine) -> None:
    job = quick_job(guidance_scale=3.0)
    (before,) = all_rendered(engine.render([job]))
    vae = engine.loaded.pipeline.vae

    def check(_: Any, arguments: tuple[torch.Tensor, ...]) -> None:
        if arguments[0].shape[0] > 2:
            raise torch.OutOfMemoryError("full")

    with hooked(engine.loaded.pipeline.unet, check, before=True):
        probe(engine, job, budget_seconds=60)

    assert "decode" not in vars(vae)
    cap = engine.cap(quick_job(guidance_scale=1.0))
    assert (cap.good, cap.bad) == (0, None)
    (after,) = all_rendered(engine.render([job]))
    assert before.image.tobytes() == after.image.tobytes()


def test_an_image_that_does_not_fit_alone_is_out_of_memory(engine: StockEngine) -> None:
    def check(*_: Any) -> None:
        raise torch.OutOfMemoryError("full")

    unet = hooked(engine.loaded.pipeline.unet, check, before=True)
    with unet, pytest.raises(OutOfMemory, match="full"):
        probe(engine, quick_job())


def test_a_job_that_does_not_render_fails_the_probe(engine: StockEngine) -> None:
    with pytest.raises(UnsupportedJob):
        probe(engine, quick_job(scheduler="NoScheduler"))
    with pytest.raises(RenderError):
        probe(engine, quick_job(generator_device="cuda"))


# diffusers calls its own deprecated method where it upcasts a VAE; gone in its 1.0
@pytest.mark.filterwarnings("ignore:`upcast_vae` is deprecated:FutureWarning")
@pytest.mark.parametrize(("save", "dtype"), [(save_sdxl, torch.float16), (save_sd3, torch.float32)])
def test_other_kinds_of_pipeline_are_probed_in_the_format_they_decode_in(
    save: Callable[[Path], None], dtype: torch.dtype, tmp_path: Path, one_thread: None
) -> None:
    save(tmp_path / "model")
    loaded = load_pipeline(
        ModelSource(model=str(tmp_path / "model")), device=torch.device("cpu"), dtype=dtype
    )
    vae = loaded.pipeline.vae
    vae.register_to_config(force_upcast=True)  # as SDXL's own checkpoint has it
    formats: list[torch.dtype] = []

    def note(_: Any, arguments: tuple[torch.Tensor, ...]) -> None:
        formats.append(arguments[0].dtype)

    with hooked(vae.decoder, note, before=True):
        found = probe(StockEngine(loaded), quick_job(), most_rows=2, budget_seconds=60)

    assert found.decode is not None
    assert set(formats) == {torch.float32}
    assert vae.dtype == dtype
