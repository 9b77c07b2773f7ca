"""The demo model's parts, untrained: tokenizer, text encoder, UNet, autoencoder, scheduler."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from importlib import import_module
from pathlib import Path
from typing import Any

from worker.demo.scenes import COLOURS, SHAPES

PROMPT_TOKENS = 77
"""What a CLIP text encoder reads, marks included; longer prompts are cut."""

MERGES = 296
"""Byte-pair merges; with 2 x 256 bytes and 2 marks that makes 810 tokens."""

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
    """A CLIP tokenizer of 810 byte-level tokens: any Unicode text has some encoding."""
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import CLIPTokenizer

    alphabet = sorted(ByteLevel.alphabet())
    # The captions' own words count ten times: each becomes one token.
    merges = _merges([*COLOURS, *SHAPES, *OWN_WORDS] * 10 + OTHER_WORDS.split())
    tokens = [
        *alphabet,
        *(letter + "</w>" for letter in alphabet),
        *(left + right for left, right in merges),
        "<|startoftext|>",
        "<|endoftext|>",
    ]
    return CLIPTokenizer(
        vocab={token: number for number, token in enumerate(tokens)},
        merges=merges,  # type: ignore[arg-type]  # pairs are right, its annotation is not
        model_max_length=PROMPT_TOKENS,
    )


def text_encoder(tokens: Any) -> Any:
    """A CLIP text model for the tokenizer ``tokens``."""
    from transformers import CLIPTextConfig, CLIPTextModel

    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokens),
            hidden_size=TEXT_WIDTH,
            intermediate_size=2 * TEXT_WIDTH,
            projection_dim=TEXT_WIDTH,
            num_hidden_layers=2,
            num_attention_heads=3,
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
        mid_block_add_attention=False,
    )


def scheduler() -> Any:
    """The checkpoint's own scheduler, from which all others are made."""
    return _diffusers().PNDMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        prediction_type="v_prediction",
        set_alpha_to_one=False,
        skip_prk_steps=True,
        steps_offset=1,
        timestep_spacing="leading",
    )


def save(folder: Path, *, tokens: Any, text: Any, denoiser: Any, vae: Any) -> None:
    """Write a checkpoint in the diffusers layout, weights in float16."""
    import torch

    pipeline = _diffusers().StableDiffusionPipeline(
        vae=vae,
        text_encoder=text,
        tokenizer=tokens,
        unet=denoiser,
        scheduler=scheduler(),
        safety_checker=None,
        feature_extractor=None,
        image_encoder=None,
        requires_safety_checker=False,
    )
    write(pipeline.to(torch.float16), folder)


def write(pipeline: Any, folder: Path) -> None:
    """Save a pipeline as a folder of safetensors and configurations."""
    pipeline.save_pretrained(folder, safe_serialization=True)
    # As Stable Diffusion's own scheduler files have it: PNDM does not know the field, the
    # DDIM and DDPM made from this configuration would clip latents to [-1, 1] without it.
    config = folder / "scheduler" / "scheduler_config.json"
    fields = json.loads(config.read_text()) | {"clip_sample": False}
    config.write_text(json.dumps(fields, indent=2, sort_keys=True) + "\n")


def _diffusers() -> Any:
    return import_module("diffusers")


def _merges(words: list[str]) -> list[tuple[str, str]]:
    """Byte-pair merges of lower-case ASCII words, most frequent first, ties by the letters.

    Source: Sennrich et al. 2016, https://arxiv.org/abs/1508.07909, algorithm 1.
    """
    spelled = [[*word[:-1], word[-1] + "</w>"] for word in words]
    merges: list[tuple[str, str]] = []
    while len(merges) < MERGES:
        pairs = Counter(pair for letters in spelled for pair in itertools.pairwise(letters))
        left, right = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append((left, right))
        for letters in spelled:
            place = 0
            while place < len(letters) - 1:
                if letters[place] == left and letters[place + 1] == right:
                    letters[place : place + 2] = [left + right]
                place += 1
    return merges
