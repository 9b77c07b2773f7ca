"""A VAE and LoRAs from elsewhere, found, checked, and put into a loaded pipeline."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, TypedDict

import torch

from shared.errors import ModelError
from shared.structured import lora_weights
from shared.worker_options import split_model
from worker.fingerprint import file_fingerprint, fingerprint
from worker.locating import HUB_ID, ModelSource, first_line, hub_reason, looks_like_a_path
from worker.sharing import SharedBase, adapter_name, deactivate

LORA_FILE = "pytorch_lora_weights.safetensors"
"""What diffusers calls a LoRA's file."""
VAE_FILES = ("config.json", "*.safetensors", "vae/config.json", "vae/*.safetensors")

Adapters = Mapping[str, str]
"""A LoRA's name to what PEFT calls it in the pipeline."""

logger = logging.getLogger(__name__)


class PartPrints(TypedDict, total=False):
    """Fingerprints of what is put in."""

    vae: str
    loras: list[str]


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Where the weights are that a checkpoint did not come with.

    Attributes:
        vae: Name and folder; None is the checkpoint's own.
        vae_from_hub: Whether the folder is in a snapshot of the hub's.
        loras: Name to file, by rising name.
    """

    vae: tuple[str, Path] | None = None
    vae_from_hub: bool = False
    loras: Mapping[str, Path]

    def fingerprints(self) -> PartPrints:
        """Of what there is; LoRAs in the order of their names."""
        found: PartPrints = {}
        if self.vae is not None:
            found["vae"] = fingerprint(self.vae[1], from_hub=self.vae_from_hub)
        if self.loras:
            found["loras"] = [file_fingerprint(path) for path in self.loras.values()]
        return found


def locate_parts(source: ModelSource) -> Parts:
    """The VAE's folder and the LoRAs' files on this machine, fetched if need be.

    Raises:
        ModelError: One of them is not there, or may not be loaded.
    """
    loras = {name: _lora_file(name) for name in sorted(source.loras)}
    if source.vae is None:
        return Parts(loras=loras)
    folder, from_hub = _folder("vae", source.vae, VAE_FILES)
    if (folder / "vae" / "config.json").is_file():  # a whole checkpoint's
        folder, from_hub = folder / "vae", False
    if not (folder / "config.json").is_file():
        raise ModelError(
            f"vae {source.vae!r} has no config.json: name a folder or a repository that diffusers' "
            "AutoencoderKL.save_pretrained made"
        )
    return Parts(vae=(source.vae, folder), vae_from_hub=from_hub, loras=loras)


def put_in(
    pipeline: Any,
    parts: Parts,
    dtype: torch.dtype,
    base: SharedBase,
    fingerprints: Sequence[str],
) -> tuple[Adapters, str | None]:
    """Replace the pipeline's VAE, and load the LoRAs that its base does not have yet.

    Args:
        base: Whose pipeline it is a copy of.
        fingerprints: Of the LoRAs, in their order.

    Returns:
        What PEFT calls the LoRAs; and why the parts don't suit the pipeline, in one sentence, or
        None. Where they don't, none is left in the base.
    """
    adapters: dict[str, str] = {}
    try:
        if parts.vae is not None:
            _replace_vae(pipeline, *parts.vae, dtype)
        for (name, path), content in zip(parts.loras.items(), fingerprints, strict=True):
            twins = sum(content == other for other in fingerprints[: len(adapters)])
            adapter = adapter_name(content, twins)
            base.take(adapter, partial(_load_lora, pipeline, name, path, adapter))
            adapters[name] = adapter
    except ModelError as error:
        base.give_back(adapters.values())
        return {}, str(error)
    return adapters, None


def use_adapters(pipeline: Any, adapters: Adapters, loras: str | None) -> None:
    """Let each LoRA act as strongly as a job wants it.

    Args:
        loras: The job's field.
    """
    if not adapters:
        deactivate(pipeline)
    else:
        wanted = lora_weights(loras)
        strengths = [wanted.get(name, 1.0) for name in adapters]
        pipeline.set_adapters(list(adapters.values()), adapter_weights=strengths)


def _folder(kind: str, name: str, files: tuple[str, ...]) -> tuple[Path, bool]:
    """Where a part is, and whether that is a snapshot of the hub's."""
    path = Path(os.path.expanduser(name))
    if path.exists() or looks_like_a_path(name):
        if not path.is_dir():
            raise ModelError(f"{kind} {name!r} is not a folder: check its path")
        return path, False
    repository, revision = split_model(name)
    if not HUB_ID.fullmatch(repository):
        raise ModelError(f"{kind} {name!r} is neither a path nor a hub id such as 'owner/name'")
    from huggingface_hub import snapshot_download

    try:
        folder = snapshot_download(repository, revision=revision, allow_patterns=list(files))
    except Exception as error:
        raise ModelError(hub_reason(kind, repository, revision, error)) from error
    return Path(folder), True


def _lora_file(name: str) -> Path:
    path = Path(os.path.expanduser(name))
    if path.is_file():
        if path.suffix != ".safetensors":
            raise ModelError(
                f"lora {name!r} is no .safetensors file, and other kinds can run code when "
                "loaded: convert it where you trust it"
            )
        return path
    folder, _ = _folder("lora", name, ("*.safetensors",))
    files = sorted(folder.glob("*.safetensors"))
    usual = [file for file in files if file.name == LORA_FILE]
    if len(usual or files) != 1:
        what = ", ".join(file.name for file in files) or "no .safetensors file"
        raise ModelError(f"lora {name!r} has {what}: name a folder with one, or the file itself")
    return (usual or files)[0]


def _replace_vae(pipeline: Any, name: str, folder: Path, dtype: torch.dtype) -> None:
    diffusers: Any = import_module("diffusers")
    own = getattr(pipeline, "vae", None)
    if own is None:
        raise ModelError(f"vae {name!r}: {type(pipeline).__name__} has none to replace")
    try:
        vae = diffusers.AutoencoderKL.from_pretrained(
            folder, dtype=dtype, use_safetensors=True, local_files_only=True
        )
    except Exception as error:
        raise ModelError(f"vae {name!r} can't be loaded: {first_line(error)}") from error
    channels, wanted = vae.config.latent_channels, own.config.latent_channels
    if channels != wanted:
        raise ModelError(
            f"vae {name!r} has {channels} latent channels, and this model's latents have {wanted}: "
            "use a VAE of the same kind of model"
        )
    if len(vae.config.block_out_channels) != len(own.config.block_out_channels):
        raise ModelError(
            f"vae {name!r} enlarges latents {2 ** (len(vae.config.block_out_channels) - 1)} times, "
            f"this model's {2 ** (len(own.config.block_out_channels) - 1)} times: "
            "use a VAE of the same kind of model"
        )
    pipeline.register_modules(vae=vae)


def _load_lora(pipeline: Any, name: str, path: Path, adapter: str) -> None:
    """Every layer of the file must have found its place: diffusers passes the others over."""
    kind = type(pipeline).__name__
    if not hasattr(pipeline, "load_lora_weights"):
        raise ModelError(f"lora {name!r}: {kind} takes no LoRAs")
    try:
        from safetensors import safe_open

        with safe_open(path, framework="pt") as file:
            layers = sum(1 for key in file.keys() if _is_down(key))  # noqa: SIM118 - no mapping
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about layers left over: told below
            pipeline.load_lora_weights(
                path.parent,
                weight_name=path.name,
                adapter_name=adapter,
                low_cpu_mem_usage=False,  # layers without a place would be left without data
            )
    except Exception as error:
        logger.info("lora not loaded", extra={"lora": name, "error": first_line(error)})
        raise ModelError(
            f"lora {name!r} does not fit {kind} with this model ({first_line(error)}): use a LoRA "
            "that was trained for this kind of model"
        ) from error
    placed = sum(
        1
        for component in pipeline.components.values()
        if isinstance(component, torch.nn.Module)
        for key, _ in component.named_parameters()
        if f".lora_A.{adapter}." in key
    )
    if placed == 0 or placed < layers:
        raise ModelError(
            f"lora {name!r} was trained for another kind of model: {placed} of its {layers} layers "
            f"have a place in this {kind}"
        )


def _is_down(key: str) -> bool:
    """A LoRA's first matrix, as PEFT, diffusers and Kohya call it."""
    return any(mark in key for mark in (".lora_A.", ".lora.down.", ".lora_down.", "_lora.down."))
