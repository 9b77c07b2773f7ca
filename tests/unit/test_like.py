"""``--like IMAGE`` starts from the job in an image, and whatever else is said wins over it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from PIL import Image

from producer.cli.main import main
from producer.cli.sweep_options import Values, make_sweep, sweep_options
from producer.like import named_fields, refine
from producer.sources import with_sources
from shared.addressing import address
from shared.image_metadata import encode_png
from shared.job import Job
from shared.manifest import Output
from shared.sweep import Sweep
from tests.results import PIN, make_image, make_results

Parse = Callable[..., Sweep]

LIKED = {
    "prompt": "a {red} circle, 0..3",
    "seed": [3, 4],
    "guidance_scale": 4,
    "negative_prompt": "rain",
    "num_inference_steps": 20,
    "scheduler": "EulerDiscreteScheduler",
    "height": 64,
}


@pytest.fixture
def image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The second image of a sweep, in the current folder."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "liked.png"
    path.write_bytes(make_image(make_results(**LIKED), 1))
    return path


@pytest.fixture
def parse() -> Parse:
    """What ``run`` would make of these arguments."""

    def parse(*arguments: str) -> Sweep:
        sweeps: list[Sweep] = []

        @click.command()
        @sweep_options
        def command(values: Values) -> None:
            sweeps.append(make_sweep(values))

        result = CliRunner().invoke(command, list(arguments), catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return sweeps[0]

    return parse


def test_alone_it_makes_the_same_image(image: Path, parse: Parse) -> None:
    layout = parse("--like", "liked.png").layout
    assert layout.total == 1
    digest = make_results(**LIKED).digest_of(1)
    assert address(layout.job(0), PIN, Output()).digest == digest


def test_an_option_wins_and_the_rest_stays(image: Path, parse: Parse) -> None:
    before = make_results(**LIKED).job_of(1)
    sweep = parse("--like", "liked.png", "-p", "a better prompt", "--seed", "3")
    assert asdict(sweep.layout.job(0)) == asdict(before) | {"prompt": "a better prompt", "seed": 3}


def test_axes_keep_the_order_they_are_written_in(image: Path, parse: Parse) -> None:
    sweep = parse("--guidance-scale", "1,4", "--like", "liked.png", "--seed", "0..3", "-p", "a")
    assert sweep.manifest.fields_by_axis == ("guidance_scale", "seed")


def test_a_file_wins_over_the_image_and_options_over_the_file(image: Path, parse: Parse) -> None:
    Path("sweep.yaml").write_text("prompt: [a cat, a dog]\nnum_inference_steps: 8\n")
    layout = parse("sweep.yaml", "--like", "liked.png", "--num-inference-steps", "9").layout
    assert [layout.job(index).prompt for index in range(layout.total)] == ["a cat", "a dog"]
    assert layout.job(1).num_inference_steps == 9
    assert layout.job(1).seed == 4


def test_fields_that_vary_together_win_over_the_image() -> None:
    values = refine(
        {"model": "demo", "seed": 3, "prompt": "a"},
        {"prompt": "b", "zip": [{"seed": ["1", "2"], "eta": ["0", "1"]}]},
    )
    assert values == {
        "model": "demo",
        "prompt": "b",
        "zip": [{"seed": ["1", "2"], "eta": ["0", "1"]}],
    }
    assert set(named_fields(values)) == {"model", "prompt", "seed", "eta"}


def test_columns_of_rows_win_over_the_image(image: Path) -> None:
    Path("rows.csv").write_text("prompt,seed\na cat,1\na dog,2\n")
    for rows in ("rows.csv", [{"prompt": "a cat", "seed": 1}, {"prompt": "a dog", "seed": 2}]):
        values = refine({"model": "demo", "prompt": "x"}, with_sources({"rows": rows}, Path()))
        layout = make_sweep(values).layout
        assert [layout.job(index).prompt for index in range(layout.total)] == ["a cat", "a dog"]


def test_another_model_is_not_given_the_old_ones_revision() -> None:
    start = {"model": "a/b", "revision": "v1", "variant": "fp16", "seed": 3}
    assert refine(start, {"model": "demo"}) == {"seed": 3, "model": "demo"}
    assert refine(start, {"revision": "v2"}) == {**start, "revision": "v2"}


def test_a_model_in_rows_or_zip_needs_no_other() -> None:
    rows = [{"prompt": "a", "model": "a/b"}, {"prompt": "b", "model": "demo"}]
    assert refine({"model": "demo"}, {"rows": rows}) == {"rows": rows}
    together = [{"model": ["a/b", "demo"], "seed": [1, 2]}]
    assert refine({"model": "demo"}, {"zip": together}) == {"zip": together}
    assert refine({"model": "demo"}, {"prompt": "a"}) == {"model": "demo", "prompt": "a"}


def test_no_negative_prompt_takes_the_images_away(image: Path, parse: Parse) -> None:
    job = parse("--like", "liked.png", "--no-negative-prompt").layout.job(0)
    assert job.negative_prompt is None


def broken(name: str, folder: Path) -> Path:
    """A file that no sweep can start from."""
    path = folder / name
    if name == "text.png":
        path.write_text("no image")
    elif name == "stranger.png":
        Image.new("RGB", (8, 8)).save(path)
    elif name != "missing.png":
        job = {**asdict(Job(model="demo", prompt="a")), "beauty": 0.5}
        image = encode_png(Image.new("RGB", (8, 8)), job=job, digest="0" * 64)
        if name == "version.png":
            image = later_version(image)
        path.write_bytes(image)
    return path


def later_version(image: bytes) -> bytes:
    """The same image with a record of version 2."""
    import zlib

    start = image.index(b"iTXt") + 4
    length = int.from_bytes(image[start - 8 : start - 4], "big")
    body = image[start : start + length].replace(b'"version":1', b'"version":2')
    return (
        image[:start]
        + body
        + zlib.crc32(b"iTXt" + body).to_bytes(4, "big")
        + image[start + length + 4 :]
    )


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("missing.png", "cannot read"),
        ("text.png", "is not a PNG image"),
        ("stranger.png", "has no 'seedbed' record"),
        ("version.png", "later Seedbed"),
        ("field.png", "was made by a later Seedbed, with beauty: upgrade Seedbed"),
    ],
)
@pytest.mark.parametrize(
    "command", [["show", "--sweep"], ["plan", "--like"], ["submit", "--like"], ["run", "--like"]]
)
def test_what_no_sweep_can_start_from_is_told_in_one_sentence(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    problem: str,
    command: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    broken(name, tmp_path)
    with pytest.raises(SystemExit) as ended:
        main([*command, name])
    printed = capsys.readouterr()
    assert ended.value.code == 2
    assert printed.out == ""
    assert printed.err.startswith("error: ")
    assert printed.err.count("\n") == 1
    assert problem in printed.err
    assert {path.name for path in tmp_path.iterdir()} <= {name}, "nothing is written"
