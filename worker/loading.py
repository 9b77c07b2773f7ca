"""Load a checkpoint: hub id, folder or file, safetensors only, no code but our own."""

from __future__ import annotations

import inspect
import json
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from shared.errors import ModelError
from shared.fields import FIELDS
from shared.pin import Pin
from worker.attention import attention_in_force
from worker.device import dtype_for
from worker.embeddings import EMBEDDING_NAMES, skips_layers
from worker.fingerprint import file_fingerprint, fingerprint, with_parts
from worker.kinds import KindPipelines, is_unconditional
from worker.locating import ModelSource, first_line, locate
from worker.packer import Traits
from worker.parts import Adapters, locate_parts, put_in
from worker.quiet import quieten
from worker.scheduling import Schedulers
from worker.sharing import SharedBase
from worker.single_file import config_folder, is_single_file, load_single_file
from worker.tuning import Tuning

__all__ = ["RENDERER_VERSION", "LoadedModel", "ModelSource", "load_pipeline"]

RENDERER_VERSION = "1"
"""Part of every pin: raised when the same job on the same weights would get other pixels."""

OURS = frozenset(
    {
        *("model", "revision", "variant", "vae", "loras", "safety_checker"),
        *("scheduler", "scheduler_config", "seed", "generator_device", "reproducible"),
    }
)
"""Fields that no pipeline's call has by name, and that act on every one."""


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """A pipeline ready to render, and what there is to know about it.

    Attributes:
        source: What was asked for.
        pipeline: The diffusers pipeline, on its device.
        device: Where it computes.
        dtype: Of its weights.
        fingerprint: ``"hub:<commit>"`` or ``"sha256:<hex>"``.
        native_height: Pixels, as the stock pipeline picks them.
        native_width: Pixels.
        schedulers: What its sampling can be made with.
        embeds_guidance: The model takes the guidance scale as an input, one for the whole batch.
        accepts: Parameter names of the pipeline's call.
        adapters: LoRAs that are put in.
        refusal: Why no job can be rendered with this VAE or these LoRAs; None if all is well.
        tuning: How it is set up for speed and memory.
        base: The checkpoint without VAE and LoRAs from elsewhere, which others may be made of.
    """

    source: ModelSource
    pipeline: Any
    device: torch.device
    dtype: torch.dtype
    fingerprint: str
    native_height: int
    native_width: int
    scheduling: Schedulers
    embeds_guidance: bool
    accepts: frozenset[str]
    adapters: Adapters = field(default_factory=dict)
    refusal: str | None = None
    tuning: Tuning = field(default_factory=Tuning)
    base: SharedBase | None = None

    def release(self) -> None:
        """Take its LoRAs out of what it shares with others; it renders nothing any more."""
        if self.base is not None:
            self.base.give_back(self.adapters.values())

    @property
    def native_scheduler(self) -> str:
        """Class name of the checkpoint's own scheduler."""
        return self.scheduling.native

    @property
    def schedulers(self) -> tuple[str, ...]:
        """Class names of the schedulers that suit it."""
        return self.scheduling.names

    @property
    def denoiser(self) -> Any:
        """The model that is called at every step; None in a pipeline that hides it."""
        return _denoiser(self.pipeline)

    @property
    def attention(self) -> str:
        """The attention processors in force."""
        return attention_in_force(self.pipeline)

    @property
    def unconditional(self) -> bool:
        """Whether it makes images of noise alone: a prompt and guidance can't act."""
        return is_unconditional(self.accepts)

    @property
    def fields(self) -> tuple[str, ...]:
        """Fields of a job that can act on it, in the order of their table."""
        idle = set() if self.scheduling.taking_eta else {"eta"}
        if not skips_layers(self.pipeline):
            idle.add("clip_skip")
        if getattr(self.pipeline, "safety_checker", None) is None:
            idle.add("safety_checker")
        if self.embeds_guidance:
            idle |= {"negative_prompt", "guidance_rescale"}
        kinds = KindPipelines(self.pipeline, self.accepts)
        starts = set()
        if kinds.has("inpainting"):
            starts = {"init_image", "mask_image", "strength"}
        elif kinds.has("image-to-image"):
            starts = {"init_image", "strength"}
        acting = (OURS | self.accepts | starts) - idle
        return tuple(name for name in FIELDS if name in acting)

    @cached_property
    def pin(self) -> str:
        """Canonical JSON of all that decides pixels beside the job's own fields."""
        return Pin(
            weights=self.fingerprint,
            dtype=str(self.dtype).removeprefix("torch."),
            renderer=RENDERER_VERSION,
            height=self.native_height,
            width=self.native_width,
            scheduler=self.native_scheduler,
            embeds_guidance=self.embeds_guidance,
            unconditional=self.unconditional,
            autocast=self.tuning.autocast,
            vae_tiling=self.tuning.vae_tiling,
        ).to_text()

    @cached_property
    def traits(self) -> Traits:
        """What may differ from row to row of a batch."""
        known = type(self.pipeline).__name__ in EMBEDDING_NAMES
        return Traits(
            native_height=self.native_height,
            native_width=self.native_width,
            native_scheduler=self.native_scheduler,
            guidance_per_row=known and not self.embeds_guidance,
            negative_per_row=known,
            eta_schedulers=self.scheduling.taking_eta,
            two_halves=not (self.embeds_guidance or self.unconditional),
            own_texts=known or self.unconditional,
        )


def load_pipeline(
    source: ModelSource,
    *,
    device: torch.device,
    dtype: torch.dtype | None = None,
    attention_slicing: str | int = "adaptive",
    tuning: Tuning | None = None,
    base: SharedBase | None = None,
) -> LoadedModel:
    """Load weights and make them ready to render.

    Args:
        source: Hub id (the HF_* variables apply) or local directory.
        device: Where to compute.
        dtype: Of the weights; None is float16 on a GPU, float32 on a CPU.
        attention_slicing: See ``worker.attention.set_slicing``.
        tuning: The other settings for speed and memory; None leaves them as by default.
        base: The same checkpoint with the same settings, loaded already: only what is put into it
            is loaded. None loads the checkpoint.

    Raises:
        ModelError: It can't be loaded: one sentence that says why, and the remedy.
        InvalidSettings: ``attention_slicing`` or ``tuning`` does not suit the model or the device.
    """
    quieten()
    dtype = dtype or dtype_for(device)
    tuning = tuning or Tuning()
    try:
        found = None if base is not None else locate(source)
        parts = locate_parts(source)
        prints = parts.fingerprints()
        if found is not None:
            base = _load_base(source, *found, dtype)
        assert base is not None
    except OSError as error:
        raise ModelError(
            f"model {source.model!r} can't be read: {error}; check the folder's permissions"
        ) from error
    pipeline = base.another()
    tuning.take_back(pipeline)
    adapters, refusal = put_in(pipeline, parts, dtype, base, prints.get("loras", []))
    pipeline.set_progress_bar_config(disable=True)
    try:
        tuning.place(pipeline, device)
    except RuntimeError as error:
        raise ModelError(
            f"model {source.model!r} can't be moved to {device} ({first_line(error)}): "
            "use a device with more free memory, or --device cpu"
        ) from error
    tuning.apply(pipeline, attention_slicing)
    height, width = _native_size(source, pipeline)
    accepts = frozenset(inspect.signature(pipeline.__call__).parameters)
    return LoadedModel(
        source=source,
        pipeline=pipeline,
        device=device,
        dtype=dtype,
        fingerprint=with_parts(base.fingerprint, prints),
        native_height=height,
        native_width=width,
        scheduling=Schedulers(pipeline.scheduler, own_only=is_unconditional(accepts)),
        embeds_guidance=embeds_guidance(pipeline),
        accepts=accepts,
        adapters=adapters,
        refusal=refusal,
        tuning=tuning,
        base=base,
    )


def _load_base(source: ModelSource, folder: Path, from_hub: bool, dtype: torch.dtype) -> SharedBase:
    if is_single_file(folder):
        config = config_folder(source, folder)
        own = file_fingerprint(folder, config)
        return SharedBase(load_single_file(source, folder, config, dtype), own)
    own = fingerprint(folder, from_hub=from_hub)
    return SharedBase(_from_folder(source, folder, dtype), own)


def _from_folder(source: ModelSource, folder: Path, dtype: torch.dtype) -> Any:
    diffusers: Any = import_module("diffusers")
    try:
        return diffusers.DiffusionPipeline.from_pretrained(
            folder,
            dtype=dtype,
            variant=source.variant,
            use_safetensors=True,
            low_cpu_mem_usage=True,
            local_files_only=True,
            trust_remote_code=False,
            **_left_out(folder),
        )
    except Exception as error:
        raise ModelError(_folder_reason(source, error)) from error


def _left_out(folder: Path) -> dict[str, None]:
    """Components that the checkpoint was saved without, such as Stable Diffusion 3's T5.

    diffusers wants to be told of those that a pipeline class does not call optional.
    """
    index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    return {name: None for name, value in index.items() if value == [None, None]}


def _folder_reason(source: ModelSource, error: Exception) -> str:
    subject = f"model {source.model!r}"
    if source.variant is not None and "variant" in str(error):
        return (
            f"{subject} has no files of the variant {source.variant!r}: leave variant out, "
            "or name one that it has"
        )
    if "trust_remote_code" in str(error):
        return f"{subject} needs code of its own, which workers don't run: name another model"
    return f"{subject} can't be loaded: {first_line(error)}; mend or replace its files"


def _denoiser(pipeline: Any) -> Any:
    return getattr(pipeline, "unet", None) or getattr(pipeline, "transformer", None)


def _native_size(source: ModelSource, pipeline: Any) -> tuple[int, int]:
    """Height and width in pixels when a call names none."""
    config = getattr(_denoiser(pipeline), "config", None)
    sample = getattr(pipeline, "default_sample_size", None) or getattr(config, "sample_size", None)
    if sample is None:
        raise ModelError(f"model {source.model!r} does not say its image size: it can't be served")
    scale = getattr(pipeline, "vae_scale_factor", 1)
    height, width = (sample, sample) if isinstance(sample, int) else sample
    return height * scale, width * scale


def embeds_guidance(pipeline: Any) -> bool:
    """LCM feeds the guidance scale to its UNet, Flux to its transformer."""
    config = getattr(_denoiser(pipeline), "config", None)
    return bool(
        getattr(config, "time_cond_proj_dim", None) or getattr(config, "guidance_embeds", False)
    )
