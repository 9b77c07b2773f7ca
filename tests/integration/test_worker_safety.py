"""A safety checker on a worker, on, off or the checkpoint's own: what it flags is told."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("diffusers", reason="needs the worker's dependencies")

from PIL import Image

from shared.lanes import model_key
from tests.pool import Pool

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def strict(stock: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo checkpoint with a checker for which every picture is beyond the pale."""
    import diffusers
    from diffusers.pipelines.stable_diffusion import StableDiffusionSafetyChecker
    from transformers import CLIPConfig, CLIPImageProcessor

    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    config = CLIPConfig(
        text_config=small | {"num_attention_heads": 2},
        vision_config=small | {"num_attention_heads": 2, "image_size": 32, "patch_size": 16},
        projection_dim=8,
    )
    checker = StableDiffusionSafetyChecker(config).eval()
    checker.concept_embeds_weights.fill_(-2)
    pipeline = diffusers.StableDiffusionPipeline(
        **stock.components
        | {
            "safety_checker": checker,
            "feature_extractor": CLIPImageProcessor(
                size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
            ),
        }
    )
    folder = tmp_path_factory.mktemp("strict")
    pipeline.save_pretrained(folder, safe_serialization=True)
    return folder


def test_flagged_images_are_stored_counted_and_found(pool: Pool, strict: Path) -> None:
    sweep = pool.sweep(
        name="strict",
        model=str(strict),
        safety_checker=[None, "on", "off"],
        seed=[0, 1],
        prompt="a boat",
        guidance_scale=4,
        num_inference_steps=2,
    )
    pool.client.submit(sweep)

    with pool.hand_worker(models=(str(strict),)) as process:
        process.serve(model_key(str(strict), None, None))

    flagged = [i for i in range(6) if sweep.layout.job(i).safety_checker != "off"]
    status = pool.client.status(sweep.id)
    assert (status.state, status.done, status.flagged) == ("done", 6, 4)
    with pool.client.search(sweep.id, "flagged") as found:
        assert sorted(hit.index for hit in found.hits()) == flagged
    results = pool.client.results(sweep.id)
    for index in range(6):
        body = pool.storage.get(str(results.key_of(index)))
        black = Image.open(io.BytesIO(body)).getextrema() == ((0, 0),) * 3
        assert black is (index in flagged), "as the checker returned it, and only where it looked"
    receipts = {receipt["index"]: receipt["flagged"] for receipt in pool.receipts(sweep)}
    assert receipts == {index: index in flagged for index in range(6)}

    # and a sweep that reuses them says so of them too
    more = pool.sweep(
        name="more",
        model=str(strict),
        safety_checker=[None, "on", "off"],
        seed=[0, 1, 2],
        prompt="a boat",
        guidance_scale=4,
        num_inference_steps=2,
    )
    pool.client.submit(more)
    with pool.hand_worker(models=(str(strict),)) as process:
        process.serve(model_key(str(strict), None, None))

    reused = {r["index"]: r["flagged"] for r in pool.receipts(more) if r["reused"]}
    assert len(reused) == 6
    assert reused == {i: more.layout.job(i).safety_checker != "off" for i in reused}
    assert pool.client.status(more.id).flagged == 6
