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


def save_sd3(folder: Path, *, channels: int = 4) -> None:
    """Stable Diffusion 3: a transformer and flow matching, here without its third encoder.

    Args:
        channels: Of its latents. diffusers inpaints only with those that have the real one's 16.
    """
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
            in_channels=channels,
            num_layers=1,
            attention_head_dim=8,
            num_attention_heads=4,
            caption_projection_dim=32,
            joint_attention_dim=64,
            pooled_projection_dim=64,
            out_channels=channels,
        )
        vae = diffusers.AutoencoderKL(
            **demo.vae.config | {"shift_factor": 0.06, "latent_channels": channels}
        )
        if channels == demo.vae.config.latent_channels:
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


def save_lcm(folder: Path, **config: Any) -> None:
    """A latent consistency model: its UNet is told the guidance scale.

    Args:
        config: Of the UNet, where other than the random checkpoint's.
    """
    import torch

    diffusers: Any = import_module("diffusers")
    demo = random_pipeline()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        changed = {"time_cond_proj_dim": 16} | config
        unet = diffusers.UNet2DConditionModel(**demo.unet.config | changed)
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


def save_flux(folder: Path) -> None:
    """Flux, as its distilled models are: packed latents, a T5, the scale an input of the model."""
    import torch
    from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

    diffusers: Any = import_module("diffusers")
    demo = random_pipeline()
    vocabulary = len(demo.tokenizer)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = CLIPTextConfig(
            **demo.text_encoder.config.to_dict()
            | {"hidden_size": 32, "num_attention_heads": 2, "projection_dim": 32}
        )
        t5 = T5Config(vocab_size=vocabulary, d_model=32, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
        transformer = diffusers.FluxTransformer2DModel(
            patch_size=1,
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=32,
            pooled_projection_dim=32,
            axes_dims_rope=(4, 4, 8),
            guidance_embeds=True,
        )
        vae = diffusers.AutoencoderKL(**demo.vae.config | {"shift_factor": 0.06})
        vae.load_state_dict(demo.vae.state_dict())
        pipeline = diffusers.FluxPipeline(
            transformer=transformer,
            scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
            vae=vae,
            text_encoder=CLIPTextModel(config),
            tokenizer=demo.tokenizer,
            text_encoder_2=T5EncoderModel(t5),
            tokenizer_2=demo.tokenizer,
        )
    pipeline.save_pretrained(folder, safe_serialization=True)


def save_ddpm(folder: Path) -> None:
    """An unconditional model in pixel space, as the quicktour's cats."""
    import torch

    diffusers: Any = import_module("diffusers")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        unet = diffusers.UNet2DModel(
            sample_size=32,
            in_channels=3,
            out_channels=3,
            layers_per_block=1,
            block_out_channels=(16, 32),
            down_block_types=("DownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "UpBlock2D"),
            norm_num_groups=8,
        )
    pipeline = diffusers.DDPMPipeline(unet=unet, scheduler=diffusers.DDPMScheduler())
    pipeline.save_pretrained(folder, safe_serialization=True)


def save_inpainting(folder: Path) -> None:
    """A UNet that sees the mask and what it leaves of the image: nine channels in."""
    import torch

    diffusers: Any = import_module("diffusers")
    demo = random_pipeline()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        unet = diffusers.UNet2DConditionModel(**demo.unet.config | {"in_channels": 9})
    pipeline = diffusers.StableDiffusionInpaintPipeline(
        **demo.components | {"unet": unet, "safety_checker": None, "feature_extractor": None},
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder, safe_serialization=True)


def save_depth(folder: Path) -> None:
    """A UNet that sees how deep the init image is, and the network that estimates that."""
    import torch
    from transformers import DPTConfig, DPTForDepthEstimation, DPTImageProcessor

    diffusers: Any = import_module("diffusers")
    demo = random_pipeline()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        unet = diffusers.UNet2DConditionModel(**demo.unet.config | {"in_channels": 5})
        config = DPTConfig(
            hidden_size=16,
            num_hidden_layers=4,
            num_attention_heads=2,
            intermediate_size=16,
            image_size=32,
            patch_size=16,
            backbone_out_indices=[0, 1, 2, 3],
            neck_hidden_sizes=[8, 8, 8, 8],
            fusion_hidden_size=8,
            is_hybrid=False,
        )
        depth = DPTForDepthEstimation(config)
    pipeline = diffusers.StableDiffusionDepth2ImgPipeline(
        vae=demo.vae,
        text_encoder=demo.text_encoder,
        tokenizer=demo.tokenizer,
        unet=unet,
        scheduler=demo.scheduler,
        depth_estimator=depth,
        feature_extractor=DPTImageProcessor(size={"height": 32, "width": 32}),
    )
    pipeline.save_pretrained(folder, safe_serialization=True)
