"""Files, templates and rows on the command line: what they come to, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from producer import Client
from shared.chunks import INLINE_VALUES
from tests.command_line import Call

ODD = ["C# code # poster", "{json: 1}", "$5", "(a:1.2)", "0..3", "a, b"]


def submitted(
    seedbed: Call, client: Client, *arguments: str
) -> tuple[list[dict[str, object]], str]:
    """What varies in each job of the sweep that a submit queued, and what was told."""
    answer = seedbed("submit", *arguments)
    assert answer.code == 0, answer.err
    results = client.layout(answer.out.strip())
    jobs = []
    for index in range(results.total):
        job = results.job(index)
        jobs.append({name: getattr(job, name) for name in results.manifest.fields_by_axis})
    return jobs, answer.err


def test_prompts_come_from_options_files_and_templates_in_their_order(
    seedbed: Call, client: Client
) -> None:
    Path("p.txt").write_text("\n".join(ODD) + "\n")
    Path("p.csv").write_text("id,text\n1,from csv\n")
    jobs, _ = submitted(
        seedbed,
        client,
        *("--model", "demo", "--template", "a {green|white} star", "--prompt-file", "p.txt"),
        *("-p", "{literal}", "--seed", "1,2"),
    )
    stars = ["a green star", "a white star"]
    assert [job["prompt"] for job in jobs[::2]] == [*stars, *ODD, "{literal}"]
    jobs, _ = submitted(
        seedbed,
        client,
        *("--model", "demo", "--prompt-file", "p.csv", "--prompt-column", "text", "-p", "x"),
    )
    assert [job["prompt"] for job in jobs] == ["from csv", "x"]


def test_wildcards_come_from_the_folder_that_is_named(seedbed: Call, client: Client) -> None:
    Path("words").mkdir()
    Path("words/color.txt").write_text("red\nblue\n")
    given = ("--model", "demo", "--template", "a __color__ hat", "--wildcards", "words")
    jobs, _ = submitted(seedbed, client, *given)
    assert [job["prompt"] for job in jobs] == ["a red hat", "a blue hat"]


def test_options_that_are_zipped_vary_together(seedbed: Call, client: Client) -> None:
    jobs, _ = submitted(
        seedbed,
        client,
        *("--model", "demo", "-p", "x", "--scheduler", "DDIMScheduler,null", "--seed", "0..1"),
        *("--num-inference-steps", "50,20", "--zip", "scheduler,num-inference-steps"),
    )
    assert [tuple(job.values()) for job in jobs] == [
        ("DDIMScheduler", 50, 0),
        ("DDIMScheduler", 50, 1),
        (None, 20, 0),
        (None, 20, 1),
    ]


def test_rows_multiply_with_options_and_repetitions_are_told(seedbed: Call, client: Client) -> None:
    Path("jobs.csv").write_text("prompt,height\na,64\nb,128\na,64\n")
    jobs, told = submitted(
        seedbed, client, "--model", "demo", "--rows", "jobs.csv", "--seed", "1,2"
    )
    assert len(jobs) == 4
    assert "note: jobs.csv: 1 repeated row dropped, 2 kept" in told


def test_paths_in_a_sweep_file_start_from_its_folder(seedbed: Call, client: Client) -> None:
    Path("study").mkdir()
    Path("study/jobs.jsonl").write_text('{"prompt": "a"}\n{"prompt": "b"}\n')
    Path("study/s.toml").write_text('model = "demo"\nrows = "jobs.jsonl"\n')
    jobs, _ = submitted(seedbed, client, "study/s.toml")
    assert [job["prompt"] for job in jobs] == ["a", "b"]


def test_a_sweep_of_long_rows_is_small_in_redis_and_plans_without_writing(
    seedbed: Call, client: Client
) -> None:
    lines = "".join(f"star number {number}\n" for number in range(INLINE_VALUES + 1))
    Path("p.txt").write_text(lines)
    given = ("--model", "demo", "--prompt-file", "p.txt", "--json")
    plan = json.loads(seedbed("plan", *given).out)
    assert (plan["jobs"], plan["blocks"]) == (INLINE_VALUES + 1, 1)
    assert plan["last"][-1]["prompt"] == f"star number {INLINE_VALUES}"
    assert list(client.storage.list()) == []

    answer = seedbed("submit", *given)

    sweep_id = json.loads(answer.out)["sweep_id"]
    assert sweep_id == plan["sweep_id"]
    assert len(client.queue.manifest(sweep_id)) < 2_000
    assert len(list(client.storage.list("inputs/"))) == 5
    assert client.layout(sweep_id).job(INLINE_VALUES).prompt == f"star number {INLINE_VALUES}"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--rows", "no.csv"), "no.csv does not exist: check its path"),
        (("--rows", "bad.csv"), "bad.csv has 2 faults: row 1, column seed: seed 'x' is not a"),
        (("--rows", "latin.csv"), "latin.csv, line 2, is not UTF-8"),
        (("--rows", "empty.csv"), "empty.csv is empty"),
        (("--rows", "bad.csv", "--seed", "1"), "seed is given twice"),
        (("-p", "x", "--template", "a {b|c"), "unclosed brace at character 3"),
        (("-p", "x", "--template", "{1|2|3|4|5|6|7|8|9|0}" * 10), "makes 10,000,000,000 prompts"),
        (("--template", "__../p__", "--wildcards", "."), "is outside the folder"),
        (("-p", "x", "--wildcards", "none"), "wildcards 'none' is not a folder"),
        (("-p", "x", "--prompt-file", "no.txt"), "no.txt does not exist"),
        (("-p", "x", "--seed", "1,2", "--eta", "1", "--zip", "seed,eta"), "seed 2, eta 1"),
        (("-p", "x", "--seed", "1,2", "--zip", "seed,eta"), "eta: --zip names it, but it has no"),
        (("-p", "x", "--seed", "1,2", "--zip", "seed,seed"), "seed: --zip names it twice"),
    ],
)
def test_a_bad_source_gets_one_sentence_and_writes_nothing(
    seedbed: Call, client: Client, arguments: tuple[str, ...], words: str
) -> None:
    Path("bad.csv").write_text("prompt,seed\na,x\nb\n")
    Path("latin.csv").write_bytes(b"prompt\nb\xe4r\n")
    Path("empty.csv").write_text("")
    answer = seedbed("submit", "--model", "demo", *arguments)
    assert answer.code == 2
    assert answer.is_one_sentence, answer.err
    assert words in answer.err
    assert client.queue.client.dbsize() == 0
    assert list(client.storage.list()) == []
