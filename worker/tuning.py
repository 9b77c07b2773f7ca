"""How a pipeline is set up for speed and memory: what each of a worker's settings does to it."""

from __future__ import annotations

import importlib.util
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch

from shared.errors import InvalidSettings
from shared.worker_options import WorkerOptions
from worker.attention import set_slicing
from worker.locating import first_line

AUTOCASTS = {"float16": torch.float16, "bfloat16": torch.bfloat16}


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """Settings of one worker, all of its models alike.

    Attributes:
        xformers: xFormers' kernels compute attention.
        vae_slicing: The VAE decodes image by image: the same bits, and memory stays flat.
        vae_tiling: The VAE decodes large images in overlapping tiles, which changes pixels.
        channels_last: Weights of convolutions keep their channels innermost.
        offload: ``model`` keeps one component at a time on the device, ``sequential`` one layer.
        autocast: Format that torch casts to operation by operation, which changes pixels.
    """

    xformers: bool = False
    vae_slicing: bool = True
    vae_tiling: bool = False
    channels_last: bool = False
    offload: str | None = None
    autocast: str | None = None

    @classmethod
    def of(cls, options: WorkerOptions) -> Tuning:
        """What a worker was told on its command line."""
        return cls(
            xformers=options.xformers,
            vae_slicing=options.vae_slicing,
            vae_tiling=options.vae_tiling,
            channels_last=options.channels_last,
            offload=options.offload,
            autocast=options.autocast,
        )

    def check(self, device: torch.device) -> None:
        """Refuse what this machine can't do, before a model is loaded.

        Raises:
            InvalidSettings: It names the option and what would be right.
        """
        if self.offload is not None and device.type == "cpu":
            raise InvalidSettings(
                f"--offload {self.offload} needs a GPU to bring the weights to, and this worker "
                "computes on the CPU: leave it out"
            )
        if self.xformers and importlib.util.find_spec("xformers") is None:
            raise InvalidSettings(
                "--xformers needs the package xformers, which is not installed here: "
                "pip install xformers, or leave it out (torch's own fused attention is used then)"
            )
        if self.xformers and device.type != "cuda":
            raise InvalidSettings(
                f"--xformers needs a CUDA device, and this worker computes on {device.type}: "
                "leave it out"
            )

    def take_back(self, pipeline: Any) -> None:
        """Undo `place` on modules that another pipeline has too: parts go into bare ones."""
        if self.offload == "model":
            pipeline.remove_all_hooks()

    def place(self, pipeline: Any, device: torch.device) -> None:
        """Bring the weights to where they are used from."""
        if self.channels_last:
            for name in ("unet", "transformer", "vae"):
                if isinstance(module := getattr(pipeline, name, None), torch.nn.Module):
                    module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if self.offload == "model":
            pipeline.enable_model_cpu_offload(device=device)
        elif self.offload == "sequential":
            pipeline.enable_sequential_cpu_offload(device=device)
        else:
            pipeline.to(device)

    def apply(self, pipeline: Any, attention_slicing: str | int) -> None:
        """Set up attention and the VAE.

        Raises:
            InvalidSettings: A setting does not suit this pipeline.
        """
        if self.xformers:
            try:
                pipeline.enable_xformers_memory_efficient_attention()
            except Exception as error:
                raise InvalidSettings(
                    f"--xformers does not work with {type(pipeline).__name__} here "
                    f"({first_line(error)}): "
                    "leave it out"
                ) from error
        else:
            set_slicing(pipeline, attention_slicing)
        vae: Any = getattr(pipeline, "vae", None)
        if self.vae_slicing and hasattr(vae, "enable_slicing"):
            vae.enable_slicing()
        if self.vae_tiling:
            if not hasattr(vae, "enable_tiling"):
                raise InvalidSettings(
                    f"--vae-tiling needs a model whose VAE can decode in tiles, which "
                    f"{type(pipeline).__name__} here has not: leave it out"
                )
            vae.enable_tiling()

    def arithmetic(self, device: torch.device) -> AbstractContextManager[Any]:
        """What a batch is rendered under: autocast, or nothing."""
        if self.autocast is None:
            return nullcontext()
        return torch.autocast(device.type, dtype=AUTOCASTS[self.autocast])
