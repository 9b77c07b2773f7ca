"""`seedbed verify` renders stored images again, each alone, and tells what differs."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import pytest

pytest.importorskip("diffusers", reason="needs the worker's dependencies")

from PIL import Image

from producer import Sweep
from shared.image_metadata import encode_png, read_metadata
from shared.lanes import model_key
from shared.settings import VARIABLES
from shared.worker_options import WorkerOptions
from tests.command_line import Call, caller
from tests.pool import Pool
from worker.process import WorkerProcess


@pytest.fixture
def seedbed(
    pool: Pool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Call:
    for name in VARIABLES.values():
        monkeypatch.delenv(name, raising=False)
    for name, value in pool.settings.to_environ().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return caller(capsys)


@pytest.fixture(scope="module")
def study(pool: Pool) -> Sweep:
    """Eight images, rendered in batches of four."""
    sweep = pool.sweep(
        name="study", prompt=["a red circle", "a star"], guidance_scale=4, seed="0..3"
    )
    pool.client.submit(sweep)
    worker = WorkerProcess(
        pool.settings, WorkerOptions(models=(pool.model,), batch_size=4, device="cpu")
    )
    try:
        worker.serve(model_key(pool.model, None, None))
    finally:
        worker.close()
    assert pool.client.status(sweep.id).state == "done"
    return sweep


def redraw(pool: Pool, key: str, levels: int) -> bytes:
    """The stored image, one of its pixels so many levels off; returns what it was."""
    body = pool.storage.get(key)
    with Image.open(io.BytesIO(body)) as picture:
        changed = picture.convert("RGB")
    red, green, blue = changed.getpixel((5, 5))  # type: ignore[misc]
    changed.putpixel((5, 5), (red + levels if red < 128 else red - levels, green, blue))
    record = read_metadata(body)
    again = encode_png(
        changed,
        job=record["job"],  # type: ignore[arg-type]
        digest=str(record["digest"]),
        pin=record["pin"],  # type: ignore[arg-type]
    )
    pool.storage.put(key, again, content_type="image/png")
    return body


def test_images_made_in_company_are_those_made_alone_and_what_was_changed_is_found(
    pool: Pool, study: Sweep, seedbed: Call
) -> None:
    # given: one is redrawn, one is lost and one is another's
    results = pool.client.results(study.id)
    keys = [str(results.key_of(index)) for index in range(8)]
    redrawn = redraw(pool, keys[2], levels=40)
    pool.storage.put(keys[6], pool.storage.get(keys[7]), content_type="image/png")
    pool.storage.delete(keys[4])

    answer = seedbed("verify", study.id, "--sample", "99", "--device", "cpu", "--json")

    values = json.loads(answer.out)

    assert (answer.code, values["passed"], values["done"]) == (1, False, 8)
    assert [image["index"] for image in values["images"]] == list(range(8))
    failed = {image["index"]: image for image in values["images"] if not image["passed"]}
    assert set(failed) == {2, 4, 6}
    assert 39 <= failed[2]["levels"] <= 41
    assert 50 < failed[2]["psnr"] < 60
    assert failed[4]["fault"] == "is not in storage"
    assert "another job's image" in failed[6]["fault"]
    assert max(i["levels"] for i in values["images"] if i["passed"]) <= 1
    pool.storage.put(keys[2], redrawn, content_type="image/png")


def test_a_reproducible_sweep_may_not_be_off_at_all(pool: Pool, seedbed: Call) -> None:
    sweep = pool.sweep(
        name="exact", prompt="a star", guidance_scale=4, seed="0..3", reproducible=True
    )
    pool.client.submit(sweep)
    with pool.hand_worker(batch_size=3) as worker:
        worker.serve(pool.key)
    command = ("verify", sweep.id, "--device", "cpu")

    # given: one colour of one pixel is off by one level
    redraw(pool, str(pool.client.results(sweep.id).key_of(1)), levels=1)
    strict = seedbed(*command, "--sample", "4", "--json")
    lax = seedbed(*command, "--sample", "3", "--seed", "5", "--max-levels", "1")

    assert strict.code == 1
    levels = {image["index"]: image["levels"] for image in json.loads(strict.out)["images"]}
    assert levels == {0: 0, 1: 1, 2: 0, 3: 0}, "the others are equal to the bit"
    assert lax.code == 0, lax.err
    assert lax.out.splitlines()[-1].startswith("3 of 4 images: ")
    assert len(lax.out.splitlines()) == 5


def test_other_weights_are_refused_in_one_sentence(pool: Pool, study: Sweep, seedbed: Call) -> None:
    from tests.random_model import save_random_model

    shutil.move(pool.model, f"{pool.model}-aside")
    try:
        folder = save_random_model(Path(pool.model))
        vae = folder / "vae" / "config.json"
        settings = json.loads(vae.read_text())
        vae.write_text(json.dumps(settings | {"scaling_factor": 0.2}))
        answer = seedbed("verify", study.id, "--device", "cpu")
    finally:
        shutil.rmtree(pool.model)
        shutil.move(f"{pool.model}-aside", pool.model)

    assert (answer.code, answer.is_one_sentence) == (2, True), answer.err
    assert "verify them where the same weights are" in answer.err
