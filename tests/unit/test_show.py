"""The command an image gives makes the same image, whatever its prompt holds."""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from producer.cli.output import one_line
from producer.cli.sweep_options import make_sweep, sweep_options
from producer.show import read_origin, run_arguments, shell_line
from shared.addressing import address
from shared.digest import acting
from shared.errors import InvalidInput
from shared.image_metadata import encode_png
from shared.job import Job
from shared.manifest import Output
from tests.results import PIN, make_image, make_results

TEXTS = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=60
) | st.sampled_from(
    [
        "-p",
        "--seed=3",
        "",
        " ",
        'it\'s "two"\nlines',
        "$HOME `id` !x",
        "a\\n",
        "\x1b[31mred",
        "月\u3000‮",
    ]
)
JOBS = st.builds(
    Job,
    model=st.sampled_from(["demo", "runwayml/stable-diffusion-v1-5", "/srv/my models/demo"]),
    revision=st.sampled_from([None, "main"]),
    variant=st.sampled_from([None, "fp16"]),
    prompt=TEXTS,
    negative_prompt=st.none() | TEXTS,
    seed=st.integers(0, 2**63 - 1),
    num_inference_steps=st.integers(1, 1000),
    guidance_scale=st.floats(0, 1000),
    guidance_rescale=st.floats(0, 1),
    height=st.sampled_from([None, 8, 512]),
    width=st.sampled_from([None, 64, 8192]),
    scheduler=st.sampled_from([None, "DDIMScheduler", "EulerDiscreteScheduler"]),
    eta=st.floats(0, 1),
    generator_device=st.sampled_from(["cpu", "cuda"]),
)


def parsed(arguments: list[str]) -> Job:
    """The job that the real command line makes of ``seedbed run`` and its arguments."""
    jobs: list[Job] = []

    @click.command()
    @sweep_options
    def run(values: Mapping[str, object]) -> None:
        layout = make_sweep(dict(values)).layout
        assert layout.total == 1
        jobs.append(layout.job(0))

    assert arguments[:2] == ["seedbed", "run"]
    result = CliRunner().invoke(run, arguments[2:], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return jobs[0]


def shell_split(line: str) -> list[str]:
    """The words that bash makes of a line."""
    script = f"printf '%s\\0' {line}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, check=True)
    return done.stdout.decode().split("\0")[:-1]


@settings(max_examples=200, deadline=None)
@given(job=JOBS)
def test_the_command_makes_the_same_job(job: Job) -> None:
    assert parsed(list(run_arguments(asdict(job)))) == job


@settings(max_examples=60, deadline=None)
@given(texts=st.lists(TEXTS, min_size=1, max_size=8))
def test_a_shell_reads_back_every_argument(texts: list[str]) -> None:
    line = shell_line(texts)
    assert shell_split(line) == texts
    assert one_line(line.replace("\n", " ")) == line.replace("\n", " ")


@given(prompt=st.text(st.characters(categories=["L", "N", "P", "S", "Zs"]), max_size=40))
def test_plain_prompts_need_nothing_but_posix_quotes(prompt: str) -> None:
    assert shlex.split(shell_line(["-p", prompt + "\nmore"])) == ["-p", prompt + "\nmore"]


def test_only_what_is_not_a_default_is_said() -> None:
    job = Job(model="demo", prompt="a red circle", seed=3, guidance_scale=4.0)
    assert shell_line(run_arguments(asdict(job))) == (
        "seedbed run --model demo -p 'a red circle' --seed 3 --guidance-scale 4.0"
    )


def test_weights_from_the_hub_are_named_by_their_commit() -> None:
    job = asdict(Job(model="some/checkpoint", revision="main", prompt="a"))
    commit = "0123456789" * 4
    assert f"--revision {commit}" in shell_line(run_arguments(job, weights=f"hub:{commit}"))
    assert "--revision main" in shell_line(run_arguments(job, weights="sha256:0123"))


def test_an_image_tells_its_job_digest_and_command(tmp_path: Path) -> None:
    results = make_results(prompt=["-dash", "two\nlines"], seed="0..3", guidance_scale=[1, 7.5])
    for index in range(results.total):
        path = tmp_path / f"{index}.png"
        path.write_bytes(make_image(results, index))
        origin = read_origin(path)
        assert origin.digest == results.digest_of(index)
        assert origin.job == asdict(acting(results.job_of(index), PIN))
        assert origin.pin["weights"] == PIN.weights
        again = parsed(shell_split(origin.command))
        assert address(again, PIN, Output()).digest == origin.digest


def make_file(folder: Path, **fields: object) -> Path:
    job = {**asdict(Job(model="demo", prompt="a")), **fields}
    path = folder / "image.png"
    path.write_bytes(encode_png(Image.new("RGB", (8, 8)), job=job, digest="0" * 64, pin={}))
    return path


def test_fields_of_a_later_version_are_named_and_left_out(tmp_path: Path) -> None:
    origin = read_origin(make_file(tmp_path, beauty=0.5))
    assert origin.unknown == ("beauty",)
    assert "beauty" not in origin.command


def test_a_record_without_a_prompt_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    job = {"model": "demo"}
    path.write_bytes(encode_png(Image.new("RGB", (8, 8)), job=job, digest="0" * 64, pin={}))
    with pytest.raises(InvalidInput, match=r"image\.png' has a job without prompt"):
        read_origin(path)


@pytest.mark.parametrize("fields", [{"seed": -1}, {"prompt": ["a"]}, {"height": 9}])
def test_a_job_that_cannot_be_right_is_refused(tmp_path: Path, fields: dict[str, object]) -> None:
    with pytest.raises(InvalidInput, match=next(iter(fields))):
        read_origin(make_file(tmp_path, **json.loads(json.dumps(fields))))
