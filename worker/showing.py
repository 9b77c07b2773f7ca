"""``seedbed worker --show``: what would be in force for each model, and why; without a pool."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from shared.worker_options import WorkerOptions, split_model
from worker.attention import processors_in_force
from worker.compiling import check_compiler, row_sizes
from worker.device import leave_a_core, pick_device
from worker.loading import LoadedModel
from worker.locating import ModelSource
from worker.rescue import release_memory
from worker.room import free_bytes, weights_bytes
from worker.served_model import load_as_told
from worker.tuning import Tuning


@dataclass(frozen=True)
class Fact:
    """One setting: what is in force, and why."""

    name: str
    value: str
    why: str


def show(options: WorkerOptions, *, as_json: bool) -> None:
    """Print the facts of each model that a worker with these options would serve.

    Raises:
        InvalidSettings: A setting can't be had here.
        ModelError: A model can't be loaded.
    """
    device = pick_device(options.device)
    Tuning.of(options).check(device)
    leave_a_core(device)
    if options.compile:
        check_compiler(device)
    shown = []
    for text in options.models:
        model, revision = split_model(text)
        source = ModelSource(model=model, revision=revision, variant=options.variant)
        loaded = load_as_told(source, options, device)
        found = facts(loaded, options)
        del loaded
        release_memory()
        if as_json:
            shown.append({"model": text, "settings": [asdict(fact) for fact in found]})
        else:
            print("\n".join(_table(text, found)) + "\n", flush=True)
    if as_json:
        print(json.dumps(shown, ensure_ascii=False))


def facts(loaded: LoadedModel, options: WorkerOptions) -> list[Fact]:
    """What is in force for a loaded model, read from the model itself where that can be."""
    return [
        Fact("weights", loaded.fingerprint, _hub_or_folder(loaded)),
        _device(loaded.device, options),
        _dtype(loaded, options),
        _autocast(loaded),
        *_attention(loaded, options),
        *_vae(loaded.pipeline, options),
        _channels_last(loaded),
        _offload(loaded),
        _compile(loaded, options),
        _batch_size(options),
        _threads(loaded.device),
        _memory(loaded, options),
    ]


def _hub_or_folder(loaded: LoadedModel) -> str:
    if loaded.fingerprint.startswith("hub:"):
        return "the commit that the hub resolved its revision to"
    return "a hash over its files"


def _device(device: torch.device, options: WorkerOptions) -> Fact:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    if options.device is not None:
        why = f"--device {options.device}"
    elif device.type == "cpu":
        why = "torch sees no CUDA device and no MPS here"
    else:
        why = "the best there is: CUDA, then MPS, then the CPU"
    return Fact("device", f"{device} ({name})", why)


def _dtype(loaded: LoadedModel, options: WorkerOptions) -> Fact:
    if options.dtype is not None:
        why = f"--dtype {options.dtype}"
    elif loaded.device.type == "cpu":
        why = "usual on a CPU, where half precision is slower"
    else:
        why = "usual on a GPU: half the memory, and faster"
    return Fact("dtype", str(loaded.dtype).removeprefix("torch."), why)


def _autocast(loaded: LoadedModel) -> Fact:
    if loaded.tuning.autocast is None:
        return Fact("autocast", "off", "as by default: everything is computed in the dtype above")
    return Fact("autocast", loaded.tuning.autocast, "--autocast: changes pixels, and so the pin")


def _attention(loaded: LoadedModel, options: WorkerOptions) -> tuple[Fact, Fact]:
    kinds = processors_in_force(loaded.pipeline)
    sliced = sum(count for name, count in kinds.items() if name.startswith("Sliced"))
    backend = (
        "xFormers"
        if any("XFormers" in name for name in kinds)
        else "sliced by diffusers"
        if sliced
        else "torch's scaled_dot_product_attention"
        if kinds and all(name.endswith("2_0") for name in kinds)
        else "the processors' own"
    )
    setting = options.attention_slicing
    if setting != "adaptive":
        why = f"--attention-slicing {setting}"
    elif sliced:
        why = f"adaptive: {sliced} layers would hold their whole attention matrix"
    else:
        why = "adaptive: no layer holds a whole attention matrix, so slicing would only cost time"
    installed = loaded.attention or "none that could be sliced"
    return (
        Fact("attention", backend, "--xformers" if options.xformers else f"installed: {installed}"),
        Fact("attention slicing", f"{sliced} of {sum(kinds.values())} layers sliced", why),
    )


def _vae(pipeline: Any, options: WorkerOptions) -> tuple[Fact, Fact]:
    vae: Any = getattr(pipeline, "vae", None)
    if vae is None:
        return Fact("VAE slicing", "off", "no VAE"), Fact("VAE tiling", "off", "no VAE")
    if not hasattr(vae, "enable_slicing"):
        why = "this VAE can't"
    elif options.vae_slicing:
        why = "as by default: the same pixels, and memory stays flat over the batch"
    else:
        why = "--no-vae-slicing"
    tiling = "--vae-tiling: changes pixels of large images, and so the pin"
    return (
        Fact("VAE slicing", _on(getattr(vae, "use_slicing", False)), why),
        Fact(
            "VAE tiling",
            _on(getattr(vae, "use_tiling", False)),
            tiling if options.vae_tiling else "as by default",
        ),
    )


def _channels_last(loaded: LoadedModel) -> Fact:
    denoiser: Any = loaded.denoiser
    kernels = [
        module.weight
        for module in (denoiser.modules() if denoiser is not None else ())
        if isinstance(module, torch.nn.Conv2d) and module.kernel_size != (1, 1)
    ]
    innermost = sum(one.is_contiguous(memory_format=torch.channels_last) for one in kernels)
    if not loaded.tuning.channels_last:
        return Fact("channels_last", "off", "as by default")
    return Fact(
        "channels_last",
        _on(innermost > 0),
        f"--channels-last: {innermost} of {len(kernels)} convolutions of the denoiser",
    )


def _offload(loaded: LoadedModel) -> Fact:
    if loaded.tuning.offload is None:
        return Fact("offload", "off", "as by default: all weights stay on the device")
    hooked = [
        name
        for name, module in loaded.pipeline.components.items()
        if isinstance(module, torch.nn.Module)
        and any(hasattr(part, "_hf_hook") for part in module.modules())
    ]
    return Fact("offload", loaded.tuning.offload, f"--offload: {', '.join(hooked)}")


def _compile(loaded: LoadedModel, options: WorkerOptions) -> Fact:
    if not options.compile:
        return Fact("compile", "off", "as by default")
    size = f"{loaded.native_width} x {loaded.native_height}"
    if options.batch_size is None:
        return Fact(
            "compile", "on", f"--compile: at start, at {size}, for the batch size measured then"
        )
    halves = 1 if loaded.embeds_guidance else 2
    rows = ", ".join(map(str, row_sizes(options.batch_size, halves=halves)))
    return Fact("compile", "on", f"--compile: at start, at {size}, for {rows} rows")


def _batch_size(options: WorkerOptions) -> Fact:
    if options.batch_size is None:
        return Fact(
            "batch size",
            "not known yet",
            "as by default: measured, or taken from a peer, when the worker starts",
        )
    return Fact("batch size", str(options.batch_size), f"--batch-size {options.batch_size}")


def _threads(device: torch.device) -> Fact:
    count = str(torch.get_num_threads())
    if "OMP_NUM_THREADS" in os.environ:
        why = f"OMP_NUM_THREADS={os.environ['OMP_NUM_THREADS']}"
    elif device.type == "cpu":
        why = "one core is left for encoding, uploads, Redis and S3"
    else:
        why = "torch's own choice: the GPU computes"
    return Fact("threads", count, why)


def _memory(loaded: LoadedModel, options: WorkerOptions) -> Fact:
    device = torch.device("cpu") if loaded.tuning.offload else loaded.device
    why = f"{free_bytes(device) / 1e6:,.0f} MB more are free on {device.type}"
    if options.keep_models is not None:
        why += f"; --keep-models {options.keep_models}"
    elif len(options.models) > 1:
        why += f"; as many of the {len(options.models)} models as fit stay loaded"
    return Fact("memory", f"{weights_bytes(loaded.pipeline) / 1e6:,.1f} MB of weights", why)


def _on(value: object) -> str:
    return "on" if value else "off"


def _table(title: str, found: Sequence[Fact]) -> list[str]:
    names = max(len(fact.name) for fact in found)
    values = max(len(fact.value) for fact in found if fact.name != "weights")
    return [title] + [
        f"  {fact.name.ljust(names)}  {fact.value.ljust(values)}  {fact.why}" for fact in found
    ]
