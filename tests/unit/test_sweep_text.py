"""The sweep file that an image gives makes the same image, and reads back byte for byte."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from producer.show import Origin, read_origin
from producer.sweep_file import load_sweep, read_values
from producer.sweep_text import quoted, sweep_text
from shared.addressing import address
from shared.digest import acting
from shared.errors import InvalidInput
from shared.fields import FIELDS
from shared.job import Job
from shared.manifest import Output
from tests.results import PIN, make_image, make_results
from tests.unit.test_show import JOBS, TEXTS

AWKWARD = [
    "C# code # poster",
    "{json: 1}",
    "$5",
    "(a:1.2)",
    "0..31",
    "null",
    "~",
    "- a: b",
    " both ends ",
    "tab\there",
    "line\nbreak\r\nwindows\x85nel\u2028separator",
    "星" * 60,
    "👩‍🚀 \U0001f600",
    "\ufeffbom",
    "\x00"[:0],
    "\\N \\u0041 \\",
    "'it''s'",
    "\ue000\U0010ffff\ufffe",
]


def origin_of(job: Job, **pin: object) -> Origin:
    return Origin(
        digest="0" * 64, job=asdict(job), pin={**asdict(PIN), **pin}, arguments=(), unknown=()
    )


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sweeps") / "sweep.yaml"


def read_back(text: str, file: Path) -> Job:
    file.write_bytes(text.encode())
    sweep = load_sweep(file)
    assert (sweep.layout.total, sweep.notes) == (1, ())
    return sweep.layout.job(0)


@settings(max_examples=150, deadline=None)
@given(job=JOBS, name=TEXTS)
def test_the_file_makes_the_same_job(file: Path, job: Job, name: str) -> None:
    assert read_back(sweep_text(origin_of(job), name=name), file) == job


@settings(max_examples=150, deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from(AWKWARD))
def test_every_text_is_read_back_byte_for_byte(file: Path, text: str) -> None:
    file.write_bytes(f"prompt: {quoted(text)}\n".encode())
    assert read_values(file) == {"prompt": text}


def test_a_stored_image_and_its_file_have_one_digest(tmp_path: Path) -> None:
    results = make_results(
        prompt=AWKWARD, seed=[3, 2**63 - 1], guidance_scale=[1, 7.5], negative_prompt=["", "rain"]
    )
    path = tmp_path / "image.png"
    for index in range(0, results.total, 5):
        path.write_bytes(make_image(results, index))
        origin = read_origin(path)
        job = read_back(sweep_text(origin, name=path.name), tmp_path / "sweep.yaml")
        assert address(job, PIN, Output()).digest == origin.digest == results.digest_of(index)
        assert job == acting(results.job_of(index), PIN)


def test_weights_from_the_hub_are_named_by_their_commit(file: Path) -> None:
    commit = "0123456789" * 4
    job = Job(model="some/checkpoint", revision="main", prompt="a")
    text = sweep_text(origin_of(job, weights=f"hub:{commit}"), name="a.png")
    assert read_back(text, file) == replace(job, revision=commit)


def test_fields_at_their_default_are_there_to_be_taken_up(file: Path) -> None:
    text = sweep_text(origin_of(Job(model="demo", prompt="a")), name="a.png")
    written = {line.removeprefix("# ").split(":")[0] for line in text.splitlines()}
    assert written >= set(FIELDS)
    commented = [line for line in text.splitlines() if line.startswith("# eta: ")]
    assert read_back(text + commented[0].removeprefix("# ") + "\n", file).eta == 0.0


def test_an_image_of_a_later_version_is_refused() -> None:
    origin = replace(origin_of(Job(model="demo", prompt="a")), unknown=("strength",))
    with pytest.raises(InvalidInput, match=r"^a\.png was made by a later .*strength.*: upgrade"):
        sweep_text(origin, name="a.png")
