"""``seedbed worker --show``: what is in force and why, without a pool; and what is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

import pytest

pytest.importorskip("diffusers", reason="needs the worker's dependencies")

import torch

from shared.settings import VARIABLES
from shared.worker_options import VARIABLE, WorkerOptions
from tests.command_line import Call
from worker.__main__ import main
from worker.attention import set_slicing
from worker.loading import LoadedModel, ModelSource, load_pipeline
from worker.showing import Fact, facts

ROOT = Path(__file__).parents[2]


def worker_command(
    folder: Path, *arguments: str, **environ: str
) -> subprocess.CompletedProcess[str]:
    """The real command, where no pool is configured."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in VARIABLES.values() and not name.startswith(("AWS_", "OMP_"))
    }
    return subprocess.run(
        [sys.executable, "-m", "producer.cli.main", "worker", *arguments],
        cwd=folder,
        env=kept | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""} | environ,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def by_name(found: list[Fact]) -> dict[str, Fact]:
    return {fact.name: fact for fact in found}


def test_show_prints_every_setting_with_its_reason_and_needs_no_pool(
    demo_folder: Path, loaded: LoadedModel, tmp_path: Path
) -> None:
    done = worker_command(tmp_path, "--model", str(demo_folder), "--device", "cpu", "--show")

    assert (done.returncode, done.stderr) == (0, "")
    title, *lines = done.stdout.rstrip().splitlines()
    assert title == str(demo_folder)
    names = [line[2:].split("  ")[0] for line in lines]
    assert names == [
        "weights", "device", "dtype", "autocast", "attention", "attention slicing", "VAE slicing",
        "VAE tiling", "channels_last", "offload", "compile", "batch size", "threads", "memory",
    ]  # fmt: skip
    assert loaded.fingerprint in lines[0]
    assert lines[1].endswith("--device cpu")
    assert "not known yet" in lines[names.index("batch size")], "nothing was measured"
    assert list(tmp_path.iterdir()) == []


def test_show_as_json_tells_what_was_installed(demo_folder: Path, tmp_path: Path) -> None:
    done = worker_command(
        tmp_path,
        *("--model", str(demo_folder), "--device", "cpu", "--show", "--json"),
        *("--attention-slicing", "max", "--no-vae-slicing", "--vae-tiling", "--channels-last"),
        *("--autocast", "bfloat16", "--batch-size", "3", "--dtype", "bfloat16"),
        OMP_NUM_THREADS="1",
    )

    assert (done.returncode, done.stderr) == (0, "")
    (shown,) = json.loads(done.stdout)
    assert shown["model"] == str(demo_folder)
    values = {fact["name"]: fact["value"] for fact in shown["settings"]}
    reasons = {fact["name"]: fact["why"] for fact in shown["settings"]}
    assert values["dtype"] == values["autocast"] == "bfloat16"
    assert (values["attention"], values["VAE slicing"]) == ("sliced by diffusers", "off")
    assert (values["VAE tiling"], values["channels_last"]) == ("on", "on")
    assert (values["batch size"], values["threads"]) == ("3", "1")
    assert reasons["attention slicing"] == "--attention-slicing max"
    assert reasons["threads"] == "OMP_NUM_THREADS=1"


def test_adaptive_says_why_it_slices_and_why_not(demo_folder: Path) -> None:
    from diffusers.models.attention_processor import AttnProcessor

    options = WorkerOptions(models=("demo",))
    model = load_pipeline(ModelSource(model=str(demo_folder)), device=torch.device("cpu"))

    fused = by_name(facts(model, options))
    model.pipeline.unet.set_attn_processor(AttnProcessor())
    set_slicing(model.pipeline, "adaptive")
    sliced = by_name(facts(model, options))

    layers = len(model.pipeline.unet.attn_processors)
    assert fused["attention slicing"].value.startswith("0 of ")
    assert "no layer holds a whole attention matrix" in fused["attention slicing"].why
    assert sliced["attention slicing"].value.startswith(f"{layers} of ")
    assert f"{layers} layers would hold their whole" in sliced["attention slicing"].why


def test_what_is_compiled_is_said_before_it_is(loaded: LoadedModel) -> None:
    given = by_name(facts(loaded, WorkerOptions(models=("demo",), compile=True, batch_size=4)))
    size = f"{loaded.native_width} x {loaded.native_height}"
    assert given["compile"] == Fact(
        "compile", "on", f"--compile: at start, at {size}, for 2, 4, 8 rows"
    )
    assert by_name(facts(loaded, WorkerOptions(models=("demo",))))["compile"].value == "off"


def test_offloaded_components_are_named(demo_folder: Path) -> None:
    from worker.tuning import Tuning

    model = load_pipeline(
        ModelSource(model=str(demo_folder)),
        device=torch.device("cpu"),
        tuning=Tuning(offload="model"),
    )
    fact = by_name(facts(model, WorkerOptions(models=("demo",), offload="model")))["offload"]
    assert fact.value == "model"
    assert set(fact.why.removeprefix("--offload: ").split(", ")) == {"vae", "text_encoder", "unet"}


@pytest.fixture(scope="module")
def without_vae(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline that works on pixels: unconditional, of one UNet and a scheduler."""
    diffusers: Any = import_module("diffusers")
    folder = tmp_path_factory.mktemp("models") / "pixels"
    unet = diffusers.UNet2DModel(
        sample_size=16,
        layers_per_block=1,
        block_out_channels=(8, 8),
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=4,
        attention_head_dim=4,
    )
    diffusers.DDPMPipeline(unet=unet, scheduler=diffusers.DDPMScheduler()).save_pretrained(folder)
    return folder


def test_a_setting_that_the_model_cannot_have_is_one_sentence_and_exit_2(
    without_vae: Path, tmp_path: Path
) -> None:
    done = worker_command(tmp_path, "--model", str(without_vae), "--vae-tiling", "--show")

    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert "--vae-tiling needs a model whose VAE can decode in tiles" in line


@pytest.fixture
def worker_here(bare: Call, one_thread: None, monkeypatch: pytest.MonkeyPatch) -> Call:
    """``seedbed worker`` without a GPU, in this process instead of becoming another."""

    def become(file: str, words: list[str], environ: dict[str, str]) -> NoReturn:
        monkeypatch.setenv(VARIABLE, environ[VARIABLE])
        raise SystemExit(main(words[words.index("worker") + 1 :]))

    monkeypatch.setattr(os, "execve", become)
    monkeypatch.setattr("shared.logs.configure_logging", lambda level: None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    return bare


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--offload", "model", "--device", "cpu"), "--offload model needs a GPU"),
        (("--offload", "sequential"), "--offload sequential needs a GPU"),
        (("--xformers",), "--xformers needs the package xformers, which is not installed here"),
        (("--dtype", "half"), "--dtype 'half' is not known"),
        (("--device", "mps"), "device 'mps' is not here: use --device cpu"),
    ],
)
def test_a_setting_that_cannot_be_here_is_one_sentence_and_exit_2(
    worker_here: Call, without_vae: Path, arguments: tuple[str, ...], sentence: str
) -> None:
    answer = worker_here("worker", "--model", str(without_vae), *arguments, "--show")

    assert (answer.code, answer.out) == (2, "")
    (line,) = answer.err.splitlines()
    assert sentence in line


def test_json_without_show_is_refused(bare: Call) -> None:
    answer = bare("worker", "--model", "demo", "--json")
    assert answer.code == 2
    assert "--json goes with --show" in answer.err
