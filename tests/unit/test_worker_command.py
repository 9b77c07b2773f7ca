"""What `seedbed worker` hands to the worker's own process."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
from click.testing import CliRunner

from producer.cli import worker_command
from producer.cli.main import cli
from shared.settings import VARIABLES
from shared.worker_options import VARIABLE, WorkerOptions

Started = tuple[list[str], dict[str, str]]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Started]:
    """The command up to where it would become the worker's process: its words and environment."""
    for name in (*VARIABLES.values(), "SEEDBED_METRICS_PORT", "SEEDBED_METRICS_HOST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(worker_command, "NEEDED", ())
    found: list[Started] = []
    monkeypatch.setattr(os, "execve", lambda file, words, environ: found.append((words, environ)))

    def start(*arguments: str) -> Started:
        result = CliRunner().invoke(cli, ["worker", *arguments], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return found[-1]

    return start


def test_every_setting_reaches_the_worker(started: Callable[..., Started]) -> None:
    words, environ = started(
        *("--redis-url", "redis://127.0.0.1:1", "--model", "demo", "--batch-size", "4"),
        *("--device", "cuda", "--dtype", "float32", "--xformers", "--no-vae-slicing"),
        *("--vae-tiling", "--channels-last", "--offload", "model", "--autocast", "float16"),
        *("--compile", "--keep-models", "2"),
    )

    assert words[-2:] == ["-m", "worker"]
    assert WorkerOptions.from_json(environ[VARIABLE]) == WorkerOptions(
        models=("demo",),
        batch_size=4,
        device="cuda",
        dtype="float32",
        xformers=True,
        vae_slicing=False,
        vae_tiling=True,
        channels_last=True,
        offload="model",
        autocast="float16",
        compile=True,
        keep_models=2,
    )


def test_without_options_a_worker_is_as_by_default(started: Callable[..., Started]) -> None:
    _, environ = started("--redis-url", "redis://127.0.0.1:1", "--model", "demo")
    assert WorkerOptions.from_json(environ[VARIABLE]) == WorkerOptions(models=("demo",))


def test_metrics_are_off_until_a_port_is_given_by_option_or_environment(
    started: Callable[..., Started], monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = ("--redis-url", "redis://127.0.0.1:1", "--model", "demo")
    _, environ = started(*pool, "--metrics-port", "9641", "--metrics-host", "0.0.0.0")
    options = WorkerOptions.from_json(environ[VARIABLE])
    assert (options.metrics_port, options.metrics_host) == (9641, "0.0.0.0")

    monkeypatch.setenv("SEEDBED_METRICS_PORT", "9700")
    monkeypatch.setenv("SEEDBED_METRICS_HOST", "::")
    _, environ = started(*pool)
    options = WorkerOptions.from_json(environ[VARIABLE])
    assert (options.metrics_port, options.metrics_host) == (9700, "::")


@pytest.mark.parametrize(("more", "word"), [((), "show"), (("--json",), "show-json")])
def test_show_needs_no_pool(
    started: Callable[..., Started], more: tuple[str, ...], word: str
) -> None:
    words, environ = started("--model", "demo", "--show", *more)
    assert words[-1] == word
    assert VARIABLES["redis_url"] not in environ
