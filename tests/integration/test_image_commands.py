"""``grid``, ``fetch`` and ``show`` on a real pool, and when Redis has lost the sweep."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from producer import Client, Sweep
from producer.show import read_origin
from tests.command_line import Call
from tests.factories import make_sweep
from tests.producer_pool import HandWorker

ROOT = Path(__file__).resolve().parents[2]


NAMES = [
    f"{index:06}_prompt={prompt}_seed={seed}.png"
    for index, (prompt, seed) in enumerate(
        (prompt, seed) for prompt in ("a-cat", "a-dog") for seed in range(3)
    )
]


def files(folder: str) -> list[str]:
    return sorted(path.name for path in Path(folder).iterdir())


def test_fetch_brings_every_image_that_is_done(seedbed: Call, study: Sweep) -> None:
    answer = seedbed("fetch", "study")
    assert (answer.code, answer.err) == (0, "")
    assert answer.out.startswith("study  6 images, ")
    assert files("study") == NAMES


def test_fetch_again_keeps_what_is_there(seedbed: Call, study: Sweep) -> None:
    seedbed("fetch", "study", "--out", "here")
    assert seedbed("fetch", study.id, "--out", "here").out == (
        "here  0 images, 0 bytes, 6 more were there\n"
    )


def test_fetch_takes_a_name_template_and_prints_json(seedbed: Call, study: Sweep) -> None:
    answer = seedbed("fetch", "study", "--name", "{prompt}/{seed:02}", "--json")
    found = json.loads(answer.out)
    assert (found["folder"], found["written"], found["problems"]) == ("study", 6, [])
    assert files("study/a-dog") == ["00.png", "01.png", "02.png"]


def test_fetch_of_a_sweep_under_way_brings_what_is_done(seedbed: Call, client: Client) -> None:
    sweep = make_sweep(name="study", prompt=["a cat", "a dog"], seed="0..2")
    client.submit(sweep)
    HandWorker(client).work(sweep, 2)
    assert seedbed("fetch", "study").code == 0
    assert files("study") == NAMES[:2]


def test_fetch_exits_1_where_an_image_is_gone(seedbed: Call, client: Client, study: Sweep) -> None:
    client.storage.delete(str(client.results("study").key_of(4)))
    answer = seedbed("fetch", "study")
    assert answer.code == 1
    assert answer.err == (
        f"image #4 prompt='a dog', seed=1 is not in storage ({client.results('study').key_of(4)})\n"
        "'seedbed repair study' has them rendered again\n"
    )
    assert files("study") == [*NAMES[:4], NAMES[5]]


def test_fetch_of_damaged_images_names_their_objects(
    seedbed: Call, client: Client, study: Sweep
) -> None:
    key = str(client.results("study").key_of(0))
    client.storage.put(key, b"no image", content_type="image/png")
    answer = seedbed("fetch", "study")
    assert answer.code == 1
    assert answer.err.startswith(
        f"image #0 prompt='a cat', seed=0 is not a PNG ({key})\n'seedbed repair study' has"
    )


def test_grid_draws_a_sheet_of_what_is_done(seedbed: Call, study: Sweep) -> None:
    answer = seedbed("grid", "study")
    assert (answer.code, answer.err) == (0, "")
    assert answer.out == "study/contact-sheet.png  6 of 6 places filled\n"
    with Image.open("study/contact-sheet.png") as picture:
        assert picture.size > (3 * 64, 2 * 64)


def test_grid_makes_pages_of_the_other_fields(seedbed: Call, study: Sweep) -> None:
    answer = seedbed("grid", "study", "--x", "seed", "--y", "prompt", "--json")
    found = json.loads(answer.out)
    assert (found["rows"], found["columns"]) == (["prompt"], ["seed"])
    answer = seedbed("grid", "study", "--x", "seed", "--x", "prompt", "--out", "a/b.png", "--json")
    assert json.loads(answer.out)["columns"] == ["seed", "prompt"]
    assert files("a") == ["b.png"]


def test_grid_marks_what_failed_and_what_is_not_done(seedbed: Call, client: Client) -> None:
    sweep = make_sweep(name="study", prompt=["a cat", "a dog"], seed="0..2")
    client.submit(sweep)
    worker = HandWorker(client)
    worker.work(sweep, 2)
    worker.fail(1, "bad luck")
    answer = seedbed("grid", "study", "--json")
    (page,) = json.loads(answer.out)["pages"]
    assert (page["images"], page["places"], page["facets"]) == (2, 6, {})


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("grid", "study", "--x", "sed"), "did you mean 'seed'?"),
        (("grid", "study", "--y", "eta"), "--y eta has only one value in this sweep"),
        (("grid", "study", "--cell", "1"), "--cell '1' is not a whole number from 48"),
        (("grid", "study", "--font", "nothing.ttf"), "--font 'nothing.ttf' is not a font"),
        (("grid", "study", "--out", "/proc/x/y.png"), "cannot write to '/proc/x/y.png'"),
        (("fetch", "study", "--name", "{sed}"), "file name '{sed}' has '{sed}': did you mean"),
        (("fetch", "study", "--name", "{seed}"), "jobs 0 and 3 the same name '0.png'"),
        (("fetch", "study", "--name", "../{index}"), "climbs out of its folder"),
        (("fetch", "study", "--out", "/proc/x"), "cannot write to '/proc/x'"),
        (("fetch", "nobody"), "sweep 'nobody' is not in this pool"),
        (("grid", "../study"), "sweep '../study' is not in this pool"),
        (("show", "nothing.png"), "cannot read 'nothing.png'"),
    ],
)
def test_a_mistake_gets_one_sentence_and_leaves_nothing(
    seedbed: Call, study: Sweep, arguments: tuple[str, ...], words: str
) -> None:
    answer = seedbed(*arguments)
    assert answer.code == 2
    assert answer.is_one_sentence
    assert words in answer.err
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize("reference", ["study", "study-", ""])
def test_images_are_read_when_redis_has_lost_the_sweep(
    seedbed: Call, client: Client, study: Sweep, reference: str
) -> None:
    client.queue.client.flushall()
    answer = seedbed("fetch", reference or study.id)
    assert answer.code == 0, answer.err
    assert files("study") == NAMES
    assert json.loads(seedbed("grid", study.id, "--json").out)["pages"][0]["images"] == 6


def test_show_tells_the_job_and_the_command(seedbed: Call, study: Sweep) -> None:
    seedbed("fetch", "study")
    answer = seedbed("show", f"study/{NAMES[4]}")
    lines = answer.out.splitlines()
    assert lines[0].split() == ["model", "demo"]
    assert lines[1].split(maxsplit=1) == ["prompt", "a dog"]
    assert lines[-2:] == ["make it again:", "seedbed run --model demo -p 'a dog' --seed 1"]


def test_show_reads_standard_input_and_prints_json(seedbed: Call, study: Sweep) -> None:
    seedbed("fetch", "study")
    path = Path("study", NAMES[4])
    done = subprocess.run(
        [sys.executable, "-m", "producer.cli.main", "show", "-", "--json"],
        input=path.read_bytes(),
        capture_output=True,
        cwd=ROOT,
        check=True,
    )
    found = json.loads(done.stdout)
    origin = read_origin(path)
    assert found["digest"] == origin.digest
    assert found["job"] == dict(origin.job)
    assert found["arguments"] == ["seedbed", "run", "--model", "demo", "-p", "a dog", "--seed", "1"]
