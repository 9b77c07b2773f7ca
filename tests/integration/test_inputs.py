"""Input files from a sweep to the images they start, on a real Redis and S3, with a real worker."""

from __future__ import annotations

import io
import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("diffusers", reason="needs the worker's dependencies")

import torch
from PIL import Image

from producer import Client, Sweep, load_sweep
from producer.cli.main import main
from producer.show import read_origin
from shared.errors import InvalidSettings, InvalidSweep, StorageError, UnsupportedJob
from shared.input_files import input_key
from shared.settings import Settings
from shared.storage import Storage
from tests.command_line import Call
from tests.factories import make_job, make_sweep
from tests.input_files import huge_png, noise_bytes, picture_bytes, write_picture
from tests.pool import Pool
from tests.redis_server import RedisServer
from worker.inputs import InputStore
from worker.process import WorkerProcess


@pytest.fixture
def storage(settings: Settings) -> Iterator[Storage]:
    storage = Storage.connect(settings)
    yield storage
    storage.close()


def put(storage: Storage, body: bytes, *, key: str | None = None) -> str:
    key = key or input_key(body)
    storage.put(key, body, content_type="image/png")
    return key


def load_one(store: InputStore, **fields: Any) -> Any:
    (loaded,) = store.load([make_job(**fields)]).values()
    return loaded


def test_a_worker_reads_an_image_as_diffusers_load_image_does(storage: Storage) -> None:
    from diffusers.utils import load_image

    store = InputStore(storage)
    bodies = [
        picture_bytes((40, 24), form="JPEG", turned=6),
        picture_bytes((40, 24), form="PNG", turned=3),
        picture_bytes((40, 24), form="WEBP"),
    ]
    see_through = io.BytesIO()
    Image.new("RGBA", (8, 8), (10, 20, 30, 40)).save(see_through, "PNG")
    for body in (*bodies, see_through.getvalue()):
        got = load_one(store, init_image=put(storage, body))
        wanted = load_image(Image.open(io.BytesIO(body)))
        assert (got.mode, got.size, got.tobytes()) == ("RGB", wanted.size, wanted.tobytes())


def test_what_was_read_is_kept_within_bounds(storage: Storage) -> None:
    colours = ("red", "green", "blue")
    keys = [put(storage, picture_bytes((64, 64), colour=colour)) for colour in colours]
    store = InputStore(storage, capacity_bytes=2 * 64 * 64 * 3)

    for key in (keys[0], keys[0], keys[1], keys[0], keys[2], keys[0], keys[1]):
        assert load_one(store, init_image=key).size == (64, 64)

    assert store.fetched == 4, "each once, and again the one that was used longest ago"
    assert store.held_bytes == 2 * 64 * 64 * 3


def test_the_inputs_of_a_claim_are_read_together(storage: Storage) -> None:
    keys = [put(storage, picture_bytes(colour=colour)) for colour in ("red", "green", "blue")]
    noise = put(storage, noise_bytes())
    jobs = [
        make_job(init_image=keys[0], mask_image=keys[1]),
        make_job(init_image=keys[0], mask_image=keys[2]),
        make_job(),
        make_job(latents=noise),
    ]
    loaded = InputStore(storage).load(jobs)
    assert set(loaded) == {*keys, noise}
    assert isinstance(loaded[noise], torch.Tensor)
    assert InputStore(storage).load([make_job()]) == {}


@pytest.mark.parametrize(
    ("field", "body", "said"),
    [
        ("init_image", b"no picture", "is not an image: give a PNG, JPEG or WebP file"),
        ("init_image", picture_bytes((64, 64))[:80], "is a damaged image"),
        ("mask_image", huge_png(60_000, 60_000), "has far more pixels than the 33,554,432 allowed"),
        ("mask_image", huge_png(8192, 8192), "has 8192 x 8192 = 67,108,864 pixels: at most"),
        ("init_image", huge_png(64, 64), "is a damaged image"),
        ("latents", b"\x80\x04]\x94.", "is a pickle, which can run code when it is loaded"),
        ("latents", noise_bytes(kind="I32"), "has numbers of type 'I32': noise is float16"),
        ("latents", picture_bytes(), "is not a safetensors file with noise"),
    ],
)
def test_what_a_stranger_put_there_is_refused(
    storage: Storage, field: str, body: bytes, said: str
) -> None:
    key = put(storage, body)
    fault = load_one(InputStore(storage), **{field: key})
    assert isinstance(fault, UnsupportedJob)
    assert str(fault).startswith(f"{field} {key} {said}")


def test_what_one_job_takes_for_an_image_is_no_noise_to_another(storage: Storage) -> None:
    image, noise = put(storage, picture_bytes()), put(storage, noise_bytes())
    store = InputStore(storage)
    assert isinstance(load_one(store, init_image=image), Image.Image)
    assert isinstance(load_one(store, latents=noise), torch.Tensor)
    assert isinstance(load_one(store, latents=image), UnsupportedJob)
    assert isinstance(load_one(store, init_image=noise), UnsupportedJob)


def test_noise_that_is_not_finite_is_refused(storage: Storage) -> None:
    from safetensors.torch import save

    key = put(storage, save({"latents": torch.tensor([1.0, float("nan")])}))
    fault = load_one(InputStore(storage), latents=key)
    assert str(fault) == (
        f"latents {key} has NaN or infinite numbers: it is no noise to start from"
    )


def test_content_that_is_not_what_the_key_says_is_refused(storage: Storage) -> None:
    key = put(storage, picture_bytes(), key="inputs/" + "0" * 64)
    fault = load_one(InputStore(storage), init_image=key)
    assert str(fault).endswith("holds something else than its name says: upload it again")


def test_nothing_is_read_from_outside_the_inputs(storage: Storage) -> None:
    put(storage, picture_bytes(), key="images/secret.png")
    store = InputStore(storage)
    for key in ("images/secret.png", "inputs/../images/secret.png", "/etc/hostname"):
        fault = load_one(store, init_image=key)
        assert str(fault).endswith("is not in the bucket's inputs/: workers read from nowhere else")
    assert store.fetched == 0


def test_an_input_that_is_gone_says_how_to_go_on(storage: Storage) -> None:
    key = "inputs/" + "1" * 64
    assert str(load_one(InputStore(storage), init_image=key)) == (
        f"init_image {key} is gone from the bucket: submit the sweep again, then 'seedbed retry' it"
    )


def test_a_storage_that_does_not_answer_is_no_fault_of_the_job(settings: Settings) -> None:
    closed = Storage.connect(settings.with_values(s3_endpoint_url="http://127.0.0.1:9"))
    with pytest.raises(StorageError):
        InputStore(closed).load([make_job(init_image="inputs/" + "1" * 64)])


def test_submit_uploads_each_input_once_and_plan_none(
    seedbed: Call, storage: Storage, tmp_path: Path
) -> None:
    a, b = write_picture(tmp_path / "a.png"), write_picture(tmp_path / "b.png", colour="blue")
    keys = {input_key(path.read_bytes()) for path in (a, b)}
    words = ["--model", "demo", "-p", "x", "--init-image", "a.png", "--init-image", "b.png"]

    planned = seedbed("plan", *words, "--init-image", "null", "--json")
    assert json.loads(planned.out)["jobs"] == 3
    assert list(storage.list()) == []

    assert seedbed("submit", *words).code == 0
    assert {found.key for found in storage.list("inputs/")} == keys
    assert seedbed("submit", *words).code == 0

    # and: by its key, from any folder
    key = input_key(a.read_bytes())
    a.unlink()
    answer = seedbed("submit", "--model", "demo", "-p", "y", "--init-image", key)
    assert answer.code == 0


def test_a_key_that_the_bucket_has_not_is_refused(seedbed: Call, storage: Storage) -> None:
    key = "inputs/" + "2" * 64
    answer = seedbed("submit", "--model", "demo", "-p", "x", "--init-image", key)
    assert answer.code == 2
    assert answer.is_one_sentence
    assert f"init_image {key} is not in this pool's bucket: give the file's path" in answer.err
    assert list(storage.list()) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--init-image", "no.png"], "no.png' does not exist: check its path"),
        (["--init-image", "text.txt"], "text.txt' is not an image: give a PNG, JPEG or WebP file"),
        (["--mask-image", "a.png"], "mask_image needs an init_image"),
        (["--strength", "0.5"], "strength needs an init_image"),
        (["--init-image", "a.png", "--mask-image", "small.png"], "a mask has the size of its init"),
        (["--latents", "text.txt"], "is not a safetensors file with noise"),
        (["--init-image", "a.png", "--strength", "2"], "strength 2.0 is not a number from 0 to 1"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_sentence_and_nothing_is_written(
    seedbed: Call, storage: Storage, tmp_path: Path, words: list[str], said: str
) -> None:
    write_picture(tmp_path / "a.png")
    write_picture(tmp_path / "small.png", (32, 32))
    (tmp_path / "text.txt").write_text("text")
    answer = seedbed("submit", "--model", "demo", "-p", "x", *words)
    assert answer.code == 2
    assert answer.is_one_sentence
    assert said in answer.err
    assert list(storage.list()) == []


def test_a_file_that_changes_before_it_is_sent_is_refused(client: Client, tmp_path: Path) -> None:
    path = write_picture(tmp_path / "a.png")
    sweep = make_sweep(init_image=str(path))
    write_picture(path, colour="blue")
    with pytest.raises(InvalidSweep, match="has changed since the sweep was read: submit it again"):
        client.submit(sweep)
    assert client.sweeps() == []


def test_inputs_need_credentials(
    services: tuple[Settings, RedisServer], tmp_path: Path, bare: Call
) -> None:
    settings = services[0].with_values(access_key=None, secret_key=None)
    sweep = make_sweep(init_image=str(write_picture(tmp_path / "a.png")))
    with (
        Client(settings) as client,
        pytest.raises(InvalidSettings, match="the sweep's input files"),
    ):
        client.submit(sweep)


@pytest.fixture
def rendering(pool: Pool) -> Iterator[WorkerProcess]:
    """A loaded worker that serves when it is told to, not by doorbells."""
    pool.forget()
    with pool.hand_worker() as process:
        yield process


def render(worker: WorkerProcess, pool: Pool, sweep: Sweep) -> None:
    pool.client.submit(sweep)
    worker.serve(pool.key)


def test_a_sweep_over_images_strengths_and_masks_becomes_images(
    pool: Pool, rendering: WorkerProcess, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    # given: images beside a sweep file, one of them twice
    for name, colour in (("a", "red"), ("b", "blue"), ("again", "red"), ("mask", "white")):
        write_picture(tmp_path / f"{name}.png", colour=colour)
    file = tmp_path / "sweep.yaml"
    file.write_text(
        f"name: starts\nmodel: {pool.model}\nprompt: a star\nnum_inference_steps: 4\n"
        "init_image: [null, a.png, b.png, again.png]\nstrength: [0.5, 0.8]\nseed: 0..1\n"
    )
    sweep = load_sweep(file)

    # when
    render(rendering, pool, sweep)

    # then: without an image, strength does not act
    assert pool.client.failures(sweep.id) == []
    status = pool.client.status(sweep.id)
    assert (status.state, status.done, status.total) == ("done", 12, 12)
    assert len(pool.renders(sweep)) == 2 + 2 * 2 * 2
    results = pool.client.results(sweep.id)
    key = input_key((tmp_path / "a.png").read_bytes())
    found = list(pool.client.search(sweep.id, f"init_image = '{key}' and strength < 0.7").hits())
    assert [hit.index for hit in found] == [4, 5]

    # and: what an image says of itself makes it again
    image = tmp_path / "image.png"
    image.write_bytes(pool.storage.get(str(results.key_of(5))))
    origin = read_origin(image)
    assert (origin.job["init_image"], origin.job["strength"]) == (key, 0.5)
    assert f"--init-image {key} --strength 0.5" in origin.command
    for name, value in pool.settings.to_environ().items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path.parent)
    words = shlex.split(origin.command)[2:]
    for command in ([*words, "--name", "again"], ["--like", str(image), "--name", "like"]):
        with pytest.raises(SystemExit) as ended:
            main(["submit", *command])
        assert ended.value.code == 0
        (again,) = capsys.readouterr().out.split()
        rendering.serve(pool.key)
        assert pool.client.status(again).reused == 1
        assert pool.client.results(again).digest_of(0) == origin.digest
    with pytest.raises(SystemExit):
        main(["show", str(image), "--sweep"])
    assert f'init_image: "{key}"' in capsys.readouterr().out

    # and: masks
    inpaint = load_sweep(file, {"name": "masks", "init_image": str(tmp_path / "a.png"),
                                "mask_image": str(tmp_path / "mask.png")})  # fmt: skip
    render(rendering, pool, inpaint)
    assert pool.client.failures(inpaint.id) == []
    assert pool.client.status(inpaint.id).done == 4


def test_a_bad_input_kills_its_own_jobs_alone(
    pool: Pool, rendering: WorkerProcess, tmp_path: Path
) -> None:
    paths = [write_picture(tmp_path / f"{colour}.png", colour=colour) for colour in ("red", "blue")]
    sweep = Sweep.define(
        name="bad", model=pool.model, prompt="a star", num_inference_steps=2,
        init_image=[str(path) for path in paths], seed="0..1",
    )  # fmt: skip
    pool.client.submit(sweep)
    key = input_key(paths[1].read_bytes())
    pool.storage.put(key, huge_png(60_000, 60_000), content_type="image/png")

    rendering.serve(pool.key)

    failures = pool.client.failures(sweep.id)
    assert sorted(failure.index for failure in failures) == [2, 3]
    for failure in failures:
        assert failure.dead
        assert failure.reason == (
            f"init_image {key} holds something else than its name says: upload it again"
        )
    assert pool.client.status(sweep.id).done == 2

    # and: with the right content there again, a retry makes them
    pool.storage.put(key, paths[1].read_bytes(), content_type="image/png")
    assert pool.client.retry(sweep.id) == 2
    rendering.serve(pool.key)
    assert pool.client.status(sweep.id).done == 4
