"""Other kinds of pipeline than Stable Diffusion's, with random weights, small enough to run."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from tests.random_model import random_pipeline


def save_sdxl(folder: Path) -> None:
    """Stable Diffusion XL: two text encoders, pooled embeddings, zeros for no negative prompt."""
    import torch
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    diffusers: Any = import_module("diffusers")
    demo = random_pipeline()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = CLIPTextConfig(
            **demo.text_encoder.config.to_dict()
            | {
                "hidden_act": "gelu",
                "projection_dim": 32,
                "hidden_size": 32,
                "num_attention_heads": 2,
            }
        )
        unet = diffusers.UNet2DConditionModel(
            sample_size=8,
            block_out_channels=(24, 48),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            layers_per_block=1,
            cross_attention_dim=64,
            attention_head_dim=3,
            norm_num_groups=8,
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=32 + 6 * 8,
        )
        pipeline = diffusers.StableDiffusionXLPipeline(
            vae=demo.vae,
            text_encoder=CLIPTextModel(config),
            text_encoder_2=CLIPTextModelWithProjection(config),
            tokenizer=demo.tokenizer,
            tokenizer_2=demo.tokenizer,
            unet=unet,
            scheduler=diffusers.EulerDiscreteScheduler.from_config(demo.scheduler.config),
            force_zeros_for_empty_prompt=True,
        )
    pipeline.save_pretrained(folder, safe_serialization=True)


def save_sd3(folder: Path) -> None:
    """Stable Diffusion 3: a transformer and flow matching, here without its third encoder."""
    import torch
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    diffusers: Any = import_module("diffusers")
    demo = random_pipeline()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = CLIPTextConfig(
            **demo.text_encoder.config.to_dict()
            | {"projection_dim": 32, "hidden_size": 32, "num_attention_heads": 2}
        )
        transformer = diffusers.SD3Transformer2DModel(
            sample_size=8,
            patch_size=1,
            in_channels=4,
            num_layers=1,
            attention_head_dim=8,
            num_attention_heads=4,
            caption_projection_dim=32,
            joint_attention_dim=64,
            pooled_projection_dim=64,
            out_channels=4,
        )
        vae = diffusers.AutoencoderKL(**demo.vae.config | {"shift_factor": 0.06})
        vae.load_state_dict(demo.vae.state_dict())
        pipeline = diffusers.StableDiffusion3Pipeline(
            transformer=transformer,
            scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
            vae=vae,
            text_encoder=CLIPTextModelWithProjection(config),
            tokenizer=demo.tokenizer,
            text_encoder_2=CLIPTextModelWithProjection(config),
            tokenizer_2=demo.tokenizer,
            text_encoder_3=None,
            tokenizer_3=None,
        )
    pipeline.save_pretrained(folder, safe_serialization=True)


def save_lcm(folder: Path) -> None:
    """A latent consistency model: its UNet is told the guidance scale."""
    import torch

    diffusers: Any = import_module("diffusers")
    demo = random_pipeline()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        unet = diffusers.UNet2DConditionModel(**demo.unet.config | {"time_cond_proj_dim": 16})
    pipeline = diffusers.LatentConsistencyModelPipeline(
        vae=demo.vae,
        text_encoder=demo.text_encoder,
        tokenizer=demo.tokenizer,
        unet=unet,
        scheduler=diffusers.LCMScheduler.from_config(demo.scheduler.config),
        safety_checker=None,
        feature_extractor=None,
        image_encoder=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder, safe_serialization=True)
