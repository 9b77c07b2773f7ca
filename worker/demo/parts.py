"""The demo model's parts, untrained: tokenizer, text encoder, UNet, autoencoder, scheduler."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Any

from worker.demo.byte_pairs import PROMPT_TOKENS, clip_tokenizer
from worker.demo.scenes import COLOURS, SHAPES

TEXT_WIDTH = 96
"""Numbers for each token that the UNet attends to."""

OWN_WORDS = ["a", "an", "on", "of", "picture", "background", "shape", "small", "large"]
"""Words of the captions beside colours and shapes."""

OTHER_WORDS = """
the and in with at by to from over under between above below one two three big little bright
dark light pink brown grey gray cyan diamond line dot stripe spiral wave cloud colour color
pattern texture drawing painting photo photograph sketch image portrait landscape house tree
river mountain lake sea sky sun moon night day winter summer forest garden flower stone snow rain
fire water glass metal wood paper cat dog horse bird fish fox bear robot castle city street ship
train car woman man child king queen detailed quality beautiful high low style blurry noise oil
watercolor digital art soft focus sharp realistic abstract minimal warm cold
"""
"""Words that a newcomer types: not drawn, but their byte pairs are counted as well."""


def tokenizer() -> Any:
    """A CLIP tokenizer whose byte pairs are counted on the captions' words and some others."""
    return clip_tokenizer([*COLOURS, *SHAPES, *OWN_WORDS] * 10 + OTHER_WORDS.split())


def text_encoder(tokens: Any) -> Any:
    """A CLIP text model for the tokenizer ``tokens``."""
    return clip_text_model(tokens, width=TEXT_WIDTH, mlp=2 * TEXT_WIDTH, layers=2, heads=3)


def clip_text_model(
    tokens: Any, *, width: int, mlp: int, layers: int, heads: int, vocabulary: int | None = None
) -> Any:
    """A CLIP text model with random weights.

    Args:
        tokens: Its tokenizer.
        width: Numbers for each token.
        mlp: Numbers between the two linear layers of a block.
        layers: Blocks.
        heads: Of each block's attention.
        vocabulary: Tokens that it has a vector for; None is as many as the tokenizer has.
    """
    from transformers import CLIPTextConfig, CLIPTextModel

    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=vocabulary or len(tokens),
            hidden_size=width,
            intermediate_size=mlp,
            projection_dim=width,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            max_position_embeddings=PROMPT_TOKENS,
            bos_token_id=tokens.bos_token_id,
            eos_token_id=tokens.eos_token_id,
            pad_token_id=tokens.pad_token_id,
        )
    )


def unet() -> Any:
    """The denoiser of latents of (4, 8, 8)."""
    return _diffusers().UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(64, 96),
        down_block_types=("CrossAttnDownBlock2D",) * 2,
        up_block_types=("CrossAttnUpBlock2D",) * 2,
        layers_per_block=1,
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=(2, 3),
        norm_num_groups=16,
    )


def autoencoder() -> Any:
    """Pictures of (3, 64, 64) to latents of (4, 8, 8) and back."""
    return _diffusers().AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(16, 16, 32, 64),
        layers_per_block=1,
        norm_num_groups=2,
        sample_size=64,
        scaling_factor=1.0,
    )


def scheduler() -> Any:
    """The checkpoint's own scheduler, from whose configuration all others are made.

    DDIM, for it draws well in any number of steps.
    """
    return _diffusers().DDIMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        clip_sample=False,
        prediction_type="v_prediction",
        set_alpha_to_one=False,
        steps_offset=1,
        timestep_spacing="leading",
    )


def assemble(*, tokens: Any, text: Any, denoiser: Any, vae: Any, sampler: Any) -> Any:
    """The pipeline of these parts."""
    return _diffusers().StableDiffusionPipeline(
        vae=vae,
        text_encoder=text,
        tokenizer=tokens,
        unet=denoiser,
        scheduler=sampler,
        safety_checker=None,
        feature_extractor=None,
        image_encoder=None,
        requires_safety_checker=False,
    )


def write(pipeline: Any, folder: Path) -> None:
    """Save a pipeline in the diffusers layout: safetensors and configurations."""
    pipeline.save_pretrained(folder, safe_serialization=True)
    for weights in folder.rglob("*.safetensors"):
        weights.chmod(0o644)
    # As Stable Diffusion's own scheduler files have it: a scheduler does not save what it does not
    # know, but DDIM and PNDM made from its file would clip latents, or take other first steps.
    config = folder / "scheduler" / "scheduler_config.json"
    fields = json.loads(config.read_text()) | {"clip_sample": False, "skip_prk_steps": True}
    config.write_text(json.dumps(fields, indent=2, sort_keys=True) + "\n")


def _diffusers() -> Any:
    return import_module("diffusers")
