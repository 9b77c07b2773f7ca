"""A VAE and LoRAs put into a checkpoint: as stock has them, or one sentence why not."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("peft", reason="needs the worker's dependencies")

import diffusers
import torch

from shared.errors import ModelError, UnsupportedJob
from shared.field_values import check_value
from shared.pin import Pin
from tests.pictures import all_rendered, assert_same_picture, mixed_jobs, quick_job, stock_picture
from tests.tiny_models import save_sdxl
from tests.tiny_parts import save_lora, save_vae
from worker.engine import StockEngine
from worker.fingerprint import file_fingerprint, with_parts
from worker.loading import LoadedModel, ModelSource, load_pipeline
from worker.tuning import Tuning

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    # PEFT's, whenever a pipeline gets its second LoRA
    pytest.mark.filterwarnings("ignore:Already found a `peft_config`:UserWarning"),
]


@pytest.fixture(scope="module")
def parts(stock: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``vae``, ``one`` and ``two`` for the demo model, ``wide`` and ``xl`` for others."""
    folder = tmp_path_factory.mktemp("parts")
    save_vae(stock, folder / "vae")
    save_vae(stock, folder / "wide", latent_channels=8)
    save_lora(stock, folder / "one", seed=1)
    save_lora(stock, folder / "two", seed=2, encoder=True)
    save_sdxl(folder / "sdxl")
    sdxl = diffusers.DiffusionPipeline.from_pretrained(folder / "sdxl")
    save_lora(sdxl, folder / "xl")
    return folder


def load(
    model: Path, *, vae: Path | None = None, loras: tuple[Path, ...] = (), **more: Any
) -> LoadedModel:
    source = ModelSource(
        model=str(model), vae=None if vae is None else str(vae), loras=tuple(map(str, loras))
    )
    return load_pipeline(source, device=torch.device("cpu"), **more)


def fresh_stock(folder: Path, **more: Any) -> Any:
    pipeline = diffusers.DiffusionPipeline.from_pretrained(folder, **more)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def with_loras(**weights: float) -> Any:
    return check_value("loras", [{"name": n, "weight": w} for n, w in weights.items()])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_replaced_vae_decodes_as_in_the_stock_pipeline(
    demo_folder: Path, parts: Path, dtype: torch.dtype
) -> None:
    loaded = load(demo_folder, vae=parts / "vae", dtype=dtype)
    vae = diffusers.AutoencoderKL.from_pretrained(parts / "vae", dtype=dtype)
    stock = fresh_stock(demo_folder, vae=vae, dtype=dtype)
    jobs = mixed_jobs(height=128, width=128, vae=str(parts / "vae"))[:4]

    outcomes = all_rendered(StockEngine(loaded).render(jobs))

    assert loaded.pipeline.vae.use_slicing
    assert loaded.pipeline.vae.dtype == dtype
    for job, outcome in zip(jobs, outcomes, strict=True):
        assert_same_picture(outcome.image, stock_picture(stock, job), what=job)
    plain = all_rendered(StockEngine(load(demo_folder, dtype=dtype)).render(jobs[:1]))
    assert plain[0].image.tobytes() != outcomes[0].image.tobytes()


def test_loras_are_loaded_once_and_switched_by_batch(demo_folder: Path, parts: Path) -> None:
    one, two = str(parts / "one"), str(parts / "two" / "pytorch_lora_weights.safetensors")
    loaded = load(demo_folder, loras=(Path(two), Path(one)))
    engine = StockEngine(loaded)
    stock = fresh_stock(demo_folder)
    stock.load_lora_weights(parts / "one", adapter_name="a")
    stock.load_lora_weights(parts / "two", adapter_name="b")
    weights = [(1.0, 0.5), (0.25, 1.5), (-1.0, 0.0)]
    jobs = [
        quick_job(seed=seed, height=128, width=128, loras=with_loras(**{one: first, two: second}))
        for seed in (0, 1)
        for first, second in weights
    ]

    outcomes = all_rendered(engine.render(jobs))
    again = all_rendered(engine.render(jobs[::-1]))[::-1]

    assert {outcome.rows for outcome in outcomes} == {2}, "a batch for each strength"
    for number, (job, outcome, other) in enumerate(zip(jobs, outcomes, again, strict=True)):
        stock.set_adapters(["a", "b"], adapter_weights=list(weights[number % 3]))
        assert_same_picture(outcome.image, stock_picture(stock, job), what=job)
        assert outcome.image.tobytes() == other.image.tobytes()
    assert len({outcome.image.tobytes() for outcome in outcomes}) == len(jobs)


@pytest.mark.parametrize("offload", [None, "model"])
def test_sets_that_share_a_checkpoint_draw_what_they_draw_alone(
    demo_folder: Path, parts: Path, offload: str | None
) -> None:
    tuning = Tuning(offload=offload)  # a CPU has nowhere to bring weights to, but does not mind
    given: list[dict[str, Any]] = [
        {},
        {"loras": (parts / "one",)},
        {"vae": parts / "vae"},
        {"loras": (parts / "two",)},
        {"vae": parts / "vae", "loras": (parts / "one", parts / "two")},
        {"loras": (parts / "xl",)},
    ]

    def job(**names: Any) -> Any:
        loras = {str(name): 0.75 for name in names.get("loras", ())}
        return quick_job(num_inference_steps=2, loras=with_loras(**loras) if loras else None)

    def draw(loaded: LoadedModel, **names: Any) -> bytes | str:
        (outcome,) = StockEngine(loaded).render([job(**names)])
        return str(outcome) if isinstance(outcome, UnsupportedJob) else outcome.image.tobytes()

    alone = [load(demo_folder, **names) for names in given]
    wanted = [draw(loaded, **names) for loaded, names in zip(alone, given, strict=True)]
    assert len(set(wanted)) == len(given)

    # when: each is made of the first, before it has drawn anything
    first = load(demo_folder, tuning=tuning, **given[0])
    first.pipeline.scheduler = None  # what a batch leaves behind is its own
    shared = [
        first,
        *(load(demo_folder, base=first.base, tuning=tuning, **names) for names in given[1:]),
    ]

    # then: in whichever order, and whoever has gone
    for order in ([0, 1, 2, 3, 4, 5], [4, 0, 3, 5, 1, 2]):
        for number in order:
            assert draw(shared[number], **given[number]) == wanted[number], given[number]
    assert [loaded.pin for loaded in shared] == [loaded.pin for loaded in alone]
    assert len({id(loaded.pipeline.unet) for loaded in shared}) == 1
    assert len(adapters_of(first)) == 2, "one and two, once each; nothing of the one that is unfit"
    shared[1].release()
    assert len(adapters_of(first)) == 2, "another set has it"
    shared[4].release()
    assert len(adapters_of(first)) == 1
    for number in (0, 3, 2):
        assert draw(shared[number], **given[number]) == wanted[number]
    shared[3].release()
    assert adapters_of(first) == set()
    assert draw(first) == wanted[0]


def adapters_of(loaded: LoadedModel) -> set[str]:
    """Every LoRA in its modules, active or not."""
    return {
        key.split(".lora_A.")[1].split(".")[0]
        for module in (loaded.pipeline.unet, loaded.pipeline.text_encoder)
        for key, _ in module.named_parameters()
        if ".lora_A." in key
    }


def test_fingerprints_follow_content_and_not_names(demo_folder: Path, parts: Path) -> None:

    def weights(**given: Any) -> str:
        return Pin.from_text(load(demo_folder, **given).pin).weights

    plain = weights()
    moved = Path(shutil.copytree(parts / "one", parts / "moved"))
    vae_moved = Path(shutil.copytree(parts / "vae", parts / "vae-moved"))
    both = weights(vae=parts / "vae", loras=(parts / "one",))

    assert both.startswith(f"{plain}+")
    assert both == weights(vae=vae_moved, loras=(moved,))
    assert len({plain, both, weights(vae=parts / "vae"), weights(loras=(parts / "one",))}) == 4
    assert weights(loras=(parts / "two",)) != weights(loras=(parts / "one",))


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"vae": "wide"}, "has 8 latent channels, and this model's latents have 4"),
        ({"loras": "xl"}, "use a LoRA that was trained for this kind of model|trained for another"),
    ],
)
def test_what_does_not_suit_the_model_is_every_jobs_own_error(
    demo_folder: Path, parts: Path, given: dict[str, str], why: str
) -> None:
    import re

    vae = parts / given["vae"] if "vae" in given else None
    loras = (parts / given["loras"],) if "loras" in given else ()
    loaded = load(demo_folder, vae=vae, loras=loras)

    outcomes = StockEngine(loaded).render([quick_job(), quick_job(seed=1)])

    for outcome in outcomes:
        assert isinstance(outcome, UnsupportedJob)
        message = str(outcome)
        assert re.search(why, message)
        assert str(next(iter(loras), vae)) in message
        assert "\n" not in message
    assert "+" in loaded.fingerprint, "what was asked for is pinned all the same"


def test_a_lora_of_which_some_layers_have_no_place_is_refused(
    demo_folder: Path, parts: Path, tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(parts / "one" / "pytorch_lora_weights.safetensors")
    block = next(iter(tensors)).partition(".attn")[0]
    for key in [key for key in tensors if key.startswith(block)]:
        tensors[key.replace("unet.", "unet.no_such.", 1)] = tensors.pop(key)
    save_file(tensors, tmp_path / "odd.safetensors")

    loaded = load(demo_folder, loras=(tmp_path / "odd.safetensors",))

    assert loaded.refusal is not None
    assert "odd.safetensors" in loaded.refusal
    assert "kind of model" in loaded.refusal


class TestRefusals:
    """What can't even be found: the worker does not serve it, and says why."""

    def reason(self, model: Path, **given: Any) -> str:
        with pytest.raises(ModelError) as caught:
            load(model, **given)
        message = str(caught.value)
        assert "\n" not in message
        return message

    def test_paths_that_are_not_there(self, demo_folder: Path, tmp_path: Path) -> None:
        assert "is not a folder" in self.reason(demo_folder, vae=tmp_path / "no")
        assert "is not a folder" in self.reason(demo_folder, loras=(tmp_path / "no",))

    def test_folders_with_something_else(self, demo_folder: Path, tmp_path: Path) -> None:
        assert "has no config.json" in self.reason(demo_folder, vae=tmp_path)
        assert "no .safetensors file" in self.reason(demo_folder, loras=(tmp_path,))
        for name in ("a", "b"):
            (tmp_path / f"{name}.safetensors").touch()
        assert "a.safetensors, b.safetensors: name a folder with one" in self.reason(
            demo_folder, loras=(tmp_path,)
        )

    def test_pickles(self, demo_folder: Path, tmp_path: Path) -> None:
        (tmp_path / "x.pt").touch()
        assert "can run code when loaded" in self.reason(demo_folder, loras=(tmp_path / "x.pt",))

    def test_words_that_name_nothing(self, demo_folder: Path) -> None:
        source = ModelSource(model=str(demo_folder), vae="a b")
        with pytest.raises(ModelError, match="vae 'a b' is neither a path nor a hub id"):
            load_pipeline(source, device=torch.device("cpu"))


def test_a_whole_checkpoints_folder_lends_its_vae(demo_folder: Path, parts: Path) -> None:
    loaded = load(demo_folder, vae=parts / "sdxl")

    assert loaded.refusal is None
    wanted = json.loads((parts / "sdxl" / "vae" / "config.json").read_text())
    assert loaded.pipeline.vae.config.scaling_factor == wanted["scaling_factor"]


def test_vaes_and_loras_from_the_hubs_cache_are_known_by_commit_and_content(
    demo_folder: Path, parts: Path, tmp_path: Path
) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    for kind in ("vae", "one"):
        repository = tmp_path / "hub" / f"models--owner--{kind}"
        shutil.copytree(parts / kind, repository / "snapshots" / commit)
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_text(commit)
    code = (
        "import sys, torch\n"
        "from shared.errors import ModelError\n"
        "from worker.loading import ModelSource, load_pipeline\n"
        "pairs = ('owner/vae', 'owner/one'), ('owner/no', None), (None, 'owner/no@v2')\n"
        "for vae, lora in pairs:\n"
        "    source = ModelSource(model=sys.argv[1], vae=vae, loras=(lora,) if lora else ())\n"
        "    try:\n"
        "        print(load_pipeline(source, device=torch.device('cpu')).fingerprint)\n"
        "    except ModelError as error:\n"
        "        print(error)\n"
    )
    clean = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    done = subprocess.run(
        [sys.executable, "-c", code, str(demo_folder)],
        env=clean | {"OMP_NUM_THREADS": "1", "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )

    cached, no_vae, no_lora = done.stdout.splitlines()
    lora = file_fingerprint(parts / "one" / "pytorch_lora_weights.safetensors")
    own = load(demo_folder).fingerprint
    assert cached == with_parts(own, {"vae": f"hub:{commit}", "loras": [lora]})
    assert no_vae.startswith("vae 'owner/no' is not in the local cache and HF_HUB_OFFLINE is set")
    assert no_lora.startswith("lora 'owner/no' is not in the local cache")
