"""A tiny Stable Diffusion checkpoint with random weights, on which the tests run the engine.

Its pictures mean nothing, but prompt, negative prompt, seed, guidance and scheduler all change
them, so every path of a real checkpoint is exercised, quicker than on the demo model.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from worker.demo.byte_pairs import clip_tokenizer
from worker.demo.parts import assemble, clip_text_model, scheduler, write

SEED = 8
"""Of every weight; of the first dozen, the one whose pictures were the most colourful."""

WORDS = """
a an the and of on in with at by to from over under behind between above below one two three
four five small large big little tall wide thin thick bright dark light pale deep soft hard
round flat red orange yellow green blue purple violet pink brown black white grey gray cyan
magenta gold silver circle square triangle star ring cross heart diamond hexagon line dot stripe
spiral wave cloud shape colour color background pattern texture drawing painting photo
photograph sketch picture image portrait landscape house tree river mountain lake sea sky sun
moon night day morning evening winter summer spring autumn forest garden flower grass stone sand
snow rain fire water glass metal wood paper cat dog horse bird fish fox bear wolf astronaut
robot castle city street bridge boat ship train car woman man child king queen old young
detailed quality beautiful colorful high low style blurry noise oil watercolor digital art
cinematic soft focus sharp realistic abstract minimal warm cold
"""
"""What the byte pairs are counted on."""


def save_random_model(folder: Path) -> Path:
    """Write the checkpoint, in float32, as the folder ``folder``."""
    write(random_pipeline(), folder)
    return folder


def random_pipeline() -> Any:
    """A ``StableDiffusionPipeline`` in memory, float32: the same one at every call."""
    import torch

    diffusers: Any = import_module("diffusers")
    tokenizer = clip_tokenizer(WORDS.split())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        text_encoder = clip_text_model(tokenizer, width=48, mlp=96, layers=2, heads=3)
        unet = diffusers.UNet2DConditionModel(
            sample_size=8,
            block_out_channels=(24, 48),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            layers_per_block=1,
            cross_attention_dim=48,
            attention_head_dim=3,
            norm_num_groups=8,
        )
        vae = diffusers.AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            block_out_channels=(8, 8, 16, 24),
            norm_num_groups=4,
            sample_size=64,
            mid_block_add_attention=False,
        )
        _strengthen(text_encoder, unet, vae)
    return assemble(
        tokens=tokenizer,
        text=text_encoder,
        denoiser=unet,
        vae=vae,
        sampler=diffusers.PNDMScheduler.from_config(scheduler().config, skip_prk_steps=True),
    )


def _strengthen(text_encoder: Any, unet: Any, vae: Any) -> None:
    """Scale random weights to taste: as drawn, they give grey noise that hardly heeds its prompt.

    The factors were found by looking at contact sheets over prompts, seeds and guidance. A louder
    UNet would also magnify float rounding, which hides mistakes of the engine.
    """
    import torch

    text_encoder.get_input_embeddings().weight.data.mul_(10)
    for name, parameter in unet.named_parameters():
        if name.endswith(("attn2.to_q.weight", "attn2.to_k.weight")):
            parameter.data.mul_(2)
        if name.endswith(("attn2.to_v.weight", "attn2.to_out.0.weight")):
            parameter.data.mul_(6)
    unet.conv_out.weight.data.mul_(0.5)
    # Every 3x3 kernel of the decoder becomes a blur: blobs of colour instead of a weave.
    blur = torch.tensor([[1.0, 2.0, 1.0], [2.0, 4.0, 2.0], [1.0, 2.0, 1.0]]) / 4
    for module in vae.decoder.modules():
        if isinstance(module, torch.nn.Conv2d) and module.kernel_size == (3, 3):
            weight = module.weight.data
            weight.copy_(3 * weight.mean((2, 3), keepdim=True) * blur)
    vae.decoder.conv_out.weight.data.mul_(1.4)
