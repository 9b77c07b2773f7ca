"""VAEs and LoRAs with random weights for the tiny checkpoints of the tests."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch

UNET_LAYERS = ["to_q", "to_k", "to_v", "to_out.0"]
ENCODER_LAYERS = ["q_proj", "k_proj", "v_proj", "out_proj"]


def save_vae(pipeline: Any, folder: Path, *, latent_channels: int | None = None) -> Path:
    """The checkpoint's VAE with every weight shaken, or one with other latents."""
    import diffusers

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        config = dict(pipeline.vae.config)
        if latent_channels is None:
            vae = copy.deepcopy(pipeline.vae)
            with torch.no_grad():
                for weight in vae.parameters():
                    weight += 0.05 * torch.randn_like(weight)
        else:
            config["latent_channels"] = latent_channels
            vae = diffusers.AutoencoderKL.from_config(config)
    vae.save_pretrained(folder, safe_serialization=True)
    return folder


def save_lora(pipeline: Any, folder: Path, *, seed: int = 0, encoder: bool = False) -> Path:
    """A LoRA of rank 2 for the pipeline's UNet, and its text encoder if asked for.

    Returns:
        The file.
    """
    from diffusers.utils import convert_state_dict_to_diffusers
    from peft import LoraConfig, get_peft_model_state_dict, inject_adapter_in_model

    def layers(module: Any, targets: list[str]) -> dict[str, Any]:
        config = LoraConfig(r=2, lora_alpha=2, target_modules=targets, init_lora_weights="gaussian")
        injected = inject_adapter_in_model(config, copy.deepcopy(module), adapter_name="default")
        with torch.no_grad():
            for name, weight in injected.named_parameters():
                if "lora_" in name:
                    weight.copy_(0.1 * torch.randn_like(weight))
        state: dict[str, Any] = get_peft_model_state_dict(injected, adapter_name="default")
        return state

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        more = {}
        if encoder:
            more["text_encoder_lora_layers"] = convert_state_dict_to_diffusers(
                layers(pipeline.text_encoder, ENCODER_LAYERS)
            )
        pipeline.save_lora_weights(
            folder,
            unet_lora_layers=convert_state_dict_to_diffusers(layers(pipeline.unet, UNET_LAYERS)),
            safe_serialization=True,
            **more,
        )
    return folder / "pytorch_lora_weights.safetensors"
