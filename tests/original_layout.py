"""A Stable Diffusion checkpoint in one file, with the names that its first authors gave tensors.

The names are those of https://github.com/CompVis/stable-diffusion, whose layout most checkpoints
in a single file have; diffusers reads it and has no writer.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
ENDS = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}


def save_original(pipeline: Any, file: Path) -> None:
    """Write a pipeline's UNet, VAE and text encoder into one file."""
    from safetensors.torch import save_file

    unet, vae, encoder = pipeline.unet, pipeline.vae, pipeline.text_encoder
    tensors = {
        f"model.diffusion_model.{_unet_name(unet, name)}": tensor
        for name, tensor in unet.state_dict().items()
    }
    blocks = len(vae.config.block_out_channels)
    for name, tensor in vae.state_dict().items():
        original = _vae_name(name, blocks)
        square = ".attn_1." in original and original.endswith("weight") and tensor.ndim == 2
        tensors[f"first_stage_model.{original}"] = tensor[:, :, None, None] if square else tensor
    for name, tensor in encoder.state_dict().items():
        plain = name.removeprefix("text_model.")
        tensors[f"cond_stage_model.transformer.text_model.{plain}"] = tensor
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, file)


def _unet_name(unet: Any, name: str) -> str:
    for ours, theirs in ENDS.items():
        if name.startswith(f"{ours}."):
            return name.replace(ours, theirs, 1)
    layers = unet.config.layers_per_block
    found = re.fullmatch(r"(down|up)_blocks\.(\d+)\.(\w+)\.(\d+)\.(.*)", name)
    if found:
        way, block, what, number, rest = found[1], int(found[2]), found[3], int(found[4]), found[5]
        if what == "downsamplers":
            return f"input_blocks.{(layers + 1) * (block + 1)}.0.{rest.replace('conv', 'op')}"
        if what == "upsamplers":
            place = 2 if "CrossAttn" in unet.config.up_block_types[block] else 1
            return f"output_blocks.{(layers + 1) * block + layers}.{place}.{rest}"
        first = (layers + 1) * block + number + (way == "down")
        side = "input_blocks" if way == "down" else "output_blocks"
        part = f"{side}.{first}.{0 if what == 'resnets' else 1}"
        return f"{part}.{_renamed(rest, RESNET) if what == 'resnets' else rest}"
    middle = re.fullmatch(r"mid_block\.(\w+)\.(\d+)\.(.*)", name)
    assert middle, name
    if middle[1] == "attentions":
        return f"middle_block.1.{middle[3]}"
    return f"middle_block.{2 * int(middle[2])}.{_renamed(middle[3], RESNET)}"


def _vae_name(name: str, blocks: int) -> str:
    name = name.replace("conv_shortcut", "nin_shortcut").replace("conv_norm_out", "norm_out")
    name = re.sub(r"down_blocks\.(\d+)\.resnets\.", r"down.\1.block.", name)
    name = re.sub(r"down_blocks\.(\d+)\.downsamplers\.0\.", r"down.\1.downsample.", name)
    name = re.sub(
        r"up_blocks\.(\d+)\.resnets\.", lambda m: f"up.{blocks - 1 - int(m[1])}.block.", name
    )
    name = re.sub(
        r"up_blocks\.(\d+)\.upsamplers\.0\.",
        lambda m: f"up.{blocks - 1 - int(m[1])}.upsample.",
        name,
    )
    name = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", name)
    head, mark, rest = name.partition("mid_block.attentions.0.")
    return f"{head}mid.attn_1.{_renamed(rest, ATTENTION)}" if mark else name


def _renamed(rest: str, names: dict[str, str]) -> str:
    for ours, theirs in names.items():
        if rest.startswith(f"{ours}."):
            return rest.replace(ours, theirs, 1)
    return rest
