"""Which weights a job needs, by name, and which of them a worker may load."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from producer.absolute_models import absolute_models
from producer.models import weights_of
from shared.errors import InvalidManifest
from shared.lanes import weights_key
from shared.settings import VARIABLES
from shared.structured import MAX_LORAS
from shared.sweep import Sweep
from shared.weights import AllowList, WeightsName
from shared.worker_options import WorkerOptions
from tests.command_line import caller
from tests.factories import make_job, make_sweep

LORAS = '[{"name":"owner/a","weight":1},{"name":"owner/b","weight":0.5}]'


def test_a_jobs_weights_are_its_names_without_strengths() -> None:
    job = make_job(vae="owner/vae", loras=LORAS, revision="main")
    name = WeightsName.of(job)

    assert name == WeightsName(
        model="demo", revision="main", vae="owner/vae", loras=("owner/a", "owner/b")
    )
    assert name.key == weights_key(job)
    assert WeightsName.from_text(name.to_text()) == name


def test_a_sweeps_weights_say_how_to_start_a_worker() -> None:
    sweep = make_sweep(vae=[None, "owner/vae"], loras=["owner/a", [{"name": "owner/b"}]], seed=[1])
    found = weights_of(sweep.layout)

    assert [item.parts for item in found] == [
        ("--lora=owner/a",),
        ("--lora=owner/b",),
        ("--vae=owner/vae", "--lora=owner/a"),
        ("--vae=owner/vae", "--lora=owner/b"),
    ]
    assert all(WeightsName.from_text(item.to_text()).key == item.key for item in found)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"model":"a"}',
        '{"model":"a","loras":[],"jobs":3}',
        '{"model":5,"loras":[]}',
        '{"model":"a","loras":[null]}',
        '{"model":"","loras":[]}',
        json.dumps({"model": "a", "loras": ["x"] * (MAX_LORAS + 1)}),
        json.dumps({"model": "a" * 2000, "loras": []}),
    ],
)
def test_names_from_a_stranger_are_checked(text: str) -> None:
    with pytest.raises(InvalidManifest, match="weights"):
        WeightsName.from_text(text)


@pytest.mark.parametrize(
    ("weights", "allowed"),
    [
        ({}, True),
        ({"vae": "owner/vae"}, True),
        ({"loras": ("owner/a",)}, True),
        ({"vae": "owner/vae", "loras": ("owner/a", "friend/x")}, True),
        ({"vae": "friend/vae"}, True),
        ({"model": "friend/model"}, True),
        ({"loras": ("/loras/x/y.safetensors",)}, True),
        ({"loras": ("/loras/../etc/x.safetensors",)}, False),
        ({"vae": "owner/a"}, False),
        ({"loras": ("owner/vae",)}, False),
        ({"loras": ("owner/a", "owner/b")}, False),
        ({"model": "other"}, False),
        ({"revision": "dev"}, False),
        ({"variant": "fp16"}, False),
    ],
)
def test_only_what_was_named_or_matches_a_pattern_may_be_loaded(
    weights: dict[str, Any], allowed: bool
) -> None:
    allowlist = AllowList(
        models=("demo",),
        vaes=("owner/vae",),
        loras=("owner/a",),
        patterns=("friend/*", "/loras/*"),
    )
    assert allowlist.allows(WeightsName(**{"model": "demo", **weights})) is allowed


def test_options_of_a_worker_come_through_its_environment() -> None:
    options = WorkerOptions(models=("demo",), vaes=("v",), loras=("l", "m"), allow=("o/*",))
    assert WorkerOptions.from_json(options.to_json()) == options
    old = json.loads(options.to_json())
    for name in ("vaes", "loras", "allow"):
        del old[name]
    assert WorkerOptions.from_json(json.dumps(old)).loras == ()


def test_paths_of_vaes_and_loras_are_made_absolute_wherever_they_stand(tmp_path: Path) -> None:
    (tmp_path / "vae").mkdir()
    (tmp_path / "vae" / "config.json").touch()
    (tmp_path / "style.safetensors").touch()
    style = str(tmp_path / "style.safetensors")
    values = {
        "model": "demo",
        "prompt": "a",
        "vae": ["vae", "owner/vae", None],
        "zip": [
            {"loras": [[{"name": "style.safetensors"}, {"name": "b/c"}], None], "seed": [1, 2]}
        ],
    }

    jobs = _jobs(absolute_models(values, tmp_path))

    assert {job.vae for job in jobs} == {str(tmp_path / "vae"), "owner/vae", None}
    assert {WeightsName.of(job).loras for job in jobs} == {(style, "b/c"), ()}
    for written in (
        {"loras": "./style.safetensors"},
        {"loras": {"fixed": [{"name": "style.safetensors"}]}},
        {"rows": [{"loras": [{"name": "style.safetensors"}], "seed": 1}]},
    ):
        (job,) = _jobs(absolute_models({"model": "demo", "prompt": "a", **written}, tmp_path))
        assert WeightsName.of(job).loras == (style,), written


def test_a_part_that_is_not_there_is_refused_before_anything_starts(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VARIABLES["redis_url"], raising=False)
    seedbed = caller(capsys)
    for words, field in (
        (("run", "-p", "a", "--vae"), "vae"),
        (("run", "-p", "a", "--loras"), "loras"),
        (("up", "--vae"), "vae"),
        (("up", "--lora"), "loras"),
    ):
        done = seedbed(*words, "./nowhere.safetensors")
        assert done.code == 2
        assert done.is_one_sentence
        assert f"{field} '/" in done.err
        assert "nowhere.safetensors' does not exist: name a hub id, a folder or" in done.err


def _jobs(values: dict[str, object]) -> list[Any]:
    layout = Sweep.from_mapping(values).layout
    return [layout.job(index) for index in range(layout.total)]
