"""Training the demo model: a few steps of it, from nothing to a checkpoint that loads."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.factories import make_job
from tests.pictures import all_rendered

torch = pytest.importorskip("torch", reason="needs the worker's dependencies")


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    from worker.demo.train import Plan, train

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    plan = Plan(
        autoencoder_steps=3,
        pool=16,
        unet_steps=3,
        decoder_steps=3,
        picture_batch=2,
        latent_batch=4,
    )
    folders = [tmp_path_factory.mktemp("trained") for _ in range(2)]
    made = [train(folder, plan, seed=5) for folder in folders]
    torch.set_num_threads(before)
    return made


def test_the_same_seed_gives_the_same_checkpoint(checkpoints: list[Path]) -> None:
    one, other = checkpoints
    files = sorted(path.relative_to(one) for path in one.rglob("*") if path.is_file())

    assert files == sorted(path.relative_to(other) for path in other.rglob("*") if path.is_file())
    for name in files:
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
    assert sum((one / name).stat().st_size for name in files) < 10_000_000


def test_what_was_trained_renders(checkpoints: list[Path], one_thread: None) -> None:
    from worker.engine import StockEngine
    from worker.loading import ModelSource, load_pipeline

    loaded = load_pipeline(ModelSource(model=str(checkpoints[0])), device=torch.device("cpu"))

    (rendered,) = all_rendered(
        StockEngine(loaded).render([make_job(prompt="a red circle", num_inference_steps=2)])
    )

    assert rendered.image.size == (64, 64)


def test_latents_have_mean_zero_and_deviation_one(one_thread: None) -> None:
    from worker.demo.parts import autoencoder
    from worker.demo.train import fresh, normalise_latents

    torch.manual_seed(0)
    vae = autoencoder().requires_grad_(False)
    sample = next(fresh(0, 64))
    before = vae.decode(vae.encode(sample).latent_dist.mean).sample

    normalise_latents(vae, sample)
    latents = vae.encode(sample).latent_dist.mean

    assert latents.mean((0, 2, 3)).abs().max() < 1e-3
    assert (latents.std((0, 2, 3)) - 1).abs().max() < 1e-3
    assert torch.allclose(vae.decode(latents).sample, before, atol=1e-4)


def test_muon_brings_singular_values_near_one() -> None:
    from worker.demo.muon import orthogonalised

    torch.manual_seed(0)
    for shape in ((16, 64), (64, 16), (32, 32)):
        values = torch.linalg.svdvals(orthogonalised(torch.randn(shape)))
        assert values.max() < 1.3
        assert values.median() > 0.6
