"""A tiny Stable Diffusion checkpoint with random weights, made here and saved like any other.

It needs no network and no GPU. Its pictures mean nothing, but prompt, negative prompt, seed,
guidance and scheduler all change them, so every path of a real checkpoint is exercised.

    python -m worker.demo_model FOLDER
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any

from shared.errors import ModelError
from worker.byte_pairs import PROMPT_TOKENS, clip_tokenizer
from worker.quiet import quieten

DEMO_SEED = 8
"""Seed of every weight; of the first dozen, the one whose pictures were the most colourful."""

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
"""What the byte pairs are counted on: the words a newcomer types first."""


def build_demo_model(path: str | Path) -> Path:
    """Save the demo checkpoint as the folder ``path``, all or nothing.

    Returns ``path`` at once if it holds a model already.

    Raises:
        ModelError: Something else is in the way, or the folder can't be written.
    """
    target = Path(path)
    if (target / "model_index.json").is_file():
        return target
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ModelError(
            f"{str(path)!r} exists and is not a model: name a new folder for the demo model"
        )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        building = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    except OSError as error:
        raise ModelError(
            f"the demo model can't be saved as {str(path)!r}: {error.strerror}; "
            "name a folder that can be written"
        ) from error
    try:
        quieten()
        _save(demo_pipeline(), building)
        building.chmod(0o755)
        try:
            os.replace(building, target)
        except OSError:
            # Another process finished the same folder first: theirs is as good as ours.
            if not (target / "model_index.json").is_file():
                raise
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return target


def demo_pipeline() -> Any:
    """The demo ``StableDiffusionPipeline`` in memory, float32, before it was ever saved."""
    import torch
    from transformers import CLIPTextConfig, CLIPTextModel

    diffusers: Any = import_module("diffusers")
    tokenizer = clip_tokenizer(WORDS.split())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(DEMO_SEED)
        text_encoder = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(tokenizer),
                hidden_size=48,
                intermediate_size=96,
                projection_dim=48,
                num_hidden_layers=2,
                num_attention_heads=3,
                max_position_embeddings=PROMPT_TOKENS,
                bos_token_id=tokenizer.bos_token_id,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            )
        )
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
    return diffusers.StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=diffusers.PNDMScheduler(
            beta_schedule="scaled_linear",
            beta_start=0.00085,
            beta_end=0.012,
            prediction_type="v_prediction",
            set_alpha_to_one=False,
            skip_prk_steps=True,
            steps_offset=1,
            timestep_spacing="leading",
        ),
        safety_checker=None,
        feature_extractor=None,
        image_encoder=None,
        requires_safety_checker=False,
    )


def _strengthen(text_encoder: Any, unet: Any, vae: Any) -> None:
    """Scale random weights to taste: as drawn, they give grey noise that hardly heeds its prompt.

    The factors were found by looking at contact sheets over prompts, seeds and guidance. A louder
    UNet would also magnify float rounding: a random one, unlike a trained one, never damps it.
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


def _save(pipeline: Any, folder: Path) -> None:
    pipeline.save_pretrained(folder, safe_serialization=True)
    # As Stable Diffusion's own scheduler files have it: PNDM does not know the field, the
    # DDIM and DDPM made from this configuration would clip latents to [-1, 1] without it.
    config = folder / "scheduler" / "scheduler_config.json"
    fields = json.loads(config.read_text()) | {"clip_sample": False}
    config.write_text(json.dumps(fields, indent=2, sort_keys=True) + "\n")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m worker.demo_model FOLDER")
    try:
        print(build_demo_model(sys.argv[1]))
    except ModelError as error:
        sys.exit(str(error))
