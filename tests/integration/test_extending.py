"""A sweep that grows renders only what is new, and a plan says beforehand how much that is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from producer import Client
from producer.cli.main import main
from producer.plan_storage import check_storage
from shared.fields import FIELDS
from shared.lanes import model_key
from shared.worker_options import WorkerOptions
from tests.pool import Pool
from worker.process import WorkerProcess

FIELDS_OF_ALL = {"num_inference_steps": 2, "guidance_scale": 4}


@pytest.fixture(scope="module")
def worker(pool: Pool) -> Iterator[WorkerProcess]:
    """A loaded worker that serves when it is told to."""
    options = WorkerOptions(models=(pool.model,), batch_size=4, device="cpu")
    process = WorkerProcess(pool.settings, options)
    yield process
    process.close()


@pytest.fixture
def client(pool: Pool) -> Iterator[Client]:
    """Of a pool whose Redis knows of nothing."""
    with pool.redis.client() as redis:
        redis.flushall()
    with Client(pool.settings) as client:
        yield client


def serve(worker: WorkerProcess, pool: Pool) -> int:
    return worker.serve(model_key(pool.model, None, None))


def announce(client: Client, worker: WorkerProcess) -> None:
    client.queue.announce(worker.name, worker.describe(), ttl_seconds=60)


def test_more_seeds_and_another_prompt_render_only_what_is_new(
    pool: Pool, client: Client, worker: WorkerProcess
) -> None:
    first = pool.sweep(name="growing", prompt=["a fox"], seed="0..5", **FIELDS_OF_ALL)
    client.submit(first)
    assert serve(worker, pool) == 6

    # when: the sweep is extended along one axis, then along another
    seeds = pool.sweep(name="growing", prompt=["a fox"], seed="0..9", **FIELDS_OF_ALL)
    checked = check_storage(client, seeds)
    client.submit(seeds)

    # then: what the plan said is what happens
    assert (checked.stored, checked.missing, checked.unknown, checked.exact) == (6, 4, 0, True)
    assert serve(worker, pool) == 4
    assert client.status(seeds.id).reused == 6

    prompts = pool.sweep(name="growing", prompt=["a fox", "a hen"], seed="0..9", **FIELDS_OF_ALL)
    checked = check_storage(client, prompts)
    client.submit(prompts)
    assert (checked.stored, checked.missing) == (10, 10)
    assert serve(worker, pool) == 10
    assert client.status(prompts.id).state == "done"
    assert check_storage(client, prompts).missing == 0


def test_nobody_knows_the_weights_until_a_worker_or_a_sweep_does(
    pool: Pool, client: Client, worker: WorkerProcess
) -> None:
    named = {"name": "known", "prompt": "a newt", **FIELDS_OF_ALL}
    before = pool.sweep(seed="0..3", **named)
    pool_storage = client.storage
    for item in list(pool_storage.list("sweeps/")):
        pool_storage.delete(item.key)

    # given: no worker, no earlier sweep
    checked = check_storage(client, before)
    assert (checked.stored, checked.missing, checked.unknown) == (0, 0, 4)
    assert [(item.model, item.weights) for item in checked.weights] == [(pool.model, None)]

    # when: a worker announces itself
    announce(client, worker)
    checked = check_storage(client, before)
    assert (checked.missing, checked.unknown) == (4, 0)
    assert checked.weights[0].source == "a worker"

    client.submit(before)
    assert serve(worker, pool) == 4
    assert check_storage(client, before).weights[0].source == "this sweep"

    # and: the workers have gone, and Redis has lost all but another sweep, and then that as well
    with pool.redis.client() as redis:
        redis.flushall()
    other = pool.sweep(name="other", prompt="a newt", seed="0..1", **FIELDS_OF_ALL)
    client.submit(other)
    serve(worker, pool)
    longer = pool.sweep(seed="0..7", **named)
    checked = check_storage(client, longer)
    assert (checked.stored, checked.missing) == (4, 4)
    assert checked.weights[0].source == f"sweep {other.id}"

    client.delete(other.id)
    checked = check_storage(client, longer)
    assert (checked.stored, checked.missing) == (4, 4)
    assert checked.weights[0].source == "an earlier sweep"


def test_jobs_that_come_to_one_image_count_each(
    pool: Pool, client: Client, worker: WorkerProcess
) -> None:
    fields = {"name": "twins", "prompt": "a hat", "seed": [0, 1], "num_inference_steps": 2}
    client.submit(pool.sweep(guidance_scale=1, **fields))
    serve(worker, pool)
    twins = pool.sweep(guidance_scale=[1, 3], negative_prompt=[None, "rain"], **fields)
    checked = check_storage(client, twins)
    assert (checked.stored, checked.missing) == (4, 4)


def test_a_sweep_too_large_to_look_up_is_sampled(
    pool: Pool, client: Client, worker: WorkerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = {"name": "large", "prompt": "a hill", **FIELDS_OF_ALL}
    client.submit(pool.sweep(seed="0..19", **fields))
    serve(worker, pool)
    monkeypatch.setattr("producer.plan_storage.SAMPLE", 38)
    checked = check_storage(client, pool.sweep(seed="0..39", **fields), limit=39)
    assert not checked.exact
    assert checked.stored + checked.missing == 40
    assert 18 <= checked.stored <= 22


@pytest.fixture
def environ(pool: Pool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in pool.settings.to_environ().items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)


def seedbed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    printed = capsys.readouterr()
    assert ended.value.code == 0, printed.err
    return printed.out


def test_the_command_says_what_exists_and_whose_weights_it_went_by(
    pool: Pool,
    client: Client,
    worker: WorkerProcess,
    environ: None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    announce(client, worker)
    client.submit(pool.sweep(name="said", prompt="a lamp", seed="0..2", **FIELDS_OF_ALL))
    serve(worker, pool)
    sweep = ["--name", "said", "--model", pool.model, "-p", "a lamp", "--guidance-scale", "4"]
    sweep += ["--num-inference-steps", "2", "--scheduler", "DDIMScheduler"]

    text = seedbed(capsys, "plan", *sweep, "--seed", "0..4", "--check-storage")
    assert "storage    3 images exist already, 2 to render\n" in text
    assert f"weights of {pool.model}: sha256:" in text

    text = seedbed(capsys, "plan", *sweep, "--seed", "0..4", "--check-storage", "--no-reuse")
    assert "reuse is off" in text

    found = json.loads(seedbed(capsys, "plan", *sweep, "--check-storage", "--json"))
    assert found["storage"]["stored"] == 1
    assert "storage" not in json.loads(seedbed(capsys, "plan", *sweep, "--json"))

    arguments = ["plan", "--model", "a/b", "-p", "a", "--check-storage"]
    text = seedbed(capsys, *arguments)
    assert "weights of a/b are not known" in text
    assert "no telling for 1 job of" in text


def test_without_a_pool_storage_cannot_be_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("SEEDBED_REDIS_URL", raising=False)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["plan", "--model", "demo", "-p", "a", "--check-storage"])
    assert ended.value.code == 2
    assert "no pool" in capsys.readouterr().err


def test_a_worker_announces_all_that_seedbed_models_lists(
    pool: Pool, client: Client, worker: WorkerProcess
) -> None:
    announce(client, worker)
    (found,) = client.models()
    assert (found.model, found.workers, found.loaded, found.batch_sizes) == (pool.model, 1, 1, (4,))
    assert str(found.weights).startswith("sha256:")
    assert (found.height, found.width) == (64, 64)
    assert {"DDIMScheduler", "EulerDiscreteScheduler"} <= set(found.schedulers)
    assert found.scheduler in found.schedulers
    assert found.fields == tuple(name for name in FIELDS if name in found.fields)
    assert {"prompt", "negative_prompt", "seed", "eta", "guidance_scale"} <= set(found.fields)
