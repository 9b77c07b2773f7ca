"""Checkpoints from folders and from the hub, and one sentence for each that can't be served."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

pytest.importorskip("diffusers", reason="needs the worker's dependencies")

import torch

from shared.errors import InvalidSettings, ModelError
from shared.pin import Pin
from worker.fingerprint import fingerprint
from worker.loading import LoadedModel, ModelSource, load_pipeline
from worker.locating import DEMO_FOLDER

CPU = torch.device("cpu")
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def load(model: object, **more: Any) -> LoadedModel:
    source = {name: more.pop(name) for name in ("revision", "variant") if name in more}
    return load_pipeline(ModelSource(model=str(model), **source), device=CPU, **more)


@pytest.fixture
def copy(demo_folder: Path, tmp_path: Path) -> Path:
    """A copy of the random checkpoint that a test may spoil."""
    return Path(shutil.copytree(demo_folder, tmp_path / "copy"))


def test_a_folder_is_loaded_ready_to_render(loaded: LoadedModel, demo_folder: Path) -> None:
    assert type(loaded.pipeline).__name__ == "StableDiffusionPipeline"
    assert loaded.dtype == torch.float32
    assert loaded.pipeline.vae.use_slicing
    assert (loaded.native_height, loaded.native_width) == (64, 64)
    assert loaded.native_scheduler == "PNDMScheduler"
    assert "EulerDiscreteScheduler" in loaded.schedulers
    assert not loaded.embeds_guidance
    assert {"prompt", "guidance_scale", "callback_on_step_end"} <= loaded.accepts
    assert loaded.traits.guidance_per_row


def test_the_pin_names_weights_and_what_renders_them(loaded: LoadedModel) -> None:
    pin = Pin.from_text(loaded.pin)

    assert pin.to_text() == loaded.pin
    assert pin == Pin(
        weights=loaded.fingerprint,
        dtype="float32",
        renderer="1",
        height=64,
        width=64,
        scheduler="PNDMScheduler",
        embeds_guidance=False,
    )
    assert pin.weights.startswith("sha256:")


def test_moving_a_checkpoint_keeps_its_pin_and_another_number_format_changes_it(
    loaded: LoadedModel, copy: Path
) -> None:
    assert load(copy).pin == loaded.pin

    half = load(copy, dtype=torch.bfloat16)

    assert half.pin != loaded.pin
    assert half.fingerprint == loaded.fingerprint
    assert half.pipeline.unet.dtype == torch.bfloat16
    assert half.pipeline.vae.dtype == torch.bfloat16


class TestSlicing:
    """The installed processors, for every setting."""

    def processors(self, model: LoadedModel) -> set[str]:
        return {type(one).__name__ for one in model.pipeline.unet.attn_processors.values()}

    def test_adaptive_leaves_fused_attention_alone(self, loaded: LoadedModel) -> None:
        assert self.processors(loaded) == {"AttnProcessor2_0"}
        assert loaded.attention.startswith("AttnProcessor2_0 x ")

    def test_adaptive_slices_unfused_attention(self, demo_folder: Path) -> None:
        from diffusers.models.attention_processor import AttnProcessor

        from worker.attention import set_slicing

        model = load(demo_folder)
        model.pipeline.unet.set_attn_processor(AttnProcessor())
        set_slicing(model.pipeline, "adaptive")

        assert self.processors(model) == {"SlicedAttnProcessor"}

    @pytest.mark.parametrize(("setting", "slice_size"), [("auto", 1), ("max", 1), (2, 2)])
    def test_the_others_are_diffusers_own(
        self, demo_folder: Path, setting: str | int, slice_size: int
    ) -> None:
        model = load(demo_folder, attention_slicing=setting)

        assert self.processors(model) == {"SlicedAttnProcessor"}
        sizes = {one.slice_size for one in model.pipeline.unet.attn_processors.values()}
        assert sizes == {slice_size}, "auto halves three heads, rounded down"

    def test_off_installs_the_fused_processor(self, demo_folder: Path) -> None:
        assert self.processors(load(demo_folder, attention_slicing="off")) == {"AttnProcessor2_0"}

    def test_a_slice_larger_than_the_heads_is_refused(self, demo_folder: Path) -> None:
        with pytest.raises(InvalidSettings, match=r"attention slicing 9 .* use 1 to 3"):
            load(demo_folder, attention_slicing=9)


def refusal(model: object, **more: Any) -> str:
    """The one sentence, without a line break, in which a model is refused."""
    with pytest.raises(ModelError) as caught:
        load(model, **more)
    message = str(caught.value)
    assert "\n" not in message
    assert str(model) in message
    return message


class TestRefusals:
    def test_a_path_that_is_not_there(self, tmp_path: Path) -> None:
        for path in (
            tmp_path / "nowhere",
            "./nowhere",
            "../no/where",
            "~/no-such/x",
            "~nobody-here/x",
        ):
            assert "is not a model directory" in refusal(path)

    def test_a_folder_without_a_model(self, tmp_path: Path) -> None:
        assert "no model_index.json" in refusal(tmp_path)

    def test_a_pickled_file(self, tmp_path: Path) -> None:
        file = tmp_path / "model.ckpt"
        file.write_bytes(b"")
        assert "can run code when loaded" in refusal(file)

    def test_words_that_are_neither_path_nor_id(self) -> None:
        assert "neither a directory nor a hub id" in refusal("a red circle")

    def test_pickled_weights(self, copy: Path) -> None:
        weights = copy / "unet" / "diffusion_pytorch_model.safetensors"
        weights.rename(weights.with_suffix(".bin"))
        message = refusal(copy)
        assert "pickle weights only for its unet" in message
        assert "safe_serialization=True" in message

    def test_a_variant_that_it_lacks(self, copy: Path) -> None:
        assert "no files of the variant 'fp16'" in refusal(copy, variant="fp16")

    def test_torn_weights(self, copy: Path) -> None:
        weights = copy / "unet" / "diffusion_pytorch_model.safetensors"
        weights.write_bytes(weights.read_bytes()[:1000])
        assert "can't be loaded" in refusal(copy)

    def test_a_missing_component(self, copy: Path) -> None:
        shutil.rmtree(copy / "text_encoder")
        assert "can't be loaded" in refusal(copy)

    def test_an_index_that_is_not_json(self, copy: Path) -> None:
        (copy / "model_index.json").write_text("{")
        assert "can't be loaded" in refusal(copy)

    def test_code_of_its_own(self, copy: Path) -> None:
        index = json.loads((copy / "model_index.json").read_text())
        index["_class_name"] = ["pipeline", "Evil"]
        (copy / "model_index.json").write_text(json.dumps(index))
        (copy / "pipeline.py").write_text("raise SystemExit('it ran')\n")
        assert "code of its own" in refusal(copy)


class Hub(BaseHTTPRequestHandler):
    """What the hub answers to its own client for ids that can't be had."""

    def do_GET(self) -> None:
        if "/gated/" in self.path:
            self.answer(403, "GatedRepo", "Access to model is restricted")
        else:
            self.answer(401, "RepoNotFound", "Repository not found")

    do_HEAD = do_GET

    def answer(self, status: int, code: str, message: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", message)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def load_elsewhere(models: list[str], **environ: str) -> list[str]:
    """Load models in a process of its own, since the hub's client reads HF_* when imported.

    Returns:
        The fingerprint of each, or why it was refused.
    """
    code = (
        "import sys, torch\n"
        "from shared.errors import ModelError\n"
        "from worker.loading import ModelSource, load_pipeline\n"
        "for model in sys.argv[1:]:\n"
        "    try:\n"
        "        source = ModelSource(model=model)\n"
        "        print(load_pipeline(source, device=torch.device('cpu')).fingerprint)\n"
        "    except ModelError as error:\n"
        "        print(error)\n"
    )
    clean = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    done = subprocess.run(
        [sys.executable, "-c", code, *models],
        env=clean | {"OMP_NUM_THREADS": "1"} | environ,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", "no chatter, no traceback"
    return done.stdout.splitlines()


def test_models_that_the_hub_refuses_are_told_apart(hub: str, tmp_path: Path) -> None:
    gated, unknown = load_elsewhere(
        ["gated/model", "no-such/model"], HF_ENDPOINT=hub, HF_HOME=str(tmp_path)
    )

    assert gated.startswith("model 'gated/model' is gated: accept its terms")
    assert "HF_TOKEN" in gated
    assert unknown.startswith("model 'no-such/model' is not on the hub and not a local directory")


def test_a_hub_that_cannot_be_reached_is_named_as_such(tmp_path: Path) -> None:
    (message,) = load_elsewhere(
        ["some/model"], HF_ENDPOINT="http://127.0.0.1:9", HF_HOME=str(tmp_path)
    )

    assert message.startswith("model 'some/model' is not a local directory, and the hub could not")


def test_a_cached_model_loads_offline_and_is_pinned_to_its_commit(
    demo_folder: Path, tmp_path: Path
) -> None:
    # given: a cache as the hub's client leaves it
    repository = tmp_path / "hub" / "models--owner--demo"
    shutil.copytree(demo_folder, repository / "snapshots" / COMMIT)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)

    cached, missing = load_elsewhere(
        ["owner/demo", "owner/other"], HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path)
    )

    assert cached == f"hub:{COMMIT}"
    assert missing.startswith("model 'owner/other' is not in the local cache and HF_HUB_OFFLINE")


def test_the_demo_model_is_loaded_by_its_name_and_from_what_is_installed() -> None:
    loaded = load_pipeline(ModelSource(model="demo"), device=torch.device("cpu"))

    assert loaded.fingerprint == fingerprint(DEMO_FOLDER, from_hub=False)
    assert (loaded.native_height, loaded.native_width) == (64, 64)


def test_the_demo_checkpoint_is_small_safe_and_has_a_card() -> None:
    files = [path for path in DEMO_FOLDER.rglob("*") if path.is_file()]

    assert sum(path.stat().st_size for path in files) < 10_000_000
    assert {path.suffix for path in files} <= {".json", ".safetensors", ".md", ".txt"}
    card = (DEMO_FOLDER / "README.md").read_text(encoding="utf-8")
    assert "license: apache-2.0" in card
