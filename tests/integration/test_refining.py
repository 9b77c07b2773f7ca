"""The tutorial's loop on a real pool: render, keep an image, go on from it."""

from __future__ import annotations

from pathlib import Path

from producer import Client, Sweep, load_sweep
from shared.addressing import address
from shared.manifest import Output
from tests.command_line import Call
from tests.producer_pool import HandWorker


def test_submit_like_an_image_keeps_its_job_but_for_what_is_said(
    seedbed: Call, client: Client, study: Sweep
) -> None:
    seedbed("fetch", "study")
    liked = "study/000004_prompt=a-dog_seed=1.png"

    answer = seedbed("submit", "--like", liked, "-p", "a wet dog", "--eta", "0,1", "--name", "wet")

    layout = client.layout(answer.out.strip())
    assert [layout.job(index).eta for index in range(layout.total)] == [0, 1]
    assert {layout.job(index).prompt for index in range(2)} == {"a wet dog"}
    assert {layout.job(index).seed for index in range(2)} == {1}


def test_the_sweep_file_of_an_image_finds_it_stored(
    seedbed: Call, client: Client, study: Sweep
) -> None:
    seedbed("fetch", "study")
    answer = seedbed("show", "study/000004_prompt=a-dog_seed=1.png", "--sweep")
    assert (answer.code, answer.err) == (0, "")
    Path("again.yaml").write_text(answer.out, encoding="utf-8")

    worker = HandWorker(client)
    worker.announce()
    answer = seedbed("plan", "again.yaml", "--check-storage")
    assert "1 image exists already, 0 to render" in answer.out
    job = load_sweep("again.yaml").layout.job(0)
    assert address(job, worker.pin, Output()).digest == client.results("study").digest_of(4)


def test_show_does_not_print_a_sweep_as_json(seedbed: Call, study: Sweep) -> None:
    seedbed("fetch", "study")
    answer = seedbed("show", "study/000000_prompt=a-cat_seed=0.png", "--sweep", "--json")
    assert (answer.code, answer.out) == (2, "")
    assert "leave out --json" in answer.err
