"""A checkpoint of Stable Diffusion 1.5's shape with random weights: what it costs is real.

    python -m tests.large_model FOLDER

Its pictures are noise. Time and memory don't depend on the values of weights, so it stands in for
a real checkpoint of that size where none can be downloaded. 2 GB in float16.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from tests.random_model import WORDS
from worker.demo.byte_pairs import clip_tokenizer
from worker.demo.parts import assemble, clip_text_model, scheduler, write

SEED = 8


def save_large_model(folder: Path) -> Path:
    """Write the checkpoint, in float16, as the folder ``folder``."""
    import torch

    diffusers: Any = import_module("diffusers")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    tokenizer = clip_tokenizer(WORDS.split())
    with torch.random.fork_rng(), torch.device(device):
        torch.manual_seed(SEED)
        text_encoder = clip_text_model(
            tokenizer, width=768, mlp=3072, layers=12, heads=12, vocabulary=49408
        )
        unet = diffusers.UNet2DConditionModel(
            sample_size=64,
            block_out_channels=(320, 640, 1280, 1280),
            down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
            up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
            layers_per_block=2,
            cross_attention_dim=768,
            attention_head_dim=8,
        )
        vae = diffusers.AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            block_out_channels=(128, 256, 512, 512),
            layers_per_block=2,
            sample_size=512,
        )
    pipeline = assemble(
        tokens=tokenizer,
        text=text_encoder.half(),
        denoiser=unet.half(),
        vae=vae.half(),
        sampler=diffusers.PNDMScheduler.from_config(scheduler().config, skip_prk_steps=True),
    )
    write(pipeline, folder)
    return folder


if __name__ == "__main__":
    save_large_model(Path(sys.argv[1]))
