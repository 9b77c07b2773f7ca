"""A worker's options come back from its environment, and impossible ones are named."""

from __future__ import annotations

import math
from typing import Any

import pytest

from shared.errors import InvalidSettings
from shared.worker_options import VARIABLE, WorkerOptions, split_model


def test_options_come_back_from_their_json() -> None:
    options = WorkerOptions(
        models=("demo", "owner/name@main"),
        batch_size=4,
        device="cuda",
        attention_slicing="2",
        vae_slicing=False,
        autocast="bfloat16",
        offload="model",
        keep_models=2,
    )
    assert WorkerOptions.from_json(options.to_json()) == options


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"models": ()}, "--model is missing: say which checkpoint this worker serves"),
        ({"models": ("demo", "")}, "--model is missing"),
        ({"models": ("@main",)}, "--model is missing"),
        ({"batch_size": 0}, "--batch-size 0 is not from 1 to 1024"),
        ({"batch_size": 2000}, "--batch-size 2000 is not from 1 to 1024"),
        ({"lease_seconds": 0}, "--lease-seconds 0 is not from 0.1 to 86400 seconds"),
        ({"gpu_seconds": math.nan}, "--gpu-seconds nan is not from 0.1 to 86400 seconds"),
        ({"budget_seconds": math.inf}, "--budget-seconds inf is not from 0.1 to 86400 seconds"),
        ({"timer_seconds": -1}, "--timer-seconds -1 is not from 0.1 to 86400 seconds"),
        ({"grace_seconds": -1}, "--grace-seconds -1 is not from 0 to 86400 seconds"),
        ({"metrics_port": 70000}, "--metrics-port 70000 is not from 0 to 65535"),
        ({"keep_models": 0}, "--keep-models 0 is not from 1 to 1024"),
        ({"dtype": "half"}, "--dtype 'half' is not known: write float16 or bfloat16 or float32"),
        ({"autocast": "float32"}, "--autocast 'float32' is not known: write float16 or bfloat16"),
        ({"offload": "disk"}, "--offload 'disk' is not known: write model or sequential"),
        ({"offload": "model", "device": "cpu"}, "--offload model needs a GPU to bring"),
        ({"offload": "sequential", "compile": True}, "--compile needs the denoiser's weights in"),
        (
            {"xformers": True, "attention_slicing": "max"},
            "--xformers and --attention-slicing max both replace attention",
        ),
        ({"attention_slicing": "on"}, "--attention-slicing 'on' is not known: write adaptive"),
        ({"attention_slicing": "0"}, "--attention-slicing '0' is not known"),
        ({"attention_slicing": "٣"}, "--attention-slicing '٣' is not known"),
    ],
)
def test_an_impossible_option_is_named(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidSettings) as caught:
        WorkerOptions(**{"models": ("demo",), **change})
    assert str(caught.value).startswith(sentence)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", '{"models": 7}', '{"models": ["demo"], "no_such": 1}', "[" * 9999],
)
def test_options_that_seedbed_worker_did_not_write_are_refused(text: str) -> None:
    with pytest.raises(InvalidSettings, match=f"^{VARIABLE} is not what 'seedbed worker' writes"):
        WorkerOptions.from_json(text)


def test_a_drain_need_not_wait() -> None:
    assert WorkerOptions(models=("demo",), grace_seconds=0).grace_seconds == 0


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("demo", ("demo", None)),
        ("owner/name@main", ("owner/name", "main")),
        ("owner/name@refs/pr/1", ("owner/name", "refs/pr/1")),
        ("owner/name@", ("owner/name", None)),
        ("/home/ada@example/model", ("/home/ada@example/model", None)),
        ("./a@b", ("./a@b", None)),
        ("../a@b", ("../a@b", None)),
        ("~/a@b", ("~/a@b", None)),
    ],
)
def test_a_model_may_name_its_revision(text: str, parts: tuple[str, str | None]) -> None:
    assert split_model(text) == parts
